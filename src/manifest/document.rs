//! A TOML document with the span of every key and value.
//!
//! Documents of several files are merged ([`Table::overlay`]); each value keeps its span.

use std::collections::BTreeMap;

use serde_json::{Number, Value as Json};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::source::{SourceId, Span};

/// A value with its span.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// The span of the value; for a table with a header, the span of the header.
    pub span: Span,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    String(String),
    /// An integer, saturated to 128 bits; no setting allows more than 64 bits.
    Integer(i128),
    Float(f64),
    Boolean(bool),
    /// A date or time: no setting allows one.
    Datetime,
    Array(Vec<Node>),
    Table(Table),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Table(pub BTreeMap<String, Entry>);

#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The span of the key.
    pub key: Span,
    pub node: Node,
}

impl Value {
    /// Describes its type.
    pub fn described(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Boolean(_) => "a boolean",
            Self::Datetime => "a date or time",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

impl Node {
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Converts it to JSON.
    ///
    /// # Errors
    /// Returns the first value in it that JSON cannot represent.
    pub fn json(&self) -> Result<Json, &Self> {
        Ok(match &self.value {
            Value::String(text) => Json::String(text.clone()),
            Value::Integer(integer) => match i64::try_from(*integer) {
                Ok(integer) => Json::from(integer),
                Err(_) => Json::from(u64::try_from(*integer).map_err(|_| self)?),
            },
            Value::Float(float) => Json::Number(Number::from_f64(*float).ok_or(self)?),
            Value::Boolean(boolean) => Json::Bool(*boolean),
            Value::Datetime => return Err(self),
            Value::Array(items) => Json::Array(items.iter().map(Self::json).collect::<Result<_, _>>()?),
            Value::Table(table) => {
                let fields = table.0.iter().map(|(key, entry)| Ok((key.clone(), entry.node.json()?)));
                Json::Object(fields.collect::<Result<_, _>>()?)
            }
        })
    }

    /// Converts a value of the source `source`.
    pub fn of(source: SourceId, value: Spanned<DeValue<'_>>) -> Self {
        let span = Span::new(source, value.span());
        let value = match value.into_inner() {
            DeValue::String(text) => Value::String(text.into_owned()),
            DeValue::Integer(integer) => {
                let overflow = if integer.as_str().starts_with('-') { i128::MIN } else { i128::MAX };
                Value::Integer(i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(overflow))
            }
            // The parser has checked the syntax; NaN is rejected later, with infinities.
            DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(boolean) => Value::Boolean(boolean),
            DeValue::Datetime(_) => Value::Datetime,
            DeValue::Array(items) => Value::Array(items.into_iter().map(|item| Self::of(source, item)).collect()),
            DeValue::Table(table) => Value::Table(Table::of(source, table)),
        };
        Self { span, value }
    }
}

impl Table {
    /// Converts a table of the source `source`.
    pub fn of(source: SourceId, table: DeTable<'_>) -> Self {
        let entry = |(key, value): (Spanned<DeString<'_>>, Spanned<DeValue<'_>>)| {
            let span = Span::new(source, key.span());
            (key.into_inner().into_owned(), Entry { key: span, node: Node::of(source, value) })
        };
        Self(table.into_iter().map(entry).collect())
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.0.get(key)
    }

    /// Returns the table at a key.
    pub fn table(&self, key: &str) -> Option<&Self> {
        self.get(key)?.node.as_table()
    }

    /// Returns the entries in the order in which they are written.
    pub fn in_order(&self) -> Vec<(&str, &Entry)> {
        let mut entries: Vec<_> = self.0.iter().map(|(key, entry)| (key.as_str(), entry)).collect();
        entries.sort_by_key(|(_, entry)| entry.key);
        entries
    }

    /// Merges `later` into this: tables merge at any depth, other values are replaced. A merged table keeps its first span.
    pub fn overlay(&mut self, later: Self) {
        for (key, entry) in later.0 {
            match (self.0.get_mut(&key).map(|base| &mut base.node.value), entry) {
                (Some(Value::Table(base)), Entry { node: Node { value: Value::Table(later), .. }, .. }) => {
                    base.overlay(later);
                }
                (_, entry) => drop(self.0.insert(key, entry)),
            }
        }
    }
}
