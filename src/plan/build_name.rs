//! The name of a build.

use contract::Digest;
use serde::Serialize;

use crate::store::Record;

/// A build, named for people and for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuildName {
    /// Its key.
    pub key: Digest,
    /// The name of the run that built it, if recorded.
    pub run: Option<String>,
    /// The number of the run that built it.
    pub number: Option<u32>,
    /// The start time, in milliseconds since 1970.
    pub started_ms: Option<u64>,
}

impl BuildName {
    /// Returns the name of a recorded build.
    pub fn of(record: &Record) -> Self {
        let run = Some(record.run.clone()).filter(|run| !run.is_empty());
        Self { key: record.key, run, number: record.number, started_ms: Some(record.started) }
    }

    /// Formats it as the run that built it, `quickstart.3`; otherwise as `build 0123456789ab`.
    pub fn text(&self) -> String {
        match (&self.run, self.number) {
            (Some(run), Some(number)) => format!("{run}.{number}"),
            (Some(run), None) => format!("build {} of run '{run}'", self.key.short()),
            (None, _) => format!("build {}", self.key.short()),
        }
    }
}
