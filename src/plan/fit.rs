//! Compares what stages need with what the machine has.
//!
//! | resource | needed | available | a shortfall is |
//! |---|---|---|---|
//! | memory | what a stage cannot run without ([`contract::Cost::memory`]), at least `MIN_MEMORY` | the minimum of `[exec] memory`, the machine's memory, its cgroup limit and its `ulimit` | an error |
//! | memory | what a stage may need, depending on its inputs ([`contract::Cost::memory_bound`]) | the same | a warning |
//! | disk | what one stage will write, as computed by the stage ([`contract::Cost::disk`]), minus the data of an interrupted build | the free space | an error |
//! | disk | what all stages will write, estimated from the sizes of their inputs | the free space | a warning |
//!
//! Memory that a stage can use but does not require ([`contract::Needs::memory`]) is not checked: with less, the stage spills to disk. The
//! memory of a GPU is not checked either. All these numbers are estimates, so `--allow-oversize` turns errors into warnings.

use std::path::Path;

use contract::{Cost, Device, Needs};
use serde::Serialize;

use crate::events::figures;
use crate::manifest::{Manifest, Place, StageDeclaration, StageName};

/// The flag that runs stages despite a shortfall.
pub const ALLOW: &str = "--allow-oversize";

/// Bytes of memory without which no stage runs: the buffers of a query over one row of a table.
const MIN_MEMORY: u64 = 1 << 20;

/// A resource of which stages need more than is available.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResourceShortfall {
    /// The stage; for the disk, the first stage that no longer fits.
    pub stage: StageName,
    /// The position of its declaration.
    pub place: Place,
    /// The resource.
    pub what: Resource,
    /// The estimated bytes that the stage needs, including those of the `before` earlier stages.
    pub needs: u64,
    /// The number of earlier stages that are included.
    pub before: usize,
    /// The available bytes.
    pub has: u64,
    /// The position of the manifest's limit, if that is what limits them.
    pub limit: Option<Place>,
    /// Whether the shortfall is an error: the stage computes its needs itself.
    pub is_error: bool,
}

/// A resource of which a machine may have too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// Main memory.
    Memory,
    /// The disk of the store.
    Disk,
}

/// What stages may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Available {
    /// Bytes of memory, if known.
    pub memory: Option<u64>,
    /// Free bytes of disk, if known.
    pub disk: Option<u64>,
    /// The compute device.
    pub device: Device,
}

/// A stage that will run.
#[derive(Debug, Clone, Copy)]
pub struct Task<'m> {
    /// The stage.
    pub stage: &'m StageDeclaration,
    /// Its cost, as far as known.
    pub cost: Cost,
    /// The estimated bytes that it will write: `cost.disk` if known.
    pub disk: u64,
    /// The part of `disk` that an interrupted build has written and its next build reuses.
    pub scratch: u64,
}

impl<'m> Task<'m> {
    /// Creates a task for a stage whose inputs are unknown: it writes the amount that the stage itself computes.
    pub fn new(stage: &'m StageDeclaration, cost: Cost) -> Self {
        Self { stage, cost, disk: cost.disk.unwrap_or(0), scratch: 0 }
    }
}

impl ResourceShortfall {
    /// Formats the shortfall, without a hint.
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

    /// Returns the hint.
    pub fn hint(&self) -> &'static str {
        match (self.what, &self.limit) {
            (Resource::Memory, _) if !self.is_error => {
                "if the system kills the stage, lower the settings that determine its memory"
            }
            (Resource::Memory, Some(_)) if self.needs <= MIN_MEMORY => "raise [exec] memory",
            (Resource::Memory, Some(_)) => {
                "lower the stage's batch (micro_batch of a training), or raise [exec] memory"
            }
            (Resource::Memory, None) => {
                "lower the stage's batch (micro_batch of a training), or use a machine with more memory"
            }
            (Resource::Disk, _) => "free some, or put the store elsewhere with --cache DIR",
        }
    }

    /// Formats the shortfall with its hint as one line.
    pub fn text(&self) -> String {
        format!("{}: {}", self.message(), self.hint())
    }
}

/// Returns the needs of a stage: what it can use, and at least what it cannot run without.
pub fn needs(stage: &StageDeclaration, cost: &Cost, device: Device) -> Needs {
    let needs = stage.stage.needs();
    Needs { memory: needs.memory.max(required_memory(&needs, cost, device)), ..needs }
}

/// Returns the shortfall of one stage alone: it cannot run, or may fail.
pub fn check_stage(
    manifest: &Manifest,
    task: Task<'_>,
    available: Available,
) -> impl Iterator<Item = ResourceShortfall> {
    let Task { stage, cost, disk, scratch } = task;
    let required = required_memory(&stage.stage.needs(), &cost, available.device).max(MIN_MEMORY);
    let limits = [
        (Resource::Memory, Some(required), available.memory, true),
        (Resource::Memory, cost.memory_bound, available.memory, false),
        (Resource::Disk, Some(disk.saturating_sub(scratch)), available.disk, cost.disk.is_some()),
    ];
    // The machine may have less than the manifest allows.
    let set = manifest.exec.memory.map(|memory| memory.0).zip(manifest.memory_place.clone());
    limits.into_iter().filter_map(move |(what, needs, has, is_error)| {
        let (needs, has) = (needs?, has?);
        let limit = set.as_ref().filter(|(memory, _)| what == Resource::Memory && *memory == has);
        let limit = limit.map(|(_, place)| place.clone());
        (needs > has).then(|| ResourceShortfall { limit, is_error, ..shortfall(stage, what, needs, has) })
    })
}

/// Returns the shortfalls of stages that will run, each after its upstream stages. The disk is reported once: for each stage that computes
/// its own need and alone exceeds the free space, otherwise for all stages together.
pub fn check_stages(manifest: &Manifest, tasks: &[Task<'_>], available: Available) -> Vec<ResourceShortfall> {
    let of_each = tasks.iter().flat_map(|task| check_stage(manifest, *task, available));
    let mut shortfalls: Vec<_> = of_each.filter(|one| one.what == Resource::Memory || one.is_error).collect();
    if !shortfalls.iter().any(|one| one.what == Resource::Disk) {
        shortfalls.extend(available.disk.and_then(|has| disk(tasks, has)));
    }
    shortfalls
}

/// Returns the first stage that no longer fits on the disk, counted together with all stages before it.
fn disk(tasks: &[Task<'_>], has: u64) -> Option<ResourceShortfall> {
    let (mut needs, mut before): (u64, usize) = (0, 0);
    for Task { stage, disk, scratch, .. } in tasks {
        needs = needs.saturating_add(disk.saturating_sub(*scratch));
        if needs > has {
            return Some(ResourceShortfall { before, ..shortfall(stage, Resource::Disk, needs, has) });
        }
        before += usize::from(*disk > 0);
    }
    None
}

/// Returns the bytes of main memory that a stage needs to run. A stage on a GPU needs the GPU's memory instead.
fn required_memory(needs: &Needs, cost: &Cost, device: Device) -> u64 {
    let is_on_gpu = needs.gpu && !matches!(device, Device::Cpu | Device::Auto);
    cost.memory.filter(|_| !is_on_gpu).unwrap_or(0)
}

fn shortfall(stage: &StageDeclaration, what: Resource, needs: u64, has: u64) -> ResourceShortfall {
    let (stage, place) = (stage.name.clone(), stage.place.clone());
    ResourceShortfall { stage, place, what, needs, before: 0, has, limit: None, is_error: false }
}

/// Returns the free bytes of the disk that contains `path`, which may not exist yet.
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
    use std::collections::BTreeSet;
    use std::fs;

    use contract::{Context, Digest, Kind, PortType, Ports, Result, Stage};
    use schemars::JsonSchema;
    use serde::Deserialize;

    use super::*;
    use crate::manifest::{self, Overrides};
    use crate::plan::{Decider, Plan};
    use crate::store::Store;

    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    struct Spec {
        #[serde(default)]
        number: u64,
    }

    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    struct Exec {
        #[serde(default)]
        verbose: bool,
    }

    struct CopyFiles;

    impl Stage for CopyFiles {
        type Spec = Spec;
        type Exec = Exec;
        const KIND: &'static str = "copy";
        const REVISION: u32 = 1;

        fn ports() -> Ports {
            Ports::new().optional_input("from", PortType::Files, "files").output("to", PortType::Files, "copies")
        }

        fn run(_: &Spec, _: &Exec, _: &Context) -> Result<()> {
            Ok(())
        }
    }

    const MANIFEST: &str = "[stages.first]\nkind = \"copy\"\n[stages.second]\nkind = \"copy\"\ninput = \"first\"\n";

    #[test]
    fn scratch_of_an_interrupted_build_counts_as_free_for_its_next_build() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.toml");
        fs::write(&path, MANIFEST).unwrap();
        let manifest = manifest::load(&path, &Overrides::default(), &[Kind::of::<CopyFiles>()]).unwrap();
        let (store, forced) = (Store::open(&directory.path().join("cache")).unwrap(), BTreeSet::new());
        let decider = Decider::new(&manifest, &store, &forced);
        let planned =
            || Plan::new(&decider, &manifest.graph, &manifest.stages.keys().cloned().collect(), |_| true).unwrap();
        let errors = |plan: &Plan, stage: &str, free| {
            let task = plan.tasks(&decider).into_iter().find(|task| task.stage.name.as_str() == stage).unwrap();
            // As if the stage computed that it writes as much as a training.
            let cost = Cost { disk: Some(1000), ..Cost::default() };
            let task = Task { scratch: task.scratch, ..Task::new(task.stage, cost) };
            check_stage(&manifest, task, Available { memory: None, disk: Some(free), device: Device::Cpu }).count()
        };
        let plan = planned();
        assert_eq!((errors(&plan, "second", 1000), errors(&plan, "second", 999)), (0, 1));
        // The key of `first` is known, that of `second` is not: any scratch may belong to it.
        let key = plan.stages.iter().find_map(|stage| stage.key).unwrap();
        let scratch = store.layout().work(key.digest()).join("scratch/step-10");
        fs::create_dir_all(&scratch).unwrap();
        fs::write(scratch.join("values"), [0; 400]).unwrap();
        let plan = planned();
        assert_eq!((errors(&plan, "first", 600), errors(&plan, "first", 599)), (0, 1));
        assert_eq!((errors(&plan, "second", 600), errors(&plan, "second", 599)), (0, 1));
        let other = store.layout().work(Digest::of(b"another key"));
        fs::rename(store.layout().work(key.digest()), other).unwrap();
        let plan = planned();
        assert_eq!((errors(&plan, "first", 1000), errors(&plan, "first", 999)), (0, 1), "not its own");
        assert_eq!((errors(&plan, "second", 600), errors(&plan, "second", 599)), (0, 1));
    }
}
