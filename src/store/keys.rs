//! The keys that were ever built.

use std::fs;

use contract::Digest;

use super::Store;
use super::error::{Result, StoreError};

impl Store {
    /// Every key with a build on record, sorted.
    ///
    /// # Errors
    /// When the folder of records cannot be read.
    pub fn keys(&self) -> Result<Vec<Digest>> {
        let folder = self.layout().root().join("records");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::io("read", &folder)(error)),
        };
        let mut keys = Vec::new();
        for entry in entries {
            let name = entry.map_err(StoreError::io("read", &folder))?.file_name();
            keys.extend(name.to_str().and_then(|name| name.parse::<Digest>().ok()));
        }
        keys.sort_unstable();
        Ok(keys)
    }
}
