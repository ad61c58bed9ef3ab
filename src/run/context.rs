//! The data shared by the stages of one run.

use std::collections::BTreeMap;

use contract::{Cancel, Digest, Note, Tree};

use super::resources::Budget;
use super::usage::Meter;
use crate::events::{Event, EventSender};
use crate::manifest::{Manifest, StageDeclaration, StageName};
use crate::plan::{StageKey, patterns};
use crate::store::{Hit, LastBuild, OpenRun, Store, StoreError};

/// The data shared by the stages of one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunContext<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) store: &'a Store,
    pub(super) events: &'a EventSender,
    pub(super) cancel: &'a Cancel,
    pub(super) budget: Budget,
    pub(super) meter: &'a Meter,
    /// `None` if nothing is recorded because the store is open for reading only.
    pub(super) open: Option<&'a OpenRun>,
}

impl RunContext<'_> {
    /// Sends a warning about a stage.
    pub(super) fn warn(&self, name: &StageName, text: String) {
        self.events.send(Event::StageNote { stage: name.to_string(), note: Note::Warning { text } });
    }

    /// Calls `find` and leases the trees that it found, so that they are not removed before the run ends.
    pub(super) fn with_lease<T>(
        &self,
        find: impl FnOnce() -> Result<T, StoreError>,
        trees: impl FnOnce(&T) -> Option<BTreeMap<String, Digest>>,
    ) -> Result<T, StoreError> {
        let _guard = self.store.leases.guard()?;
        let found = find()?;
        trees(&found).map_or(Ok(()), |trees| self.lease(trees.values()))?;
        Ok(found)
    }

    /// Leases trees. The caller must hold the guard under which they were found.
    pub(super) fn lease<'d>(&self, trees: impl IntoIterator<Item = &'d Digest>) -> Result<(), StoreError> {
        self.open.map_or(Ok(()), |open| open.lease.hold(trees))
    }

    /// Publishes an output that was found in the store.
    pub(super) fn publish_cached(&self, stage: &StageDeclaration, key: &StageKey, hit: &Hit) {
        // The stage is cached even if the links to its output cannot be written.
        if let Err(error) = self.publish(stage, key, &hit.record.outputs, &hit.trees) {
            self.warn(&stage.name, format!("output cached; cannot publish it in the directory of the run: {error}"));
        }
    }

    /// Links the output of a stage in the directory of the run, and records it as the stage's last build.
    pub(super) fn publish(
        &self,
        stage: &StageDeclaration,
        key: &StageKey,
        outputs: &BTreeMap<String, Digest>,
        trees: &BTreeMap<String, Tree>,
    ) -> Result<(), StoreError> {
        let Some(open) = self.open else { return Ok(()) };
        let build = LastBuild {
            key: key.key.digest(),
            key_record: key.key_record.clone(),
            outputs: outputs.clone(),
            patterns: patterns(stage),
            sources: None,
        };
        self.store.runs.publish(&open.dir, stage.name.as_str(), build, &key.sources, trees)
    }
}
