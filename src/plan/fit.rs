//! What stages need against what the machine has.
//!
//! | what | needed | against | a misfit is |
//! |---|---|---|---|
//! | memory | what a stage cannot do without ([`contract::Cost::memory`]) | `[exec] memory`, else the machine's, its cgroup's and its `ulimit`'s | an error |
//! | disk | what one stage computes that it will write ([`contract::Cost::disk`]) | what is free | an error |
//! | disk | what all stages will write, by the sizes of what they read | what is free | a warning |
//!
//! A stage that only would like to have more memory ([`contract::Needs::memory`]) spills, and fits always. A GPU has memory of
//! its own, which is not looked at. What a stage computes is an estimate, so `--allow-oversize` turns errors into warnings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use contract::{Cost, Device, Needs, PortType};
use serde::Serialize;

use super::Decider;
use crate::events::figures;
use crate::manifest::{Edge, Manifest, Place, StageDeclaration, StageName};
use crate::store::{Store, StoreError};

/// The flag that runs stages that do not fit.
pub const ALLOW: &str = "--allow-oversize";

/// Stages that need more than the machine has.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Misfit {
    /// The stage; of the disk, the first one for which it is too small.
    pub stage: StageName,
    /// Where it is declared.
    pub place: Place,
    /// Of what.
    pub what: Resource,
    /// Bytes that it needs, by estimate, together with the stages before it that are counted.
    pub needs: u64,
    /// How many stages before it are.
    pub before: usize,
    /// Bytes that there are.
    pub has: u64,
    /// Where the manifest limits them.
    pub limit: Option<Place>,
    /// Whether the stage cannot run: it computes itself what it needs.
    pub is_error: bool,
}

/// What a machine may have too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// Main memory.
    Memory,
    /// The disk of the store.
    Disk,
}

/// What there is for stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Available {
    /// Bytes of memory, where that is known.
    pub memory: Option<u64>,
    /// Bytes of disk that are free, where that is known.
    pub disk: Option<u64>,
    /// Where stages compute.
    pub device: Device,
}

impl Misfit {
    /// What does not fit.
    pub fn message(&self) -> String {
        let Self { stage, place, what, needs, before, has, limit, .. } = self;
        let who = match before {
            0 => "needs".to_owned(),
            before => format!("and {} before it need", figures::counted(*before as u64, "stage")),
        };
        let (needs, has) = (figures::size(*needs), figures::size(*has));
        let limit = limit.as_ref().map(|limit| format!(" (set at {limit})")).unwrap_or_default();
        let (what, free) = match what {
            Resource::Memory => ("memory", "available"),
            Resource::Disk => ("disk", "free"),
        };
        format!("{place}: stage '{stage}' {who} about {needs} of {what}, but only {has} is {free}{limit}")
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match (self.what, &self.limit) {
            (Resource::Memory, Some(_)) => "lower the stage's batch, or raise [exec] memory",
            (Resource::Memory, None) => "lower the stage's batch, or use a machine with more memory",
            (Resource::Disk, _) => "free some, or put the store elsewhere with --cache DIR",
        }
    }

    /// For people, in a line.
    pub fn text(&self) -> String {
        format!("{}: {}", self.message(), self.hint())
    }
}

/// What a stage takes from the machine, given what it costs: also what it cannot do without.
pub fn needs(stage: &StageDeclaration, cost: &Cost, device: Device) -> Needs {
    let needs = stage.stage.needs();
    let must = cost.memory.filter(|_| !is_on_gpu(&needs, device)).unwrap_or(0);
    Needs { memory: needs.memory.max(must), ..needs }
}

/// The misfits of one stage: it cannot run.
pub fn of_stage(
    manifest: &Manifest,
    stage: &StageDeclaration,
    cost: &Cost,
    available: Available,
) -> impl Iterator<Item = Misfit> {
    let Available { memory, disk, device } = available;
    let must = cost.memory.filter(|_| !is_on_gpu(&stage.stage.needs(), device));
    let limits = [(Resource::Memory, must, memory), (Resource::Disk, cost.disk, disk)];
    limits.into_iter().filter_map(move |(what, needs, has)| {
        let (needs, has) = (needs?, has?);
        let limit = (what == Resource::Memory).then(|| manifest.memory_place.clone()).flatten();
        (needs > has).then(|| Misfit { limit, is_error: true, ..misfit(stage, what, needs, has) })
    })
}

/// A GPU has memory of its own.
fn is_on_gpu(needs: &Needs, device: Device) -> bool {
    needs.gpu && !matches!(device, Device::Cpu | Device::Auto)
}

/// The misfit of what stages will write together with the free disk. `order` holds all stages, each after those that it
/// needs; `costs` those that are stale.
///
/// # Errors
/// When the store cannot be read.
pub fn disk<'n>(
    decider: &Decider<'_>,
    order: impl IntoIterator<Item = &'n StageName>,
    costs: &BTreeMap<&StageName, Cost>,
    free: Option<u64>,
) -> Result<Option<Misfit>, StoreError> {
    let Some(has) = free else { return Ok(None) };
    let mut written: BTreeMap<&StageName, u64> = BTreeMap::new();
    let (mut needs, mut before): (u64, usize) = (0, 0);
    for name in order {
        let (Some(cost), Some(stage)) = (costs.get(name), decider.manifest.stages.get(name)) else { continue };
        let read = read(decider, stage, &written)?;
        let writes = writes(stage, cost, read);
        written.insert(&stage.name, writes);
        needs = needs.saturating_add(writes);
        if needs > has {
            return Ok(Some(Misfit { before, ..misfit(stage, Resource::Disk, needs, has) }));
        }
        before += usize::from(writes > 0);
    }
    Ok(None)
}

/// Bytes that a stage reads, where it is known what the stale ones above it have `written` by then.
fn read(
    decider: &Decider<'_>,
    stage: &StageDeclaration,
    written: &BTreeMap<&StageName, u64>,
) -> Result<u64, StoreError> {
    let (mut read, mut counted) = (decider.source_bytes(stage).unwrap_or_default(), BTreeSet::new());
    for Edge { stage, output, .. } in stage.inputs.values() {
        // How much each output of a stale stage takes is not known yet: it counts once.
        let (bytes, is_new) = match written.get(stage) {
            Some(bytes) => (*bytes, counted.insert((stage, None))),
            None => {
                (last_bytes(decider.manifest, stage, output, decider.store)?, counted.insert((stage, Some(output))))
            }
        };
        read = read.saturating_add(if is_new { bytes } else { 0 });
    }
    Ok(read)
}

/// The misfit of what one stage will write, by the size of what it reads, with the free disk.
pub fn disk_of(stage: &StageDeclaration, cost: &Cost, read: u64, free: Option<u64>) -> Option<Misfit> {
    let (has, needs) = (free?, writes(stage, cost, read));
    (needs > has).then(|| misfit(stage, Resource::Disk, needs, has))
}

fn misfit(stage: &StageDeclaration, what: Resource, needs: u64, has: u64) -> Misfit {
    let (stage, place) = (stage.name.clone(), stage.place.clone());
    Misfit { stage, place, what, needs, before: 0, has, limit: None, is_error: false }
}

/// Bytes that a stage writes, by estimate: what it computes itself, else about what it reads where its outputs are data.
pub(super) fn writes(stage: &StageDeclaration, cost: &Cost, read: u64) -> u64 {
    cost.disk.unwrap_or(if produces_data(stage) { read } else { 0 })
}

/// Whether a stage produces tables or tokens. Models, tokenizers and reports are small beside these, and what a command
/// writes is not known.
pub(super) fn produces_data(stage: &StageDeclaration) -> bool {
    let is_data = |ty: PortType| matches!(ty, PortType::Documents | PortType::Rows | PortType::Tokens);
    stage.ports.outputs.iter().any(|port| is_data(port.ty))
}

/// Bytes of an output that a stage wrote last in runs of this name.
fn last_bytes(manifest: &Manifest, stage: &StageName, output: &str, store: &Store) -> Result<u64, StoreError> {
    let last = store.last_build(&manifest.name, stage.as_str())?;
    let tree = last.and_then(|last| store.listing(*last.outputs.get(output)?).ok());
    Ok(tree.map_or(0, |tree| tree.size()))
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
