//! The builds on record, read once, when something stale first asks for them: where all is cached, none is read.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use contract::Digest;

use super::baseline::{Baseline, BuildName};
use super::estimate::{Estimate, NoEstimate, Past, Work};
use super::recipe::Recipe;
use crate::key::KeyRecord;
use crate::manifest::StageDeclaration;
use crate::store::{KeyBuilds, LastBuild, Record, Store, StoreError};

/// All builds of a store as they were when first asked for, those too whose bytes went to make room. Shared by threads.
#[derive(Debug, Default)]
pub(super) struct History(OnceLock<Vec<Build>>);

/// A build on record.
#[derive(Debug, Clone, PartialEq)]
struct Build {
    name: BuildName,
    /// The key written out.
    record: KeyRecord,
    /// The tree of each output port.
    outputs: BTreeMap<String, Digest>,
    /// When it was made: milliseconds since 1970.
    started: u64,
    /// How long it took.
    seconds: f64,
    work: Work,
    /// Whether its record says that its bytes are there.
    is_kept: bool,
    kind: String,
    stage: String,
    recipe: Recipe,
}

impl History {
    /// Whether a build with this recipe is on record, with its bytes.
    pub(super) fn has(&self, store: &Store, recipe: &Recipe) -> Result<bool, StoreError> {
        Ok(self.builds(store)?.iter().any(|build| build.is_kept && build.recipe == *recipe))
    }

    /// How long a stage of this kind and recipe may take, which has this work to do.
    pub(super) fn estimate(
        &self,
        store: &Store,
        kind: &str,
        recipe: &Recipe,
        work: Work,
    ) -> Result<Result<Estimate, NoEstimate>, StoreError> {
        let of_kind = self.builds(store)?.iter().filter(|build| build.kind == kind);
        let past = |build: &Build| Past { seconds: build.seconds, work: build.work, is_alike: build.recipe == *recipe };
        Ok(Estimate::of(work, &of_kind.map(past).collect::<Vec<_>>()))
    }

    /// The build that a stage is compared with ([`Baseline`]), which runs of this name used `last`.
    pub(super) fn baseline(
        &self,
        store: &Store,
        run: &str,
        stage: &StageDeclaration,
        last: Option<LastBuild>,
        distance: impl Fn(&KeyRecord) -> usize,
    ) -> Result<Option<Baseline>, StoreError> {
        let builds = self.builds(store)?;
        let alike =
            || builds.iter().filter(|build| build.kind == stage.kind.name && build.stage == stage.name.as_str());
        let is_last = |build: &Build| last.as_ref().is_some_and(|last| last.key == build.name.key);
        // The last one may be that of another stage, and counts as this one's.
        let own = alike()
            .filter(|build| build.name.run.as_deref() == Some(run))
            .chain(builds.iter().filter(|build| is_last(build)));
        let own = own.min_by_key(|build| (distance(&build.record), !is_last(build), Reverse(build.started)));
        let forgotten = last.as_ref().filter(|last| !builds.iter().any(|build| build.name.key == last.key));
        let is_nearer = |last: &&LastBuild| own.is_none_or(|own| distance(&last.key_record) <= distance(&own.record));
        if let Some(last) = forgotten.filter(is_nearer).cloned() {
            let build = BuildName { key: last.key, run: None, number: None, started_ms: None };
            return Ok(Some(Baseline {
                build,
                record: last.key_record,
                outputs: last.outputs,
                read: None,
                is_own: true,
            }));
        }
        let other = || alike().min_by_key(|build| (distance(&build.record), Reverse(build.started)));
        let baseline = |build: &Build, is_own| Baseline {
            build: build.name.clone(),
            record: build.record.clone(),
            outputs: build.outputs.clone(),
            read: build.work.bytes,
            is_own,
        };
        Ok(own.map(|own| baseline(own, true)).or_else(|| other().map(|other| baseline(other, false))))
    }

    fn builds(&self, store: &Store) -> Result<&[Build], StoreError> {
        if let Some(builds) = self.0.get() {
            return Ok(builds);
        }
        let build = |record: Record, is_kept: bool| {
            let recipe = Recipe::of(&record.key_record);
            let work = Work { operations: record.operations, bytes: record.input_bytes };
            let name = BuildName::of(&record);
            let Record { kind, stage, started, seconds, outputs, key_record: record, .. } = record;
            Build { name, recipe, record, outputs, started, seconds, work, is_kept, kind, stage }
        };
        let mut builds = Vec::new();
        for key in store.builds.all_keys()? {
            let KeyBuilds { records, past, .. } = store.builds.of(key)?;
            builds.extend(records.into_values().map(|record| build(record, true)));
            builds.extend(past.into_values().map(|record| build(record, false)));
        }
        Ok(self.0.get_or_init(|| builds))
    }
}
