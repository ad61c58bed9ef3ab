//! What one build gave.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use contract::{Device, Digest};
use serde::{Deserialize, Serialize};

use crate::key::KeyRecord;

/// One build of a key, kept as `records/<key>/<number>.json` ([`super::checked`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The key that was built.
    pub key: Digest,
    /// The stage kind.
    pub kind: String,
    /// The kind's revision.
    pub revision: u32,
    /// What the manifest called the stage, and the run, when it was built: for people, and not in the key.
    #[serde(default)]
    pub stage: String,
    /// See [`Record::stage`].
    #[serde(default)]
    pub run: String,
    /// Which run of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// The digest of each output port's tree.
    pub outputs: BTreeMap<String, Digest>,
    /// The key written out.
    pub key_record: KeyRecord,
    /// When the stage started, the last time where it was resumed: milliseconds since 1970.
    pub started: u64,
    /// How long it ran, in seconds; of a build that was interrupted and resumed, all runs that are part of it.
    pub seconds: f64,
    /// Processor time that it took, in seconds, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Most memory that the process held while it ran, in bytes, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// Floating-point operations, where the settings tell how many they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<f64>,
    /// Bytes of the inputs and of the files outside the store that it read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_bytes: Option<u64>,
    /// The last value of each series that it gave: `loss/train`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// Threads that it was given.
    pub threads: usize,
    /// Where its tensors lived.
    pub device: Device,
    /// On what it ran.
    pub machine: Machine,
    /// Version of the program.
    pub program: String,
}

/// A machine, without its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Operating system.
    pub os: String,
    /// Instruction set.
    pub arch: String,
    /// The processor's model, where the system says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Cores that the process may use.
    pub cores: usize,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        Self {
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cpu: cpu(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

/// The processor (Linux: `/proc/cpuinfo`): its model's name, which virtual machines of many kinds share, and what else tells
/// how it computes: family, model and stepping, and the vector instructions that there are.
fn cpu() -> Option<String> {
    const VECTORS: [&str; 6] = ["avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_tile"];
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let field = |name: &str| {
        let mut fields = text.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(found, _)| found.trim_end() == name).map(|(_, value)| value.trim())
    };
    let numbers = ["cpu family", "model", "stepping"].map(|name| field(name).unwrap_or("-")).join(".");
    let flags = field("flags").unwrap_or_default();
    let vectors = VECTORS.iter().filter(|vector| flags.split(' ').any(|flag| flag == **vector));
    let vectors = vectors.fold(String::new(), |all, vector| format!("{all} {vector}"));
    Some(format!("{}, {numbers}{vectors}", field("model name")?))
}

/// Milliseconds from 1970 to `time`; 0 for an earlier one.
pub fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
