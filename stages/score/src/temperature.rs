//! The temperature at which samples were drawn, used to group them.

use std::cmp::Ordering;
use std::fmt;

use contract::{Result, StageError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A temperature, or none if it is not stated; none sorts first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Temperature(Option<f64>);

impl Temperature {
    /// Creates a temperature from 0 to 1000, or none.
    ///
    /// # Errors
    /// Returns an error for any other number.
    pub fn new(value: Option<f64>) -> Result<Self> {
        match value {
            Some(value) if !(0.0..=1000.0).contains(&value) => {
                Err(StageError::new(format!("the temperature {value} is not between 0 and 1000")))
            }
            // Negative zero is zero.
            value => Ok(Self(value.map(|value| value + 0.0))),
        }
    }

    /// Returns the number.
    pub fn value(self) -> Option<f64> {
        self.0
    }
}

// The numbers are finite, and zero has one sign.
impl Eq for Temperature {}

impl Ord for Temperature {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.0, other.0) {
            (Some(one), Some(other)) => one.total_cmp(&other),
            (one, other) => one.is_some().cmp(&other.is_some()),
        }
    }
}

impl PartialOrd for Temperature {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Formats the temperature: `0.2`, or `not stated`.
impl fmt::Display for Temperature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "{value}"),
            None => f.write_str("not stated"),
        }
    }
}

impl Serialize for Temperature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Temperature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Option::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperatures_are_ordered_and_bounded() {
        let of = |value| Temperature::new(value).unwrap();
        assert!(of(None) < of(Some(0.0)) && of(Some(0.2)) < of(Some(0.8)));
        assert_eq!(of(Some(-0.0)), of(Some(0.0)));
        assert_eq!(of(Some(-0.0)).cmp(&of(Some(0.0))), Ordering::Equal);
        assert_eq!((of(Some(0.2)).to_string(), of(None).to_string()), ("0.2".to_owned(), "not stated".to_owned()));
        for wrong in [-1.0, 1000.1, f64::NAN, f64::INFINITY] {
            assert!(Temperature::new(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
