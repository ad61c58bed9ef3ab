//! The output of a stage against that of the build that its reasons compare with.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use contract::Digest;

use super::execution::Shared;
use crate::key::KeyRecord;
use crate::manifest::StageDeclaration;
use crate::plan::{Baseline, Keyed, Reason};

/// The comparison.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// The build compared with.
    pub(super) compared_with: Option<String>,
    /// The ports that hold what they held there.
    pub(super) unchanged: Vec<String>,
    /// What differs, in the words of the kind.
    pub(super) compared: Option<String>,
    /// What differs in the key, where every port holds what it held there.
    pub(super) without_effect: Vec<String>,
}

impl Change {
    /// Compares the output of a stage with that of an earlier build; nothing is said where there is none.
    pub(super) fn since(
        baseline: Option<&Baseline>,
        shared: &Shared<'_>,
        stage: &StageDeclaration,
        keyed: &Keyed,
        outputs: &BTreeMap<String, Digest>,
    ) -> Self {
        let Some(baseline) = baseline else { return Self::default() };
        let unchanged = outputs.iter().filter(|(port, tree)| baseline.outputs.get(*port) == Some(tree));
        let unchanged: Vec<_> = unchanged.map(|(port, _)| port.clone()).collect();
        // The older output may be gone or damaged by now: then there are no words for it.
        let compare = || {
            stage
                .stage
                .compare(&shared.store.objects.readable(&baseline.outputs), &shared.store.objects.readable(outputs))
        };
        let compared = catch_unwind(AssertUnwindSafe(compare)).ok().flatten();
        let without_effect = match unchanged.len() == outputs.len() {
            true => {
                let differences = KeyRecord::differences(&baseline.record, &keyed.record);
                Reason::of(shared.manifest, stage, &differences).iter().map(Reason::difference).collect()
            }
            false => Vec::new(),
        };
        Self { compared_with: Some(baseline.build.text()), unchanged, compared, without_effect }
    }
}
