//! The keys that were ever built.

use std::collections::BTreeSet;

use contract::Digest;

use super::Store;
use super::error::Result;
use super::names::names_if_folder;

impl Store {
    /// Every key with a build on record, sorted.
    ///
    /// # Errors
    /// When the folder of records cannot be read.
    pub fn keys(&self) -> Result<Vec<Digest>> {
        Ok(self.keys_in("records")?.into_iter().collect())
    }

    /// Every key that was ever built and is remembered, sorted: those too of which only the ledger is left.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn all_keys(&self) -> Result<BTreeSet<Digest>> {
        let mut keys = self.keys_in("records")?;
        keys.extend(self.keys_in("ledger")?);
        Ok(keys)
    }

    fn keys_in(&self, folder: &str) -> Result<BTreeSet<Digest>> {
        let names = names_if_folder(&self.layout().folder(folder))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }
}
