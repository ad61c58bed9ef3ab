//! A number of bytes with an optional unit: `536870912`, `"512MiB"`, `"1.5GB"`. A letter alone is a power of 1024, as in
//! coreutils: `50G` is `50GiB`.

use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// The error for a string that is not a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a number of bytes: write 536870912, 512MiB, 50G or 1.5GB", .0.escape_debug())]
pub struct NotAByteSize(String);

const UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("B", 1),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("T", 1 << 40),
    ("KIB", 1 << 10),
    ("MIB", 1 << 20),
    ("GIB", 1 << 30),
    ("TIB", 1 << 40),
];

impl FromStr for ByteSize {
    type Err = NotAByteSize;

    fn from_str(text: &str) -> Result<Self, NotAByteSize> {
        let error = || NotAByteSize(text.to_owned());
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text[digits.len()..].to_ascii_uppercase();
        let number: f64 = digits.trim_end().parse().map_err(|_| error())?;
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
        let bytes = number * *size as f64;
        if bytes >= 1.0 && bytes < (1u64 << 53) as f64 { Ok(Self(bytes as u64)) } else { Err(error()) }
    }
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "format": "uint64", "minimum": 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in
            [("1024", 1024), ("2GiB", 2 << 30), ("512 mib", 512 << 20), ("50G", 50 << 30), ("1.5GB", 1_500_000_000)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "GiB", "-1GiB", "1GiBs", "inf", "0", "1e300"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
