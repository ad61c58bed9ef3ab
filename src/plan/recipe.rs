//! What a key holds besides what it reads: kind, revision, settings and seed. Known before any input is.

use std::collections::BTreeMap;

use crate::key::{KeyDifference, KeyRecord};
use crate::manifest::StageDeclaration;

use super::Decider;

/// A key less its inputs and sources.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Recipe(Vec<(String, String)>);

impl Recipe {
    /// That of a key written out.
    pub(super) fn of(record: &KeyRecord) -> Self {
        let own = record.leaves().iter().filter(|leaf| !leaf.key_path().is_content());
        Self(own.map(|leaf| (leaf.path.clone(), leaf.value.clone())).collect())
    }
}

/// The key of a stage written out, less what it reads.
pub(super) fn own_record(decider: &Decider<'_>, stage: &StageDeclaration) -> KeyRecord {
    decider.keyed(stage, &BTreeMap::new(), Default::default()).record
}

/// Where the stage's own settings differ from those of a key written out.
pub(super) fn own_differences(old: &KeyRecord, own: &KeyRecord) -> Vec<KeyDifference> {
    let mut differences = KeyRecord::differences(old, own);
    differences.retain(|difference| !difference.path.is_content());
    differences
}
