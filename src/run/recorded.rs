//! A run that is recorded in the store: its events while it runs, its page and its lock at the end.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::SystemTime;

use contract::{Digest, SourceFile, Tree};

use super::{Options, Outcome, StageOutcome};
use crate::clock;
use crate::events::{Purpose, Renderer, Renderers, RunStatus};
use crate::graph::Graph;
use crate::manifest::{self, Manifest, StageDeclaration};
use crate::parallel;
use crate::plan::Decider;
use crate::report::LivePage;
use crate::report::run_lock::{FILE, LockedOutput, LockedRun, LockedStage, RunLock, VERSION};
use crate::stderr::stderr;
use crate::store::{Machine, OpenRun, RunDir, Store, StoreError};

/// The name of the file of events in the directory of a run.
pub const EVENTS: &str = "events.jsonl";
/// The name of the page.
const PAGE: &str = "report.html";

/// A run that has ended.
#[derive(Debug)]
pub struct RecordedRun {
    /// Its directory; `None` if the store is open for reading only.
    pub dir: Option<RunDir>,
    /// When it started.
    pub started: SystemTime,
    /// The outcome of its stages.
    pub outcome: Outcome,
    /// The purposes for which events were lost; a warning was printed.
    pub lost: Vec<Purpose>,
    /// Whether the lock of the run was written.
    pub written: Result<(), StoreError>,
}

impl RecordedRun {
    /// Runs the stages ([`super::run`]) and records the run; the renderers show it. A lease protects its inputs and outputs during the run,
    /// and its lock does afterwards. In a store that is open for reading only nothing is recorded.
    ///
    /// # Errors
    /// Returns an error if the run cannot be started in the store; then nothing has run.
    pub fn execute(
        decider: Decider<'_>,
        graph: &Graph,
        options: &Options,
        shown: Vec<Box<dyn Renderer>>,
    ) -> Result<Self, StoreError> {
        let (store, manifest) = (decider.store, decider.manifest);
        let started = clock::now();
        if !store.is_writable() {
            let renderers = Renderers::with(shown);
            let outcome = super::run(decider, graph, None, options, &renderers.sender());
            let lost = renderers.finish();
            return Ok(Self { dir: None, started, outcome, lost, written: Ok(()) });
        }
        let open = store.runs.start(&manifest.name, &manifest::origin(&manifest.path))?;
        options.provided.values().try_for_each(|outputs| open.lease.hold(outputs.values()))?;
        let dir = &open.dir;
        let page = LivePage::new(&dir.to_string(), &clock::rfc3339(started));
        let shown = shown.into_iter().chain([Box::new(page.clone()) as Box<dyn Renderer>]).collect();
        let renderers = Renderers::recording(shown, &dir.path.join(EVENTS));
        let outcome = super::run(decider, graph, Some(&open), options, &renderers.sender());
        let lost = renderers.finish();
        let ended = EndedRun { dir, manifest, graph, outcome: &outcome, options, started };
        ended.link_earlier_pages(store, &page);
        // Before the lock, which marks the run as ended.
        if let Err(error) = fs::write(dir.path.join(PAGE), page.html(manifest)) {
            stderr!("warning: the run has no page: {error}");
        }
        let lock = ended.lock().encode();
        let lock = lock.map_err(|error| StoreError::io("write", &dir.path.join(FILE))(io::Error::other(error)));
        let written = lock.and_then(|lock| store.runs.write_lock(dir, FILE, &lock));
        let written = written.and_then(|()| match outcome.summary.status() {
            RunStatus::Done => store.runs.make_latest(dir, |latest| ended.replaces(store, latest)),
            _ => Ok(()),
        });
        // From here on the lock protects what the lease protected.
        let OpenRun { dir, lease } = open;
        drop(lease);
        Ok(Self { dir: Some(dir), started, outcome, lost, written })
    }
}

/// A run that has just ended, with the content of its lock.
#[derive(Debug, Clone, Copy)]
struct EndedRun<'a> {
    /// Its directory.
    dir: &'a RunDir,
    /// Its stages.
    manifest: &'a Manifest,
    /// Their graph.
    graph: &'a Graph,
    /// Their outcome.
    outcome: &'a Outcome,
    /// The request.
    options: &'a Options,
    /// When it started.
    started: SystemTime,
}

impl EndedRun<'_> {
    /// Returns whether `latest` is switched to this run, in which everything that was requested is done. A run of some of the stages
    /// (`--until`) replaces the latest run only if it includes all stages of that run that are still in the manifest.
    fn replaces(&self, store: &Store, latest: Option<&RunDir>) -> Result<bool, StoreError> {
        let Self { manifest, options, .. } = self;
        let Some(latest) = latest.filter(|_| options.wanted.len() < manifest.stages.len()) else { return Ok(true) };
        let shown = store.runs.published_stages(latest)?;
        Ok(shown
            .iter()
            .all(|stage| options.wanted.contains(stage.as_str()) || !manifest.stages.contains_key(stage.as_str())))
    }

    /// Adds links from each cached stage to the page of the run in which it ran, which has its notes and charts.
    fn link_earlier_pages(&self, store: &Store, page: &LivePage) {
        let mut there: BTreeMap<(&str, u32), bool> = BTreeMap::new();
        for (name, stage) in self.outcome.stages.iter().filter(|(_, stage)| !stage.ran) {
            let (run, Some(number)) = (stage.record.run.as_str(), stage.record.number) else { continue };
            let has_page = || store.runs.dir(run, number).is_ok_and(|dir| dir.path.join(PAGE).is_file());
            if *there.entry((run, number)).or_insert_with(has_page) {
                page.link_run(name.as_str(), format!("{run}.{number}"), format!("../../{run}/{number}/{PAGE}"));
            }
        }
    }

    fn lock(&self) -> RunLock {
        let Self { dir, manifest, graph, outcome, options, started } = self;
        let stages =
            graph.order().iter().filter_map(|name| Some((manifest.stages.get(name)?, outcome.stages.get(name)?)));
        let stages = parallel::map(&stages.collect::<Vec<_>>(), |(stage, outcome)| locked(stage, outcome));
        let run = LockedRun {
            name: manifest.name.clone(),
            number: dir.number,
            status: outcome.summary.status(),
            started: clock::rfc3339(*started),
            seconds: outcome.seconds,
            device: options.budget.device.to_string(),
            threads: options.budget.threads,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            machine: Machine::this().clone(),
        };
        RunLock { version: VERSION, manifest: manifest.resolved(), run, stages }
    }
}

fn locked(stage: &StageDeclaration, outcome: &StageOutcome) -> LockedStage {
    let StageOutcome { key, record, trees, ran, .. } = outcome;
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
        inputs: key.inputs.clone(),
        sources: key.sources.files().map(SourceFile::line).collect(),
        machine_facts: key.key_record.machine_facts(),
        seconds: record.seconds,
        ran: *ran,
        device: record.device.to_string(),
        machine: record.machine.clone(),
        tolerance: stage.kind.tolerance,
        metrics: record.metrics.clone(),
        outputs: record.outputs.iter().map(output).collect(),
    }
}
