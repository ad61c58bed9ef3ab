//! The explanation of a key: its content as an ordered list of leaves, stored with each build, and the difference between two explanations.
//!
//! A leaf is a path and a value: `settings.learning_rate = 0.0005`, `inputs.documents = "<digest>"`. An array of scalars
//! is one leaf (`settings.allow = ["mit", "isc"]`), so that an added item is one difference; an empty object or array below
//! `settings` is a leaf too. A name with characters other than letters, digits, `_` and `-` is quoted in the path. Two
//! records are equal if and only if their keys are.
//!
//! Values are stored as JSON text: equal text means equal values, and floats are read back exactly.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use contract::push_key;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::canonical::Canonical;
use super::path::KeyPath;

/// The explanation of a key. Clones share it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyRecord(Arc<[Leaf]>);

impl Serialize for KeyRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0[..].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for KeyRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(|leaves| Self(leaves.into()))
    }
}

/// One value of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// The path, as text: `settings.rules.line_max`.
    pub path: String,
    /// The value, as JSON text.
    pub value: String,
}

impl Leaf {
    /// Returns the path.
    pub fn key_path(&self) -> KeyPath {
        KeyPath::parse(&self.path)
    }
}

/// A value that differs between two keys.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyDifference {
    /// The path of the value.
    pub path: KeyPath,
    /// The value in the older key; `None` if the setting was at its default.
    pub old: Option<Value>,
    /// The value in the newer key; `None` if the setting is at its default.
    pub new: Option<Value>,
}

impl KeyRecord {
    /// Creates the record of a key's members. An empty one has no leaf.
    pub(super) fn of(members: &[(&str, Canonical<'_>)]) -> Self {
        let mut leaves = Vec::new();
        for (name, value) in members {
            match value {
                Canonical::Object(fields) if fields.is_empty() => {}
                Canonical::Array(items) if items.is_empty() => {}
                value => push_leaves(&mut leaves, &mut (*name).to_owned(), value),
            }
        }
        Self(leaves.into())
    }

    /// Returns all leaves, in canonical order.
    pub fn leaves(&self) -> &[Leaf] {
        &self.0
    }

    /// Returns the facts of the machine by name.
    pub fn machine_facts(&self) -> BTreeMap<String, String> {
        let fact = |leaf: &Leaf| match leaf.key_path() {
            KeyPath::Machine(name) => Some((name, parse(&leaf.value).as_str()?.to_owned())),
            _ => None,
        };
        self.0.iter().filter_map(fact).collect()
    }

    /// Returns the differences from `old` to `new`, sorted by path. A key does not name external files: each added or removed file is a
    /// separate difference at `sources`.
    pub fn differences(old: &Self, new: &Self) -> Vec<KeyDifference> {
        let by_path = |record: &Self| -> BTreeMap<_, _> {
            record.0.iter().map(|leaf| (leaf.key_path(), leaf.value.clone())).collect()
        };
        let (old, new) = (by_path(old), by_path(new));
        let mut differences = Vec::new();
        for path in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
            let (old, new) = (old.get(path), new.get(path));
            if old == new {
                continue;
            }
            let (old, new) = (old.map(|text| parse(text)), new.map(|text| parse(text)));
            if *path == KeyPath::Sources {
                differences.extend(sources(old, new));
            } else {
                differences.push(KeyDifference { path: path.clone(), old, new });
            }
        }
        differences
    }
}

impl fmt::Display for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|leaf| writeln!(f, "{} = {}", leaf.path, leaf.value))
    }
}

/// Parses JSON text. serde_json may parse a float with a wrong last bit.
fn parse(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(Value::Number(number)) if number.is_f64() => text.parse::<f64>().map_or(Value::Null, Value::from),
        Ok(value) => value,
        // Written by another program: shown unchanged.
        Err(_) => Value::String(text.to_owned()),
    }
}

/// Returns the digests that only one of two sorted lists has.
fn sources(old: Option<Value>, new: Option<Value>) -> Vec<KeyDifference> {
    let items = |value| match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let (old, mut added) = (items(old), items(new));
    let mut removed = Vec::new();
    for digest in old {
        match added.iter().position(|other| *other == digest) {
            Some(same) => drop(added.remove(same)),
            None => removed.push(digest),
        }
    }
    let difference = |old, new| KeyDifference { path: KeyPath::Sources, old, new };
    let removed = removed.into_iter().map(|digest| difference(Some(digest), None));
    removed.chain(added.into_iter().map(|digest| difference(None, Some(digest)))).collect()
}

/// Appends the leaves of a value.
fn push_leaves(leaves: &mut Vec<Leaf>, path: &mut String, value: &Canonical<'_>) {
    let length = path.len();
    match value {
        Canonical::Object(fields) if !fields.is_empty() => {
            for (name, field) in fields {
                push_key(path, name);
                push_leaves(leaves, path, field);
                path.truncate(length);
            }
        }
        Canonical::Array(items) if !items.iter().all(Canonical::is_scalar) => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                push_leaves(leaves, path, item);
                path.truncate(length);
            }
        }
        leaf => leaves.push(Leaf { path: path.clone(), value: leaf.to_string() }),
    }
}
