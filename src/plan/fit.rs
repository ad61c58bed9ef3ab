//! What stages need of the machine against what there is.

use std::path::Path;

use contract::{Cost, Device, Needs};
use serde::Serialize;

use crate::events::figures;
use crate::manifest::{Place, StageDeclaration, StageName};

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

/// Bytes that are free on the disk where `path` is, or will be.
pub fn free_disk(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|path| path.exists() && !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let disk = nix::sys::statvfs::statvfs(there).ok()?;
    // The field is 32 bits wide on some systems.
    #[expect(clippy::useless_conversion, reason = "of another width elsewhere")]
    let (blocks, size) = (u64::from(disk.blocks_available()), u64::from(disk.fragment_size()));
    Some(blocks.saturating_mul(size))
}
