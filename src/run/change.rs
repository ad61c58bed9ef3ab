//! What a stage gave against what it gave last in runs of the same name.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use contract::Digest;

use super::execution::Shared;
use crate::key::KeyRecord;
use crate::manifest::StageDeclaration;
use crate::plan::{Keyed, Reason};
use crate::store::StoreError;

/// The comparison.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// The ports that hold what they held before.
    pub(super) unchanged: Vec<String>,
    /// What differs, in the words of the kind.
    pub(super) compared: Option<String>,
    /// What of the key was not as before, where every port holds what it held.
    pub(super) without_effect: Vec<String>,
}

impl Change {
    /// Compares what a stage has just given with its last build; nothing is said where there is none.
    pub(super) fn since_last(
        shared: &Shared<'_>,
        stage: &StageDeclaration,
        keyed: &Keyed,
        given: &BTreeMap<String, Digest>,
    ) -> Result<Self, StoreError> {
        let Some(last) = shared.store.last_build(&shared.manifest.name, stage.name.as_str())? else {
            return Ok(Self::default());
        };
        let unchanged = given.iter().filter(|(port, tree)| last.outputs.get(*port) == Some(tree));
        let unchanged: Vec<_> = unchanged.map(|(port, _)| port.clone()).collect();
        // What was given last may be gone or damaged by now: then there are no words for it.
        let compare = || stage.stage.compare(&shared.store.readable(&last.outputs), &shared.store.readable(given));
        let compared = catch_unwind(AssertUnwindSafe(compare)).ok().flatten();
        let without_effect = match unchanged.len() == given.len() {
            true => {
                let differences = KeyRecord::difference(&last.key_record, &keyed.record);
                Reason::of(shared.manifest, stage, &differences).iter().map(Reason::text).collect()
            }
            false => Vec::new(),
        };
        Ok(Self { unchanged, compared, without_effect })
    }
}
