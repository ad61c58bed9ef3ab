//! What stages need against what there is: of the machine, and of their inputs.

use std::path::Path;

use contract::{Cost, Device, Inputs, Needs, Remark};
use serde::Serialize;

use crate::events::figures;
use crate::manifest::{Edge, Manifest, Place, StageDeclaration, StageName};
use crate::store::Store;

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Bytes of memory for all stages together.
    pub memory: u64,
    /// Bytes that are free on the disk of the store, where that is known.
    pub disk: Option<u64>,
    /// Where tensors live: a GPU has memory of its own, which is not looked at.
    pub device: Device,
}

/// A stage that needs more than there is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Misfit {
    /// The stage.
    pub stage: StageName,
    /// Where it is declared.
    pub place: Place,
    /// Of what: "memory", "disk".
    pub what: &'static str,
    /// Bytes that it needs, by estimate.
    pub needs: u64,
    /// Bytes that there are.
    pub has: u64,
}

impl Misfit {
    /// For people.
    pub fn text(&self) -> String {
        let Self { stage, place, what, needs, has } = self;
        let hint = match *what {
            "memory" => "give more with [exec] memory, or lower the stage's batch",
            _ => "free some, or put the store elsewhere with --cache DIR",
        };
        let (needs, has) = (figures::size(*needs), figures::size(*has));
        format!("{place}: stage '{stage}' needs about {needs} of {what}, there are {has}: {hint}")
    }
}

/// The misfits of a stage.
pub fn misfits(stage: &StageDeclaration, machine: &Machine) -> Vec<Misfit> {
    let Needs { memory, gpu, .. } = stage.stage.needs();
    let Cost { memory: known, disk, .. } = stage.cost;
    let misfit = |what, needs: u64, has: u64| {
        (needs > has).then(|| Misfit { stage: stage.name.clone(), place: stage.place.clone(), what, needs, has })
    };
    let on_host = !gpu || matches!(machine.device, Device::Cpu | Device::Auto);
    let memory = on_host.then(|| misfit("memory", known.unwrap_or(memory), machine.memory)).flatten();
    let disk = disk.zip(machine.disk).and_then(|(needs, has)| misfit("disk", needs, has));
    memory.into_iter().chain(disk).collect()
}

/// A remark of a stage on its inputs, with the lines of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remarked {
    /// The stage.
    pub stage: StageName,
    /// Where the setting is written that it is about, else the stage.
    pub place: Place,
    /// Where the stage is declared that gives the input.
    pub input: Option<Place>,
    /// What there is to know.
    pub text: String,
    /// What to do about it, where it is more than worth knowing.
    pub warning: Option<String>,
}

impl Remarked {
    /// For people.
    pub fn full_text(&self) -> String {
        let Self { stage, place, input, text, warning } = self;
        let input = input.as_ref().map(|input| format!(" (given by {input})")).unwrap_or_default();
        let warning = warning.as_ref().map(|warning| format!(": {warning}")).unwrap_or_default();
        format!("{place}: stage '{stage}': {text}{input}{warning}")
    }
}

/// What a stage says of these inputs, by port; one that is not there yet is missing.
pub fn remarks(manifest: &Manifest, stage: &StageDeclaration, inputs: &Inputs) -> Vec<Remarked> {
    if inputs.is_empty() {
        return Vec::new();
    }
    let remarked = |remark: Remark| {
        let edge = stage.inputs.get(remark.port);
        Remarked {
            stage: stage.name.clone(),
            place: stage.setting(&remark.setting).unwrap_or(&stage.place).clone(),
            input: edge.and_then(|edge| Some(manifest.stages.get(&edge.stage)?.place.clone())),
            text: remark.text,
            warning: remark.warning,
        }
    };
    stage.stage.consider(inputs).into_iter().map(remarked).collect()
}

/// The inputs of a stage as the stages above gave them last in runs of this name; what the store does not have any more
/// is missing.
pub fn last_inputs(manifest: &Manifest, stage: &StageDeclaration, store: &Store) -> Inputs {
    let given = |(port, edge): (&String, &Edge)| {
        let last = store.last_build(&manifest.name, edge.stage.as_str()).ok()??;
        Some((port.clone(), *last.outputs.get(&edge.output)?))
    };
    store.readable(&stage.inputs.iter().filter_map(given).collect())
}

/// Bytes that are free on the disk where `path` is, or will be.
pub fn free_disk(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|path| path.exists() && !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let disk = nix::sys::statvfs::statvfs(there).ok()?;
    // The field is 32 bits wide on some systems.
    #[expect(clippy::useless_conversion, reason = "of another width elsewhere")]
    let (blocks, size) = (u64::from(disk.blocks_available()), u64::from(disk.fragment_size()));
    Some(blocks.saturating_mul(size))
}
