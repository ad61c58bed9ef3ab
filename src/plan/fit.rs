//! What stages need against what the machine has.
//!
//! | what | needed | against | a misfit is |
//! |---|---|---|---|
//! | memory | what a stage cannot do without ([`contract::Cost::memory`]) | the least of `[exec] memory`, the machine's, its cgroup's and its `ulimit`'s | an error |
//! | memory | what a stage may come to need, as its inputs decide ([`contract::Cost::memory_bound`]) | the same | a warning |
//! | disk | what one stage computes that it will write ([`contract::Cost::disk`]), less what an interrupted build of it left | what is free | an error |
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

/// A stage that is to run.
#[derive(Debug, Clone, Copy)]
pub struct Task<'m> {
    /// The stage.
    pub stage: &'m StageDeclaration,
    /// What it will cost, as far as that is known.
    pub cost: Cost,
    /// Bytes of `cost.disk` that lie on the disk already: an interrupted build left them, and it goes on from there.
    pub scratch: u64,
}

impl Misfit {
    /// What does not fit.
    pub fn message(&self) -> String {
        let Self { stage, place, what, needs, before, has, limit, is_error } = self;
        let who = match before {
            0 if *what == Resource::Memory && !is_error => "may need up to".to_owned(),
            0 => "needs about".to_owned(),
            before => format!("and {} before it need about", figures::counted(*before as u64, "stage")),
        };
        let (needs, has) = (figures::size(*needs), figures::size(*has));
        let limit = limit.as_ref().map(|limit| format!(" (set at {limit})")).unwrap_or_default();
        let (what, free) = match what {
            Resource::Memory => ("memory", "available"),
            Resource::Disk => ("disk", "free"),
        };
        format!("{place}: stage '{stage}' {who} {needs} of {what}, but only {has} is {free}{limit}")
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match (self.what, &self.limit) {
            (Resource::Memory, _) if !self.is_error => {
                "lower the settings that it follows from, if the system ends the stage"
            }
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

/// The misfits of one stage: it cannot run, or may come to fail.
pub fn of_stage(manifest: &Manifest, task: Task<'_>, available: Available) -> impl Iterator<Item = Misfit> {
    let (Task { stage, cost, scratch }, Available { memory, disk, device }) = (task, available);
    let must = cost.memory.filter(|_| !is_on_gpu(&stage.stage.needs(), device));
    let more = cost.disk.map(|disk| disk.saturating_sub(scratch));
    let limits = [
        (Resource::Memory, must, memory, true),
        (Resource::Memory, cost.memory_bound, memory, false),
        (Resource::Disk, more, disk, true),
    ];
    limits.into_iter().filter_map(move |(what, needs, has, is_error)| {
        let (needs, has) = (needs?, has?);
        // What the machine has may be less than what the manifest allows.
        let is_set = what == Resource::Memory && manifest.exec.memory.is_some_and(|set| set.0 == has);
        let limit = is_set.then(|| manifest.memory_place.clone()).flatten();
        (needs > has).then(|| Misfit { limit, is_error, ..misfit(stage, what, needs, has) })
    })
}

/// The misfits of stages that are to run, each after those that it needs: of each by itself, and of the disk for all.
///
/// # Errors
/// When the store cannot be read.
pub fn of_stages(decider: &Decider<'_>, tasks: &[Task<'_>], available: Available) -> Result<Vec<Misfit>, StoreError> {
    let of_each = tasks.iter().flat_map(|task| of_stage(decider.manifest, *task, available));
    let mut misfits: Vec<_> = of_each.collect();
    // The disk is told of once.
    if !misfits.iter().any(|misfit| misfit.what == Resource::Disk) {
        misfits.extend(disk(decider, tasks, available.disk)?);
    }
    Ok(misfits)
}

/// A GPU has memory of its own.
fn is_on_gpu(needs: &Needs, device: Device) -> bool {
    needs.gpu && !matches!(device, Device::Cpu | Device::Auto)
}

/// The misfit of what stages will write together with the free disk.
fn disk(decider: &Decider<'_>, tasks: &[Task<'_>], free: Option<u64>) -> Result<Option<Misfit>, StoreError> {
    let Some(has) = free else { return Ok(None) };
    let mut written: BTreeMap<&StageName, u64> = BTreeMap::new();
    let (mut needs, mut before): (u64, usize) = (0, 0);
    for Task { stage, cost, scratch } in tasks {
        let read = read(decider, stage, &written)?;
        let writes = writes(stage, cost, read);
        written.insert(&stage.name, writes);
        needs = needs.saturating_add(writes.saturating_sub(*scratch));
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
    let last = store.builds.last_build(&manifest.name, stage.as_str())?;
    let tree = last.and_then(|last| store.objects.tree(*last.outputs.get(output)?).ok());
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

#[cfg(all(test, feature = "stages"))]
mod tests {
    use super::*;
    use crate::kinds::kinds;
    use crate::manifest::{self, Overrides};
    use crate::plan::Plan;

    #[test]
    fn what_an_interrupted_build_left_counts_as_free_for_its_next() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/end_to_end/small.toml");
        let manifest = manifest::load(&path, &Overrides::default(), &kinds()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (store, forced) = (Store::open(folder.path()).unwrap(), BTreeSet::new());
        let decider = Decider::new(&manifest, &store, &forced);
        let planned =
            || Plan::new(&decider, &manifest.graph, &manifest.stages.keys().cloned().collect(), |_| true).unwrap();
        let errors = |plan: &Plan, stage: &str, free| {
            let task = plan.tasks(&decider).into_iter().find(|task| task.stage.name.as_str() == stage).unwrap();
            // As if the stage had to write as much as a training.
            let task = Task { cost: Cost { disk: Some(1000), ..Cost::default() }, ..task };
            let available = Available { memory: None, disk: Some(free), device: Device::Cpu };
            of_stage(&manifest, task, available).count()
        };
        let plan = planned();
        assert_eq!((errors(&plan, "train", 1000), errors(&plan, "train", 999)), (0, 1));
        // The key of `sample` is known, that of `train` not yet: any scratch may be its.
        let key = plan.stages.iter().find_map(|stage| stage.key).unwrap();
        let scratch = store.layout().work(key.digest()).join("scratch/step-10");
        std::fs::create_dir_all(&scratch).unwrap();
        std::fs::write(scratch.join("values"), [0; 400]).unwrap();
        let plan = planned();
        assert_eq!((errors(&plan, "sample", 600), errors(&plan, "sample", 599)), (0, 1));
        assert_eq!((errors(&plan, "train", 600), errors(&plan, "train", 599)), (0, 1));
        let other = store.layout().work(contract::Digest::of(b"another key"));
        std::fs::rename(store.layout().work(key.digest()), other).unwrap();
        let plan = planned();
        assert_eq!((errors(&plan, "sample", 1000), errors(&plan, "sample", 999)), (0, 1), "not its own");
        assert_eq!((errors(&plan, "train", 600), errors(&plan, "train", 599)), (0, 1));
    }
}
