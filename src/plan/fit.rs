//! What stages need against what there is of the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use contract::{Device, Needs, PortType};
use serde::Serialize;

use super::Decider;
use crate::events::figures;
use crate::manifest::{Manifest, Place, StageDeclaration, StageName};
use crate::store::{Store, StoreError};

/// Stages that need more than there is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Misfit {
    /// The stage; of the disk, the first one for which it is too small.
    pub stage: StageName,
    /// Where it is declared.
    pub place: Place,
    /// Of what: "memory", "disk".
    pub what: &'static str,
    /// Bytes that it needs, by estimate; of the disk, together with the stages before it.
    pub needs: u64,
    /// Bytes that there are.
    pub has: u64,
    /// Where the manifest says how many there are.
    pub limit: Option<Place>,
}

impl Misfit {
    /// For people.
    pub fn text(&self) -> String {
        let Self { stage, place, what, needs, has, limit } = self;
        let (who, hint) = match *what {
            "memory" => ("needs", "give more with [exec] memory, or lower the stage's batch"),
            _ => ("and those before it need", "free some, or put the store elsewhere with --cache DIR"),
        };
        let (needs, has) = (figures::size(*needs), figures::size(*has));
        let limit = limit.as_ref().map(|limit| format!(" (set at {limit})")).unwrap_or_default();
        format!("{place}: stage '{stage}' {who} about {needs} of {what}, there are {has}{limit}: {hint}")
    }
}

/// The misfit of a stage's memory with that of all stages together. A GPU has memory of its own, which is not looked at.
pub fn memory(manifest: &Manifest, stage: &StageDeclaration, has: u64, device: Device) -> Option<Misfit> {
    let Needs { memory, gpu, .. } = stage.stage.needs();
    if gpu && !matches!(device, Device::Cpu | Device::Auto) {
        return None;
    }
    let needs = stage.cost.memory.unwrap_or(memory);
    let (stage, place, limit) = (stage.name.clone(), stage.place.clone(), manifest.memory_place.clone());
    (needs > has).then_some(Misfit { stage, place, what: "memory", needs, has, limit })
}

/// The misfit of what stages will write together with the free disk. `order` holds all stages, each after those that it needs.
///
/// # Errors
/// When the store cannot be read.
pub fn disk<'n>(
    decider: &Decider<'_>,
    order: impl IntoIterator<Item = &'n StageName>,
    stale: &BTreeSet<StageName>,
    free: Option<u64>,
) -> Result<Option<Misfit>, StoreError> {
    let Some(has) = free else { return Ok(None) };
    let mut written: BTreeMap<&StageName, u64> = BTreeMap::new();
    let mut needs: u64 = 0;
    let stale = order.into_iter().filter(|name| stale.contains(*name));
    for stage in stale.filter_map(|name| decider.manifest.stages.get(name)) {
        for above in stage.inputs.values().map(|edge| &edge.stage) {
            if !written.contains_key(above) {
                written.insert(above, last_bytes(decider.manifest, above, decider.store)?);
            }
        }
        let writes = writes(decider, stage, &written);
        written.insert(&stage.name, writes);
        needs = needs.saturating_add(stage.cost.disk.unwrap_or(writes));
        if needs > has {
            let (stage, place) = (stage.name.clone(), stage.place.clone());
            return Ok(Some(Misfit { stage, place, what: "disk", needs, has, limit: None }));
        }
    }
    Ok(None)
}

/// Bytes that a stage writes, by estimate: one that gives tables or tokens writes about what it reads; models, tokenizers and
/// reports are small beside these, and what a command does nobody knows.
fn writes(decider: &Decider<'_>, stage: &StageDeclaration, written: &BTreeMap<&StageName, u64>) -> u64 {
    let is_data = |ty: PortType| matches!(ty, PortType::Documents | PortType::Rows | PortType::Tokens);
    if !stage.ports.outputs.iter().any(|port| is_data(port.ty)) {
        return 0;
    }
    let above: BTreeSet<_> = stage.inputs.values().map(|edge| &edge.stage).collect();
    let read = above.into_iter().filter_map(|stage| written.get(stage));
    read.fold(decider.source_bytes(stage), |sum, bytes| sum.saturating_add(*bytes))
}

/// Bytes of all that a stage gave last in runs of this name.
fn last_bytes(manifest: &Manifest, stage: &StageName, store: &Store) -> Result<u64, StoreError> {
    let last = store.last_build(&manifest.name, stage.as_str())?;
    let trees = last.map(|last| last.outputs).unwrap_or_default();
    Ok(trees.values().filter_map(|tree| store.listing(*tree).ok()).map(|tree| tree.size()).sum())
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
