//! What stages need against what there is of the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use contract::{Device, Needs, PortType};
use serde::Serialize;

use super::Decider;
use crate::events::figures;
use crate::manifest::{Edge, Manifest, Place, StageDeclaration, StageName};
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
    /// Bytes that it needs, by estimate, together with the stages before it that are counted.
    pub needs: u64,
    /// Whether it needs less with a smaller batch.
    pub by_batch: bool,
    /// How many stages before it are.
    pub before: usize,
    /// Bytes that there are.
    pub has: u64,
    /// Where the manifest says how many there are.
    pub limit: Option<Place>,
}

impl Misfit {
    /// For people.
    pub fn text(&self) -> String {
        let Self { stage, place, what, needs, by_batch, before, has, limit } = self;
        let who = match before {
            0 => "needs".to_owned(),
            before => format!("and {} before it need", figures::counted(*before as u64, "stage")),
        };
        let hint = match (*what, by_batch) {
            ("memory", true) => "give more with [exec] memory, or lower the stage's batch",
            ("memory", false) => "give more with [exec] memory",
            _ => "free some, or put the store elsewhere with --cache DIR",
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
    let (needs, by_batch) = (stage.cost.memory.unwrap_or(memory), stage.cost.memory.is_some());
    let (stage, place, limit) = (stage.name.clone(), stage.place.clone(), manifest.memory_place.clone());
    (needs > has).then_some(Misfit { stage, place, what: "memory", needs, by_batch, before: 0, has, limit })
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
    let (mut needs, mut before): (u64, usize) = (0, 0);
    let stale = order.into_iter().filter(|name| stale.contains(*name));
    for stage in stale.filter_map(|name| decider.manifest.stages.get(name)) {
        let read = read(decider, stage, &written)?;
        let writes = writes(stage, read);
        written.insert(&stage.name, writes);
        needs = needs.saturating_add(writes);
        if needs > has {
            return Ok(Some(misfit(stage, needs, before, has)));
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
        // Of a stale stage nobody knows yet how much each of its outputs takes: it counts once.
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

/// The misfit of what one stage will write, which reads so many bytes, with the free disk.
pub fn disk_of(stage: &StageDeclaration, read: u64, free: Option<u64>) -> Option<Misfit> {
    let (has, needs) = (free?, writes(stage, read));
    (needs > has).then(|| misfit(stage, needs, 0, has))
}

fn misfit(stage: &StageDeclaration, needs: u64, before: usize, has: u64) -> Misfit {
    let (stage, place) = (stage.name.clone(), stage.place.clone());
    Misfit { stage, place, what: "disk", needs, by_batch: false, before, has, limit: None }
}

/// Bytes that a stage writes, where it reads so many, by estimate: what its settings tell, else about what it reads where it
/// gives data.
pub(super) fn writes(stage: &StageDeclaration, read: u64) -> u64 {
    stage.cost.disk.unwrap_or(if gives_data(stage) { read } else { 0 })
}

/// Whether a stage gives tables or tokens. Models, tokenizers and reports are small beside these, and what a command gives
/// nobody knows.
pub(super) fn gives_data(stage: &StageDeclaration) -> bool {
    let is_data = |ty: PortType| matches!(ty, PortType::Documents | PortType::Rows | PortType::Tokens);
    stage.ports.outputs.iter().any(|port| is_data(port.ty))
}

/// Bytes of an output that a stage gave last in runs of this name.
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
