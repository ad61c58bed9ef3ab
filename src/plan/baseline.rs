//! The build that a stage is compared with: by the reasons of `plan`, `why` and `run`, and by what `run` says of the
//! difference in the output. It is chosen here alone, so that all of them speak of the same one, and it is named.

use std::collections::BTreeMap;

use contract::Digest;
use serde::Serialize;

use super::reason::Reason;
use crate::key::{KeyDifference, KeyRecord};
use crate::manifest::{Manifest, StageDeclaration};
use crate::store::Record;

/// An earlier build of a stage: of those of its name and kind that were built or used by runs of this name, the one whose
/// key differs in the fewest places; of equals the one that was used last, then the newest. Where this run has none, the
/// nearest of any other run, which says what the stage is like and nothing of its history.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// Which build.
    pub build: BuildName,
    /// Its key written out.
    pub record: KeyRecord,
    /// The tree of each output port.
    pub outputs: BTreeMap<String, Digest>,
    /// Bytes that it read, where they are on record.
    pub(super) read: Option<u64>,
    /// Whether a run of this name built or used it.
    pub is_own: bool,
}

/// A build, named for people and for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuildName {
    /// Its key.
    pub key: Digest,
    /// The name of the run that built it, where that is on record.
    pub run: Option<String>,
    /// Which run of that name.
    pub number: Option<u32>,
    /// When it was built, in milliseconds since 1970.
    pub started_ms: Option<u64>,
}

impl BuildName {
    /// That of a build on record.
    pub fn of(record: &Record) -> Self {
        let run = Some(record.run.clone()).filter(|run| !run.is_empty());
        Self { key: record.key, run, number: record.number, started_ms: Some(record.started) }
    }

    /// For people: `quickstart.3`, the run that built it; else `build 0123456789ab`.
    pub fn text(&self) -> String {
        match (&self.run, self.number) {
            (Some(run), Some(number)) => format!("{run}.{number}"),
            (Some(run), None) => format!("build {} of run '{run}'", self.key.short()),
            (None, _) => format!("build {}", self.key.short()),
        }
    }
}

impl Baseline {
    /// The reasons that a key gives which differs from this build's in these places; none where nothing differs.
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

/// The reasons of a stage as lines for people. The first one that compares names the build that it compares with.
pub fn reason_lines(reasons: &[Reason], baseline: Option<&BuildName>) -> Vec<String> {
    let mut baseline = baseline;
    let line = |reason: &Reason| match baseline.take_if(|_| reason.compares()) {
        Some(build) => format!("since {}: {}", build.text(), reason.text()),
        None => reason.text(),
    };
    reasons.iter().map(line).collect()
}
