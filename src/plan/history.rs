//! The recorded builds, read when a stale stage first needs them: if everything is cached, none is read.

use std::cmp::Reverse;
use std::fs;
use std::sync::OnceLock;

use contract::{Device, Digest};

use super::baseline::Baseline;
use super::build_name::BuildName;
use super::estimate::{Estimate, NoEstimate, PastBuild, Work};
use super::recipe::Recipe;
use crate::key::KeyRecord;
use crate::manifest::StageDeclaration;
use crate::store::{KeyBuilds, LastBuild, Machine, Record, Store, StoreError};

/// The maximum number of keys whose builds are read: those that were built last. Earlier builds are used for neither estimates nor
/// baselines.
const MAX_BUILDS: usize = 10_000;

/// The builds of a store at the time of first use, including those whose bytes were removed. Shared by threads.
#[derive(Debug, Default)]
pub(super) struct History(OnceLock<Recorded>);

#[derive(Debug)]
struct Recorded {
    builds: Vec<Build>,
    /// Whether `builds` contains all builds of the store.
    is_complete: bool,
}

#[derive(Debug)]
struct Build {
    record: Record,
    recipe: Recipe,
    /// Whether the store has its bytes, according to its record.
    has_bytes: bool,
}

impl History {
    /// Returns whether a build with this recipe may be in the store: one is recorded with its bytes, or not all builds were read.
    pub(super) fn may_have(&self, store: &Store, recipe: &Recipe) -> Result<bool, StoreError> {
        let Recorded { builds, is_complete } = self.recorded(store)?;
        Ok(!is_complete || builds.iter().any(|build| build.has_bytes && build.recipe == *recipe))
    }

    /// Estimates how long a stage of this kind and recipe takes for this work, on this device if it uses one.
    pub(super) fn estimate(
        &self,
        store: &Store,
        kind: &str,
        recipe: &Recipe,
        work: Work,
        device: Option<Device>,
    ) -> Result<Result<Estimate, NoEstimate>, StoreError> {
        let machine = Machine::this();
        // `auto` may be either.
        let is_of = |other: Device| match device {
            Some(Device::Cpu) => other == Device::Cpu,
            Some(Device::Cuda(_)) => matches!(other, Device::Cuda(_)),
            Some(Device::Auto) | None => true,
        };
        let of_kind = self.recorded(store)?.builds.iter().filter(|build| build.record.kind == kind);
        let past = of_kind.map(|Build { record, recipe: other, .. }| PastBuild {
            seconds: record.seconds,
            work: Work { operations: record.operations, updates: record.updates, bytes: record.input_bytes },
            has_equal_settings: other == recipe,
            is_here: record.machine == *machine && is_of(record.device),
        });
        Ok(Estimate::of(work, &past.collect::<Vec<_>>()))
    }

    /// Returns the build that a stage is compared with ([`Baseline`]); `last` is the build that runs of this name used last.
    pub(super) fn baseline(
        &self,
        store: &Store,
        run: &str,
        stage: &StageDeclaration,
        last: Option<LastBuild>,
        distance: impl Fn(&KeyRecord) -> usize,
    ) -> Result<Option<Baseline>, StoreError> {
        let builds = self.recorded(store)?.builds.iter().map(|build| &build.record);
        let same_stage =
            || builds.clone().filter(|build| build.kind == stage.kind.name && build.stage == stage.name.as_str());
        let is_last = |build: &Record| last.as_ref().is_some_and(|last| last.key == build.key);
        // The last build may have been built by a stage with another name.
        let own = same_stage().filter(|build| build.run == run).chain(builds.clone().filter(|build| is_last(build)));
        let own = own.min_by_key(|build| (distance(&build.key_record), !is_last(build), Reverse(build.started)));
        let without_record = last.as_ref().filter(|last| !builds.clone().any(|build| build.key == last.key));
        let is_nearer =
            |last: &&LastBuild| own.is_none_or(|own| distance(&last.key_record) <= distance(&own.key_record));
        if let Some(last) = without_record.filter(is_nearer).cloned() {
            let build = BuildName { key: last.key, run: None, number: None, started_ms: None };
            let LastBuild { key_record, outputs, .. } = last;
            return Ok(Some(Baseline { build, key_record, outputs, read: None, is_own: true }));
        }
        let other = || same_stage().min_by_key(|build| (distance(&build.key_record), Reverse(build.started)));
        let baseline = |build: &Record, is_own| Baseline {
            build: BuildName::of(build),
            key_record: build.key_record.clone(),
            outputs: build.outputs.clone(),
            read: build.input_bytes,
            is_own,
        };
        Ok(own.map(|own| baseline(own, true)).or_else(|| other().map(|other| baseline(other, false))))
    }

    fn recorded(&self, store: &Store) -> Result<&Recorded, StoreError> {
        if let Some(recorded) = self.0.get() {
            return Ok(recorded);
        }
        let recorded = Recorded::read(store, MAX_BUILDS)?;
        Ok(self.0.get_or_init(|| recorded))
    }
}

impl Recorded {
    fn read(store: &Store, limit: usize) -> Result<Self, StoreError> {
        let build =
            |record: Record, has_bytes: bool| Build { recipe: Recipe::of(&record.key_record), record, has_bytes };
        let mut keys: Vec<_> = store.builds.all_keys()?.into_iter().collect();
        if keys.len() > limit {
            let built =
                |key: &Digest| fs::metadata(store.layout().records(*key)).and_then(|folder| folder.modified()).ok();
            keys.sort_by_cached_key(|key| Reverse(built(key)));
        }
        let mut builds = Vec::new();
        for key in keys {
            if builds.len() >= limit {
                return Ok(Self { builds, is_complete: false });
            }
            let KeyBuilds { records, past, .. } = store.builds.of(key)?;
            builds.extend(records.into_values().map(|record| build(record, true)));
            builds.extend(past.into_values().map(|record| build(record, false)));
        }
        Ok(Self { builds, is_complete: true })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::key::KeyInput;

    fn key_record(kind: &str) -> KeyRecord {
        let (settings, inputs) = (serde_json::Map::new(), BTreeMap::new());
        let machine = BTreeMap::new();
        KeyInput {
            kind,
            revision: 1,
            settings: &settings,
            seed: None,
            inputs: &inputs,
            sources: &[],
            machine: &machine,
        }
        .record()
    }

    #[test]
    fn a_build_that_was_not_read_may_have_any_recipe() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        for number in 0..3 {
            let record = json!({
                "key": Digest::of(&[number]), "kind": "built", "revision": 1, "outputs": {}, "key_record": key_record("built"),
                "started": 0, "seconds": 1.0, "threads": 1, "device": Device::Cpu, "machine": Machine::this(), "program": "",
            });
            store.builds.record(&serde_json::from_value(record).unwrap()).unwrap();
        }
        let may_have = |limit, kind| {
            let history = History(OnceLock::from(Recorded::read(&store, limit).unwrap()));
            history.may_have(&store, &Recipe::of(&key_record(kind))).unwrap()
        };
        assert_eq!((may_have(3, "built"), may_have(3, "other")), (true, false));
        assert_eq!((may_have(2, "built"), may_have(2, "other")), (true, true));
    }
}
