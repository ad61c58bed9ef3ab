//! The builds on record, read once, when a plan first asks for them: a plan in which all is cached reads none.

use std::cell::OnceCell;

use super::estimate::Estimate;
use super::recipe::Recipe;
use crate::key::KeyRecord;
use crate::store::{Record, Store, StoreError};

/// All builds of a store.
pub(super) struct History<'a> {
    store: &'a Store,
    builds: OnceCell<Vec<Build>>,
}

/// What a plan wants to know of one build.
struct Build {
    kind: String,
    recipe: Recipe,
    seconds: f64,
}

impl<'a> History<'a> {
    pub(super) const fn of(store: &'a Store) -> Self {
        Self { store, builds: OnceCell::new() }
    }

    /// Whether a build with this recipe is on record.
    pub(super) fn has(&self, recipe: &Recipe) -> Result<bool, StoreError> {
        Ok(self.builds()?.iter().any(|build| build.recipe == *recipe))
    }

    /// How long builds of this kind took: those with this recipe where there are some, else all.
    pub(super) fn estimate(&self, kind: &str, recipe: &Recipe) -> Result<Option<Estimate>, StoreError> {
        let builds = self.builds()?;
        let of_kind = || builds.iter().filter(|build| build.kind == kind);
        let alike = of_kind().filter(|build| build.recipe == *recipe).map(|build| build.seconds);
        let estimate = Estimate::of(alike, true);
        Ok(estimate.or_else(|| Estimate::of(of_kind().map(|build| build.seconds), false)))
    }

    fn builds(&self) -> Result<&[Build], StoreError> {
        if let Some(builds) = self.builds.get() {
            return Ok(builds);
        }
        let build = |record: Record| {
            let key_record = KeyRecord::from_value(&record.key_record).ok()?;
            Some(Build { kind: record.kind, recipe: Recipe::of(&key_record), seconds: record.seconds })
        };
        let mut builds = Vec::new();
        for key in self.store.keys()? {
            builds.extend(self.store.builds(key)?.records.into_values().filter_map(build));
        }
        Ok(self.builds.get_or_init(|| builds))
    }
}
