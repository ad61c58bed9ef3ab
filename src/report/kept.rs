//! A run that is kept: begun in the store, its events recorded, and written down when it has ended.

use std::time::SystemTime;

use contract::{Digest, SourceFile, Tree};

use super::run_lock::{FILE, LockedOutput, LockedRun, LockedStage, RunLock, VERSION};
use crate::clock;
use crate::events::{Purpose, Renderer, Renderers};
use crate::graph::Graph;
use crate::manifest::{Manifest, StageDeclaration};
use crate::parallel;
use crate::plan::Decider;
use crate::run::{self, Budget, Options, Outcome, StageOutcome};
use crate::store::{Machine, OpenRun, RunFolder, StoreError};

/// The events of a run, in its folder.
pub const EVENTS: &str = "events.jsonl";

/// A run that has ended.
#[derive(Debug)]
pub struct KeptRun {
    /// Where it is kept; `None` where the store is open for reading only.
    pub folder: Option<RunFolder>,
    /// When it started.
    pub started: SystemTime,
    /// What became of its stages.
    pub outcome: Outcome,
    /// For what events were lost, which was told.
    pub lost: Vec<Purpose>,
    /// Why it is not written down, where it is not.
    pub written: Result<(), StoreError>,
}

impl KeptRun {
    /// Runs ([`run::run`]) and keeps it, shown by these renderers. What the run reads and gives stays in the store while it
    /// goes on, and from then on because its lock names it. In a store that is open for reading only nothing is kept.
    ///
    /// # Errors
    /// When the run cannot be begun in the store; nothing has run then.
    pub fn of(
        decider: Decider<'_>,
        graph: &Graph,
        options: &Options,
        shown: Vec<Box<dyn Renderer>>,
    ) -> Result<Self, StoreError> {
        let (store, manifest) = (decider.store, decider.manifest);
        let started = clock::now();
        if !store.is_writable() {
            let renderers = Renderers::with(shown);
            let outcome = run::run(decider, graph, None, options, &renderers.sender());
            let lost = renderers.finish();
            return Ok(Self { folder: None, started, outcome, lost, written: Ok(()) });
        }
        let open = store.start_run(&manifest.name)?;
        let folder = &open.folder;
        let renderers = Renderers::recording(shown, &folder.path.join(EVENTS));
        store.show_newest(folder, EVENTS)?;
        let outcome = run::run(decider, graph, Some(&open), options, &renderers.sender());
        let lost = renderers.finish();
        let ended = EndedRun { folder, manifest, graph, outcome: &outcome, budget: &options.budget, started };
        let written = store.write_run_file(folder, FILE, &ended.lock().encode());
        // From here on the lock holds what the lease held.
        let OpenRun { folder, lease } = open;
        drop(lease);
        Ok(Self { folder: Some(folder), started, outcome, lost, written })
    }
}

/// A run that has just ended, with all that its lock says.
#[derive(Debug, Clone, Copy)]
struct EndedRun<'a> {
    /// Where its folder is.
    folder: &'a RunFolder,
    /// Its stages.
    manifest: &'a Manifest,
    /// In their order.
    graph: &'a Graph,
    /// What became of them.
    outcome: &'a Outcome,
    /// What it could use.
    budget: &'a Budget,
    /// When it started.
    started: SystemTime,
}

impl EndedRun<'_> {
    fn lock(&self) -> RunLock {
        let Self { folder, manifest, graph, outcome, budget, started } = self;
        let stages =
            graph.order().iter().filter_map(|name| Some((manifest.stages.get(name)?, outcome.stages.get(name)?)));
        let stages = parallel::map(&stages.collect::<Vec<_>>(), |(stage, outcome)| locked(stage, outcome));
        let run = LockedRun {
            name: manifest.name.clone(),
            number: folder.number,
            status: outcome.summary.status(),
            started: clock::rfc3339(*started),
            seconds: outcome.seconds,
            device: budget.device.to_string(),
            threads: budget.threads,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            machine: Machine::this(),
        };
        RunLock { version: VERSION, manifest: manifest.resolved(), run, stages }
    }
}

fn locked(stage: &StageDeclaration, outcome: &StageOutcome) -> LockedStage {
    let StageOutcome { keyed, record, trees, ran, .. } = outcome;
    let output = |(port, tree): (&String, &Digest)| {
        let ty = stage.ports.outputs.iter().find(|output| output.name == port.as_str());
        let ty = ty.map(|output| output.ty.to_string()).unwrap_or_default();
        let text = trees.get(port).map(Tree::encode).unwrap_or_default();
        let files = text.lines().skip(1).map(str::to_owned).collect();
        (port.clone(), LockedOutput { ty, tree: *tree, files })
    };
    LockedStage {
        name: stage.name.to_string(),
        kind: record.kind.clone(),
        revision: record.revision,
        key: record.key,
        inputs: keyed.inputs.clone(),
        sources: keyed.sources.files().map(SourceFile::line).collect(),
        seconds: record.seconds,
        ran: *ran,
        device: record.device.to_string(),
        machine: record.machine.clone(),
        tolerance: stage.kind.tolerance,
        metrics: record.metrics.clone(),
        outputs: record.outputs.iter().map(output).collect(),
    }
}
