//! The keys that were ever built.

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
        let folder = self.layout().root().join("records");
        let mut keys: Vec<_> =
            names_if_folder(&folder)?.iter().filter_map(|name| name.parse::<Digest>().ok()).collect();
        keys.sort_unstable();
        Ok(keys)
    }
}
