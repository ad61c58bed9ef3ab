//! Users of a build: the stages whose last build it is, or else those of the newest runs that had it.

use std::collections::BTreeMap;

use contract::Digest;

use crate::report::RunLock;
use crate::store::{Inventory, RunDir};

/// The users recorded in the locks of runs; of the runs of a name, later ones are added last.
#[derive(Default)]
pub(super) struct Users {
    /// The users, as `run.3/stage`, by key, run and stage.
    earlier: BTreeMap<(Digest, String, String), String>,
}

impl Users {
    /// Adds the stages of a run's lock.
    pub(super) fn add(&mut self, run: &RunDir, lock: &RunLock) {
        for stage in &lock.stages {
            self.earlier.insert((stage.key, run.run.clone(), stage.name.clone()), format!("{run}/{}", stage.name));
        }
    }

    /// Returns `run/stage` of the last builds by key; for other builds, the users recorded in locks.
    pub(super) fn with_last_builds(self, inventory: &Inventory) -> BTreeMap<Digest, Vec<String>> {
        let mut users: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for (run, stages) in &inventory.runs {
            for (stage, last) in stages {
                users.entry(last.key).or_default().push(format!("{run}/{stage}"));
            }
        }
        let mut earlier = self.earlier;
        earlier.retain(|(key, ..), _| !users.contains_key(key));
        for ((key, ..), user) in earlier {
            users.entry(key).or_default().push(user);
        }
        users
    }
}
