//! The build that a stage is compared with, by the reasons of `plan`, `why` and `run` and by the output comparison of `run`. It is
//! chosen in one place, so that all of them refer to the same build, and they name it.

use std::collections::BTreeMap;

use contract::Digest;

use super::build_name::BuildName;
use super::reason::Reason;
use crate::key::{KeyDifference, KeyRecord};
use crate::manifest::{Manifest, StageDeclaration};

/// An earlier build of a stage. Of the builds of its name and kind that runs of this name built or used, it is the one whose key
/// differs in the fewest places; of equals the one used last, then the newest. Where this run has none, the nearest build of any
/// other run takes its place: it shows what the stage is like, but is not part of its history.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// Which build.
    pub build: BuildName,
    /// The content of its key.
    pub key_record: KeyRecord,
    /// The tree of each output port.
    pub outputs: BTreeMap<String, Digest>,
    /// Bytes that it read, if they are on record.
    pub(super) read: Option<u64>,
    /// Whether a run of this name built or used it.
    pub is_own: bool,
}

impl Baseline {
    /// Returns the reasons for which a key differs from this build's in these places; none where nothing differs.
    pub(super) fn reasons(
        &self,
        manifest: &Manifest,
        stage: &StageDeclaration,
        differences: &[KeyDifference],
    ) -> Vec<Reason> {
        let reasons = Reason::of(manifest, stage, differences);
        match self.is_own || reasons.is_empty() {
            true => reasons,
            false => vec![Reason::NeverBuilt { closest: Some(self.build.clone()), differences: reasons }],
        }
    }
}

/// Formats reasons, a line each. The first one that compares names the build that it compares with.
pub fn reason_lines(reasons: &[Reason], baseline: Option<&BuildName>) -> Vec<String> {
    let mut baseline = baseline;
    let line = |reason: &Reason| match baseline.take_if(|_| reason.compares()) {
        Some(build) => format!("since {}: {}", build.text(), reason.text()),
        None => reason.text(),
    };
    reasons.iter().map(line).collect()
}
