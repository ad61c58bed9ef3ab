//! The explanation of a key: its content as an ordered list of leaves, kept beside each build, and the difference of two.
//!
//! A leaf is a path and a value: `settings.learning_rate = 0.0005`, `inputs.documents = "<digest>"`. An array of scalars
//! is one leaf (`settings.allow = ["mit", "isc"]`), so that a list with one more item differs in one place; an empty
//! object or array below `settings` is a leaf too. A name that is not made of letters, digits, `_` and `-` is quoted in
//! the path. Two records are equal exactly when the keys are.
//!
//! Values are kept as JSON text: equal text is an equal value, and a float reads back with every bit.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;

use contract::shortened_pair;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::sink::{Name, Scalar, Shape, Sink};

const SETTINGS: &str = "settings.";
const SOURCES: &str = "sources";

/// A key written out. Clones share it.
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
    /// Where it is: `settings.rules.line_max`.
    pub path: String,
    /// What it is, as JSON text.
    pub value: String,
}

/// A place where two keys differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Where: `settings.learning_rate`, `inputs.documents`, `sources`, `revision`.
    pub path: String,
    /// The value in the older key; a setting without one was at its default.
    pub old: Option<Value>,
    /// The value in the newer key; a setting without one is at its default.
    pub new: Option<Value>,
}

impl KeyRecord {
    /// All leaves, in the order of the traversal.
    pub fn leaves(&self) -> &[Leaf] {
        &self.0
    }

    /// Where `new` differs from `old`, sorted by path. External files have no names here: each that came or went is a
    /// difference of its own at `sources`.
    pub fn difference(old: &Self, new: &Self) -> Vec<Difference> {
        let by_path = |record: &Self| -> BTreeMap<String, String> {
            record.0.iter().map(|leaf| (leaf.path.clone(), leaf.value.clone())).collect()
        };
        let (old, new) = (by_path(old), by_path(new));
        let paths: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
        let mut differences = Vec::new();
        for path in paths {
            let (old, new) = (old.get(path), new.get(path));
            if old == new {
                continue;
            }
            let (old, new) = (old.map(|text| parse(text)), new.map(|text| parse(text)));
            if path == SOURCES {
                differences.extend(sources(old, new));
            } else {
                differences.push(Difference { path: path.clone(), old, new });
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

impl Difference {
    /// The setting's path in the manifest (`rules.line_max`), where the difference is in a setting.
    pub fn setting(&self) -> Option<&str> {
        self.path.strip_prefix(SETTINGS)
    }

    fn side(&self, value: Option<&Value>) -> String {
        match value {
            Some(value) => value.to_string(),
            None if self.setting().is_some() => "default".to_owned(),
            None => "none".to_owned(),
        }
    }
}

/// `learning_rate: 0.0005 -> 0.0006`; an absent setting is `default`, anything else absent is `none`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (old, new) = (self.side(self.old.as_ref()), self.side(self.new.as_ref()));
        let [old, new] = shortened_pair(&old, &new);
        write!(f, "{}: {old} -> {new}", self.setting().unwrap_or(&self.path))
    }
}

/// The value of JSON text. serde_json alone may miss a float by its last bit.
fn parse(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(Value::Number(number)) if number.is_f64() => text.parse::<f64>().map_or(Value::Null, Value::from),
        Ok(value) => value,
        // Written by another program: shown as it is.
        Err(_) => Value::String(text.to_owned()),
    }
}

/// The digests that only one of two sorted lists has.
fn sources(old: Option<Value>, new: Option<Value>) -> Vec<Difference> {
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
    let difference = |old, new| Difference { path: SOURCES.to_owned(), old, new };
    let removed = removed.into_iter().map(|digest| difference(Some(digest), None));
    removed.chain(added.into_iter().map(|digest| difference(None, Some(digest)))).collect()
}

/// Collects the leaves.
#[derive(Default)]
pub(super) struct RecordWriter {
    leaves: Vec<Leaf>,
    /// The path of what is open, and its length before each opening.
    path: String,
    opened: Vec<usize>,
}

impl RecordWriter {
    pub(super) fn finish(self) -> KeyRecord {
        KeyRecord(self.leaves.into())
    }

    /// Adds a name to the path; the length before.
    fn enter(&mut self, name: Name<'_>) -> usize {
        let before = self.path.len();
        match name {
            Name::Field(field) => {
                if before > 0 {
                    self.path.push('.');
                }
                let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                if !field.is_empty() && field.chars().all(bare) {
                    self.path.push_str(field);
                } else {
                    self.path.push_str(&Value::from(field).to_string());
                }
            }
            // Writing to a string does not fail.
            Name::Item(index) => drop(write!(self.path, "[{index}]")),
        }
        before
    }

    fn push(&mut self, name: Name<'_>, value: String) {
        let before = self.enter(name);
        self.leaves.push(Leaf { path: self.path.clone(), value });
        self.path.truncate(before);
    }
}

impl Sink for RecordWriter {
    fn open(&mut self, name: Name<'_>, shape: Shape, members: usize) {
        // `settings`, `inputs` and `sources` are always there: that one is empty is said by its having no leaf.
        if members == 0 && !self.opened.is_empty() {
            let empty = if shape == Shape::Object { "{}" } else { "[]" };
            self.push(name, empty.to_owned());
        }
        let before = self.enter(name);
        self.opened.push(before);
    }

    fn close(&mut self) {
        let before = self.opened.pop().unwrap_or_default();
        self.path.truncate(before);
    }

    fn leaf(&mut self, name: Name<'_>, value: Scalar<'_>) {
        let mut text = String::new();
        value.write(&mut text);
        self.push(name, text);
    }

    fn list(&mut self, name: Name<'_>, items: &[Scalar<'_>]) {
        if items.is_empty() && self.opened.is_empty() {
            return;
        }
        let mut text = String::from("[");
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            item.write(&mut text);
        }
        text.push(']');
        self.push(name, text);
    }
}
