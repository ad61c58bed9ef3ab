//! A run that is kept: begun in the store, its events recorded, and written down when it has ended.

use std::collections::BTreeMap;
use std::fs;
use std::time::SystemTime;

use contract::{Digest, SourceFile, Tree};

use super::page::{LivePage, Page};
use super::run_lock::{FILE, LockedOutput, LockedRun, LockedStage, RunLock, VERSION};
use crate::clock;
use crate::events::{Purpose, Renderer, Renderers, RunStatus};
use crate::graph::Graph;
use crate::manifest::{self, Manifest, StageDeclaration};
use crate::parallel;
use crate::plan::Decider;
use crate::run::{self, Options, Outcome, StageOutcome};
use crate::say::say;
use crate::store::{Machine, OpenRun, RunDir, Store, StoreError};

/// The events of a run, in its folder.
pub const EVENTS: &str = "events.jsonl";
/// The run as one page.
const PAGE: &str = "report.html";

/// A run that has ended.
#[derive(Debug)]
pub struct KeptRun {
    /// Where it is kept; `None` where the store is open for reading only.
    pub folder: Option<RunDir>,
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
        let open = store.runs.start(&manifest.name, &manifest::origin(&manifest.path))?;
        options.given.values().try_for_each(|outputs| open.lease.hold(outputs.values()))?;
        let folder = &open.folder;
        let page = LivePage::new(Page::new(&folder.to_string(), &clock::rfc3339(started)));
        let shown = shown.into_iter().chain([Box::new(page.clone()) as Box<dyn Renderer>]).collect();
        let renderers = Renderers::recording(shown, &folder.path.join(EVENTS));
        let outcome = run::run(decider, graph, Some(&open), options, &renderers.sender());
        let lost = renderers.finish();
        let ended = EndedRun { folder, manifest, graph, outcome: &outcome, options, started };
        ended.link_earlier_pages(store, &page);
        // Before the lock, which says that the run has ended.
        if let Err(error) = fs::write(folder.path.join(PAGE), page.html(manifest)) {
            say!("warning: the run has no page: {error}");
        }
        let written = store.runs.write_lock(folder, FILE, &ended.lock().encode());
        let written = written.and_then(|()| match outcome.summary.status() {
            RunStatus::Done => store.runs.make_latest(folder, |latest| ended.replaces(store, latest)),
            _ => Ok(()),
        });
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
    folder: &'a RunDir,
    /// Its stages.
    manifest: &'a Manifest,
    /// In their order.
    graph: &'a Graph,
    /// What became of them.
    outcome: &'a Outcome,
    /// What it was asked for, and could use.
    options: &'a Options,
    /// When it started.
    started: SystemTime,
}

impl EndedRun<'_> {
    /// Whether its outputs, which are all that was asked for, take the place of the latest: where they are no less (`--until`)
    /// than what the latest run has of the stages that there are.
    fn replaces(&self, store: &Store, latest: Option<&RunDir>) -> Result<bool, StoreError> {
        let Self { manifest, options, .. } = self;
        let Some(latest) = latest.filter(|_| options.wanted.len() < manifest.stages.len()) else { return Ok(true) };
        let shown = store.runs.published_stages(latest)?;
        Ok(shown
            .iter()
            .all(|stage| options.wanted.contains(stage.as_str()) || !manifest.stages.contains_key(stage.as_str())))
    }

    /// Links the pages of the runs in which the cached stages ran: what they said, and their curves, is there.
    fn link_earlier_pages(&self, store: &Store, page: &LivePage) {
        let mut there: BTreeMap<(&str, u32), bool> = BTreeMap::new();
        for (name, stage) in self.outcome.stages.iter().filter(|(_, stage)| !stage.ran) {
            let (run, Some(number)) = (stage.record.run.as_str(), stage.record.number) else { continue };
            let has_page = || store.runs.dir(run, number).is_ok_and(|folder| folder.path.join(PAGE).is_file());
            if *there.entry((run, number)).or_insert_with(has_page) {
                page.ran_in(name.as_str(), format!("{run}.{number}"), format!("../../{run}/{number}/{PAGE}"));
            }
        }
    }

    fn lock(&self) -> RunLock {
        let Self { folder, manifest, graph, outcome, options, started } = self;
        let stages =
            graph.order().iter().filter_map(|name| Some((manifest.stages.get(name)?, outcome.stages.get(name)?)));
        let stages = parallel::map(&stages.collect::<Vec<_>>(), |(stage, outcome)| locked(stage, outcome));
        let run = LockedRun {
            name: manifest.name.clone(),
            number: folder.number,
            status: outcome.summary.status(),
            started: clock::rfc3339(*started),
            seconds: outcome.seconds,
            device: options.budget.device.to_string(),
            threads: options.budget.threads,
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
