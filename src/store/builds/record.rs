//! The record of one build.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use contract::{Device, Digest};
use serde::{Deserialize, Serialize};

use crate::key::KeyRecord;

/// One build of a key: `records/<key>/<number>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The key that was built.
    pub key: Digest,
    /// The stage kind.
    pub kind: String,
    /// The kind's revision.
    pub revision: u32,
    /// The stage's name when it was built; not in the key.
    #[serde(default)]
    pub stage: String,
    /// The run's name when it was built; not in the key.
    #[serde(default)]
    pub run: String,
    /// The number of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// The digest of each output port's tree.
    pub outputs: BTreeMap<String, Digest>,
    /// The content of the key.
    pub key_record: KeyRecord,
    /// The time at which the stage started, or was last resumed, in milliseconds since 1970.
    pub started: u64,
    /// The duration in seconds, including the interrupted attempts that it resumed.
    pub seconds: f64,
    /// Processor time in seconds, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Peak memory of the process while it ran, in bytes, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// Floating-point operations, if the settings determine them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<f64>,
    /// The number of equal updates in which they were made, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updates: Option<u64>,
    /// The size of its inputs and of the files outside the store, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_bytes: Option<u64>,
    /// The last value of each metric, as `loss/train`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// The number of threads.
    pub threads: usize,
    /// The compute device.
    pub device: Device,
    /// The machine it ran on.
    pub machine: Machine,
    /// The version of the program.
    pub program: String,
}

/// A machine, without its host name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The operating system.
    pub os: String,
    /// The instruction set.
    pub arch: String,
    /// The processor's model, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// The number of cores available to the process.
    pub cores: usize,
}

impl Machine {
    /// Describes this machine.
    pub fn this() -> &'static Self {
        // `/proc/cpuinfo` has some kilobytes for each core, and a plan asks for each stale stage.
        static THIS: LazyLock<Machine> = LazyLock::new(|| Machine {
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cpu: cpu(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        });
        &THIS
    }
}

/// Returns the processor (Linux: `/proc/cpuinfo`): its model name, its family, model and stepping, and its vector
/// instructions. The model name alone is not enough: different virtual machines share it.
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

/// Returns the milliseconds from 1970 to `time`; 0 for an earlier time.
pub fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
