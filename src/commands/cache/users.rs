//! Who uses a build: the stages whose last build it is, else those of the newest runs that had it.

use std::collections::BTreeMap;

use contract::Digest;

use crate::report::RunLock;
use crate::store::{Census, RunFolder};

/// What the locks of runs say, the later runs of a name last.
#[derive(Default)]
pub(super) struct Users {
    /// By key, run and stage: `run.3/stage`.
    earlier: BTreeMap<(Digest, String, String), String>,
}

impl Users {
    /// Takes what a run's lock says.
    pub(super) fn add(&mut self, run: &RunFolder, lock: &RunLock) {
        for stage in &lock.stages {
            self.earlier.insert((stage.key, run.run.clone(), stage.name.clone()), format!("{run}/{}", stage.name));
        }
    }

    /// By key: `run/stage` of those whose last build has it; where there is none, what the locks say.
    pub(super) fn with_last_builds(self, census: &Census) -> BTreeMap<Digest, Vec<String>> {
        let mut users: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for (run, stages) in &census.runs {
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
