//! The comparison of a stage's output with that of the build that its reasons refer to.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use contract::Digest;

use super::context::RunContext;
use crate::key::KeyRecord;
use crate::manifest::StageDeclaration;
use crate::plan::{Baseline, Reason, StageKey};

/// The comparison.
#[derive(Debug, Default)]
pub(super) struct OutputComparison {
    /// The build compared with.
    pub(super) compared_with: Option<String>,
    /// The ports with the same content.
    pub(super) unchanged: Vec<String>,
    /// The difference as the kind describes it.
    pub(super) compared: Option<String>,
    /// The differences of the keys, if every port has the same content.
    pub(super) without_effect: Vec<String>,
}

impl OutputComparison {
    /// Compares the output of a stage with that of an earlier build, if there is one.
    pub(super) fn new(
        baseline: Option<&Baseline>,
        context: &RunContext<'_>,
        stage: &StageDeclaration,
        key: &StageKey,
        outputs: &BTreeMap<String, Digest>,
    ) -> Self {
        let Some(baseline) = baseline else { return Self::default() };
        let unchanged = outputs.iter().filter(|(port, tree)| baseline.outputs.get(*port) == Some(tree));
        let unchanged: Vec<_> = unchanged.map(|(port, _)| port.clone()).collect();
        // The older output may have been removed or damaged meanwhile: then the kind cannot describe the difference.
        let readable = |outputs| context.store.objects.readable(outputs);
        let compare = || stage.stage.compare(&readable(&baseline.outputs), &readable(outputs));
        let compared = catch_unwind(AssertUnwindSafe(compare)).ok().flatten();
        let without_effect = match unchanged.len() == outputs.len() {
            true => {
                let differences = KeyRecord::differences(&baseline.key_record, &key.key_record);
                Reason::of(context.manifest, stage, &differences).iter().map(Reason::difference).collect()
            }
            false => Vec::new(),
        };
        Self { compared_with: Some(baseline.build.text()), unchanged, compared, without_effect }
    }
}
