//! The names in a folder of the store.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::error::{Result, StoreError};
use super::text::is_link;

/// The names in a folder, sorted; none where there is no folder. Names that are no text are nobody's.
pub(super) fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io("read", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(StoreError::io("read", folder))?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// The same where a foreign file may lie in the folder's place: it has none.
pub(super) fn names_if_folder(path: &Path) -> Result<Vec<String>> {
    match names(path) {
        Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotADirectory || is_link(&source) => {
            Ok(Vec::new())
        }
        names => names,
    }
}
