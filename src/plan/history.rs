//! The builds on record, read once, when something stale first asks for them: where all is cached, none is read.

use std::cmp::Reverse;
use std::sync::OnceLock;

use contract::Digest;

use super::estimate::{Basis, Estimate};
use super::recipe::Recipe;
use crate::key::KeyRecord;
use crate::store::{Builds, Record, Store, StoreError};

/// All builds of a store as they were when first asked for, those too whose bytes went to make room. Shared by threads.
#[derive(Debug, Default)]
pub(super) struct History(OnceLock<Vec<Build>>);

/// A build on record.
#[derive(Debug, Clone, PartialEq)]
pub struct Build {
    /// Its key.
    pub key: Digest,
    /// The key written out.
    pub record: KeyRecord,
    /// When it was made: milliseconds since 1970.
    pub started: u64,
    /// How long it took.
    pub seconds: f64,
    /// Its floating-point operations, where they are known and there are any.
    operations: Option<f64>,
    /// The run for which it was made; empty where that was not written down.
    pub run: String,
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

    /// How long builds of this kind took: those with this recipe where there are some; else all, for this stage's
    /// operations where these are known of both.
    pub(super) fn estimate(
        &self,
        store: &Store,
        kind: &str,
        recipe: &Recipe,
        operations: Option<f64>,
    ) -> Result<Option<Estimate>, StoreError> {
        let builds = self.builds(store)?;
        let of_kind = || builds.iter().filter(|build| build.kind == kind);
        let alike = of_kind().filter(|build| build.recipe == *recipe).map(|build| build.seconds);
        let scaled = of_kind().filter_map(|build| Some(build.seconds / build.operations? * operations?));
        Ok(Estimate::of(alike, Basis::Settings)
            .or_else(|| Estimate::of(scaled, Basis::Operations))
            .or_else(|| Estimate::of(of_kind().map(|build| build.seconds), Basis::Kind)))
    }

    /// The build of a stage of this name and kind whose key differs in the fewest places, by `distance`; of equals the
    /// newest.
    pub(super) fn nearest(
        &self,
        store: &Store,
        kind: &str,
        stage: &str,
        distance: impl Fn(&KeyRecord) -> usize,
    ) -> Result<Option<&Build>, StoreError> {
        let builds = self.builds(store)?.iter().filter(|build| build.kind == kind && build.stage == stage);
        Ok(builds.min_by_key(|build| (distance(&build.record), Reverse(build.started))))
    }

    fn builds(&self, store: &Store) -> Result<&[Build], StoreError> {
        if let Some(builds) = self.0.get() {
            return Ok(builds);
        }
        let build = |record: Record, is_kept: bool| {
            let Record { key, kind, stage, run, started, seconds, operations, key_record, .. } = record;
            let operations = operations.filter(|operations| *operations > 0.0);
            let recipe = Recipe::of(&key_record);
            Build { key, recipe, record: key_record, started, seconds, operations, run, is_kept, kind, stage }
        };
        let mut builds = Vec::new();
        for key in store.all_keys()? {
            let Builds { records, past, .. } = store.builds(key)?;
            builds.extend(records.into_values().map(|record| build(record, true)));
            builds.extend(past.into_values().map(|record| build(record, false)));
        }
        Ok(self.0.get_or_init(|| builds))
    }
}
