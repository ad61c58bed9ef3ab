//! The determinism ledger: keys whose builds gave different outputs.

use contract::Digest;
use serde::Serialize;

use super::Store;
use super::error::Result;
use super::record::Record;

/// A key whose builds gave different outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LedgerEntry {
    /// The key.
    pub key: Digest,
    /// The stage kind.
    pub kind: String,
    /// The run that built it first.
    pub run: String,
    /// What that run called the stage.
    pub stage: String,
    /// Builds on record.
    pub builds: usize,
    /// Different outputs among them.
    pub distinct: usize,
}

impl Store {
    /// The determinism ledger: every key whose builds gave different outputs.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn ledger(&self) -> Result<Vec<LedgerEntry>> {
        let mut ledger = Vec::new();
        for key in self.keys()? {
            // Most keys were built once: their record need not be read.
            if self.record_files(key)?.len() < 2 {
                continue;
            }
            let builds = self.builds(key)?;
            let (distinct, count) = (builds.distinct(), builds.records.len());
            if let Some(first) = builds.records.into_values().next().filter(|_| distinct > 1) {
                let Record { kind, run, stage, .. } = first;
                ledger.push(LedgerEntry { key, kind, run, stage, builds: count, distinct });
            }
        }
        Ok(ledger)
    }
}
