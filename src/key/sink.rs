//! What the traversal of a key calls: implemented by the hash and by the explanation, and by nothing else.

use std::fmt::Write;

use contract::Digest;
use serde_json::Value;

/// Receives a key's content, depth first. Every [`Sink::open`] is followed by as many members as it announced, then by
/// [`Sink::close`].
pub trait Sink {
    /// Begins an object or an array with this many members.
    fn open(&mut self, name: Name<'_>, shape: Shape, members: usize);
    /// Ends the innermost open one.
    fn close(&mut self);
    /// A value without members.
    fn leaf(&mut self, name: Name<'_>, value: Scalar<'_>);
    /// An array that holds scalars only.
    fn list(&mut self, name: Name<'_>, items: &[Scalar<'_>]);
}

/// What a member is called within what holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    /// In an object.
    Field(&'a str),
    /// In an array, from 0.
    Item(usize),
}

/// What holds members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Members with names.
    Object,
    /// Members in order.
    Array,
}

/// A value without members, in its one canonical form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar<'a> {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer from 0 up.
    Unsigned(u64),
    /// An integer below 0.
    Signed(i64),
    /// A finite float, never -0.0.
    Float(f64),
    /// A text.
    Text(&'a str),
    /// A content digest.
    Digest(Digest),
}

impl<'a> Scalar<'a> {
    /// The scalar that a JSON value is, if it is one.
    pub fn of(value: &'a Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::String(value) => Self::Text(value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => Self::Unsigned(value),
                (None, Some(value)) => Self::Signed(value),
                // Adding 0.0 turns -0.0 into 0.0 and changes no other float.
                (None, None) => Self::Float(number.as_f64()? + 0.0),
            },
            Value::Array(_) | Value::Object(_) => return None,
        })
    }

    /// Adds it as JSON text.
    pub fn write(self, text: &mut String) {
        // Writing to a string does not fail.
        let _ = match self {
            Self::Null => text.write_str("null"),
            Self::Bool(value) => write!(text, "{value}"),
            Self::Unsigned(value) => write!(text, "{value}"),
            Self::Signed(value) => write!(text, "{value}"),
            Self::Float(value) => write!(text, "{}", Value::from(value)),
            Self::Text(value) => write!(text, "{}", Value::from(value)),
            Self::Digest(value) => write!(text, "\"{value}\""),
        };
    }
}
