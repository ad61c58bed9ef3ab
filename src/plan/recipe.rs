//! The content of a key without the inputs: kind, revision, settings and seed. It is known before any input is.

use crate::key::{KeyDifference, KeyRecord};

/// A key without its inputs and sources.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Recipe(Vec<(String, String)>);

impl Recipe {
    /// Returns the recipe in the content of a key.
    pub(super) fn of(record: &KeyRecord) -> Self {
        let own = record.leaves().iter().filter(|leaf| !leaf.key_path().is_content());
        Self(own.map(|leaf| (leaf.path.clone(), leaf.value.clone())).collect())
    }
}

/// Returns the differences between the recipe of a stage and that of another key.
pub(super) fn recipe_differences(old: &KeyRecord, new: &KeyRecord) -> Vec<KeyDifference> {
    let mut differences = KeyRecord::differences(old, new);
    differences.retain(|difference| !difference.path.is_content());
    differences
}
