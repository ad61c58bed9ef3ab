//! The build that a stage is compared with. The reasons of `plan`, `why` and `run` and the output comparison of `run` all refer to this
//! build, and name it.

use std::collections::BTreeMap;

use contract::Digest;

use super::build_name::BuildName;
use super::reason::Reason;
use crate::key::{KeyDifference, KeyRecord};
use crate::manifest::{Manifest, StageDeclaration};

/// An earlier build of a stage. Of the builds of its name and kind that runs of this name built or used, it is the one whose key has the
/// fewest differences; ties go to the build used last, then to the newest. If there is none, the nearest build of another run is used: it
/// is similar to the stage, but not part of its history.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// The build.
    pub build: BuildName,
    /// The content of its key.
    pub key_record: KeyRecord,
    /// The tree of each output port.
    pub outputs: BTreeMap<String, Digest>,
    /// Bytes that it read, if recorded.
    pub(super) read: Option<u64>,
    /// Whether a run of this name built or used it.
    pub is_own: bool,
}

impl Baseline {
    /// Converts the differences of a key from this build's key to reasons.
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

/// Formats reasons, one per line. The first reason that refers to an earlier build names that build.
pub fn reason_lines(reasons: &[Reason], baseline: Option<&BuildName>) -> Vec<String> {
    let mut baseline = baseline;
    let line = |reason: &Reason| match baseline.take_if(|_| reason.compares()) {
        Some(build) => format!("since {}: {}", build.text(), reason.text()),
        None => reason.text(),
    };
    reasons.iter().map(line).collect()
}
