//! A run that is kept: begun in the store, its events recorded, and written down when it has ended.

use std::time::SystemTime;

use super::run_lock::EndedRun;
use crate::clock;
use crate::events::{Purpose, Renderer, Renderers};
use crate::graph::Graph;
use crate::plan::Decider;
use crate::run::{self, Options, Outcome};
use crate::store::{RunFolder, StoreError};

/// The events of a run, in its folder.
pub const EVENTS: &str = "events.jsonl";

/// A run that has ended.
#[derive(Debug)]
pub struct KeptRun {
    /// Where it is kept.
    pub folder: RunFolder,
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
    /// goes on, and from then on because its lock names it.
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
        let (folder, lease) = store.start_run(&manifest.name)?;
        let renderers = Renderers::recording(shown, &folder.path.join(EVENTS));
        store.show_newest(&folder, EVENTS)?;
        let outcome = run::run(decider, graph, &lease, options, &renderers.sender());
        let lost = renderers.finish();
        let ended = EndedRun { folder: &folder, manifest, graph, outcome: &outcome, budget: &options.budget, started };
        let written = ended.write(store);
        // From here on the lock holds what the lease held.
        drop(lease);
        Ok(Self { folder, started, outcome, lost, written })
    }
}
