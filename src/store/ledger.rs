//! The determinism ledger: keys whose builds gave different outputs.
//!
//! A build whose bytes went to make room, or are not whole and were found so by a repair, stays in it: its record moves from
//! `records/` to `ledger/`.

use std::fs;
use std::io::ErrorKind;

use contract::Digest;
use serde::Serialize;

use super::error::{Result, StoreError};
use super::record::Record;
use super::{Store, write};

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
        for key in self.all_keys()? {
            // Most keys were built once: their record need not be read.
            if self.record_files(key)?.len() + self.past_files(key)?.len() < 2 {
                continue;
            }
            let builds = self.builds(key)?;
            let (distinct, count) = (builds.distinct(), builds.count());
            let first = builds.first().filter(|_| distinct > 1);
            if let Some(Record { kind, run, stage, .. }) = first.cloned() {
                ledger.push(LedgerEntry { key, kind, run, stage, builds: count, distinct });
            }
        }
        Ok(ledger)
    }

    /// Takes a build off the record of what there is, and keeps what it gave in the ledger.
    pub(super) fn write_off(&self, key: Digest, build: u32) -> Result<()> {
        let record = self.layout().record(key, build);
        let folder = self.layout().ledger(key);
        write::make_folder(&folder)?;
        let past = folder.join(record.file_name().unwrap_or_default());
        match fs::rename(&record, &past) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            renamed => renamed.map_err(StoreError::io("move", &record)),
        }
    }
}
