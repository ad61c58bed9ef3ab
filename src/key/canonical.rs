//! The canonical form of a key's content.
//!
//! Fields of an object are sorted by the bytes of their names; arrays keep their order. Numbers: an integer of at least 0 is unsigned, a
//! negative one signed, a number written with a fraction or an exponent is a float, with -0.0 normalised to 0.0. JSON has neither NaN nor
//! infinity.

use std::fmt::{self, Write};

use contract::Digest;
use serde_json::Value;

/// A value in canonical form.
pub(super) enum Canonical<'a> {
    Null,
    Bool(bool),
    /// An integer of at least 0.
    Unsigned(u64),
    /// A negative integer.
    Signed(i64),
    /// A finite float, never -0.0.
    Float(f64),
    Text(&'a str),
    Digest(Digest),
    Array(Vec<Canonical<'a>>),
    /// The fields, sorted by name.
    Object(Vec<(&'a str, Canonical<'a>)>),
}

impl<'a> Canonical<'a> {
    pub fn of(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::String(value) => Self::Text(value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), ..) => Self::Unsigned(value),
                (_, Some(value), _) => Self::Signed(value),
                // Adding 0.0 turns -0.0 into 0.0 and changes no other float.
                (.., value) => Self::Float(value.unwrap_or_default() + 0.0),
            },
            Value::Array(items) => Self::Array(items.iter().map(Self::of).collect()),
            Value::Object(fields) => Self::object(fields),
        }
    }

    pub fn object(fields: &'a serde_json::Map<String, Value>) -> Self {
        let mut fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), Self::of(value))).collect();
        // A serde_json map keeps insertion order if any crate enables its feature `preserve_order`.
        fields.sort_unstable_by_key(|(name, _)| *name);
        Self::Object(fields)
    }

    /// Returns whether the value is neither an array nor an object.
    pub const fn is_scalar(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Object(_))
    }
}

/// Formats a scalar, or an array of scalars, as JSON text.
impl fmt::Display for Canonical<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Unsigned(value) => write!(f, "{value}"),
            Self::Signed(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{}", Value::from(*value)),
            Self::Text(value) => write!(f, "{}", Value::from(*value)),
            Self::Digest(value) => write!(f, "\"{value}\""),
            Self::Array(items) => {
                f.write_char('[')?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if index > 0 { "," } else { "" })?;
                }
                f.write_char(']')
            }
            Self::Object(_) => f.write_str("{}"),
        }
    }
}
