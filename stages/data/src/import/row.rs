//! One row of an export, from its JSON object.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// The columns of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub repo_name: Cow<'a, str>,
    pub path: Cow<'a, str>,
    pub copies: i64,
    pub size: i64,
    pub content: Cow<'a, str>,
    pub license: Option<Cow<'a, str>>,
    /// The number of other columns.
    pub extra_columns: u64,
}

/// The column that may be null or missing.
pub(super) const NULLABLE: &str = "license";

/// The columns, in the query's order.
pub(super) const COLUMNS: [&str; 6] = ["repo_name", "path", "copies", "size", "content", "license"];

impl<'a> Row<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// Returns a short reason that the line is not a row.
    pub(super) fn parse(line: &'a str) -> Result<Self, String> {
        if is_too_deep(line.as_bytes()) {
            return Err(format!("values are nested more than {MAX_DEPTH} deep"));
        }
        sonic_rs::from_str(line).map_err(|error| {
            let text = error.to_string();
            // The parser's message also contains the position within its one line, and a marked excerpt.
            let first = text.lines().next().unwrap_or_default();
            let reason = first.split(" at line ").next().unwrap_or(first).trim_end_matches('.');
            format!("{reason} (byte {})", error.offset())
        })
    }
}

impl Row<'_> {
    /// Returns an error message if the content has more than `max` bytes.
    pub(super) fn too_long(&self, max: u64) -> Option<String> {
        let length = self.content.len();
        (length as u64 > max).then(|| format!("the content has {length} bytes, more than max_line = {max}"))
    }
}

/// The maximum nesting depth of the values of an ignored column: the parser skips them recursively, on the call stack.
const MAX_DEPTH: usize = 128;

/// Returns whether objects and arrays are nested deeper than [`MAX_DEPTH`]. Few rows have that many brackets outside their source text, so
/// strings are rarely scanned.
fn is_too_deep(line: &[u8]) -> bool {
    let opens = |byte: &&u8| matches!(byte, b'[' | b'{');
    if line.iter().filter(opens).nth(MAX_DEPTH).is_none() {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in line {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// A string or null.
struct Text<'a>(Option<Cow<'a, str>>);

/// An integer, a string that contains one, or null.
struct Number(Option<i64>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Some(Cow::Borrowed(text))))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Some(Cow::Owned(text.to_owned()))))
            }

            fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
                Ok(Text(Some(Cow::Owned(text))))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Text(None))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbers;
        impl Visitor<'_> for Numbers {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer, or a string that holds one")
            }

            fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
                Ok(Number(Some(number)))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Number, E> {
                let number = i64::try_from(number).map_err(|_| E::custom(format!("{number} is no INT64")))?;
                Ok(Number(Some(number)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                let cut: String = text.chars().take(40).collect();
                text.parse().map(|number| Number(Some(number))).map_err(|_| E::custom(format!("'{cut}' is no INT64")))
            }

            fn visit_unit<E>(self) -> Result<Number, E> {
                Ok(Number(None))
            }
        }
        deserializer.deserialize_any(Numbers)
    }
}

impl<'de> Deserialize<'de> for Row<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rows;
        impl<'de> Visitor<'de> for Rows {
            type Value = Row<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row: a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row<'de>, A::Error> {
                let (mut repo_name, mut path, mut content, mut license) = (None, None, None, None);
                let (mut copies, mut size, mut extra_columns) = (None, None, 0);
                while let Some(Text(Some(name))) = map.next_key::<Text<'de>>()? {
                    let twice = match name.as_ref() {
                        "repo_name" => repo_name.replace(map.next_value::<Text<'de>>()?.0).is_some(),
                        "path" => path.replace(map.next_value::<Text<'de>>()?.0).is_some(),
                        "content" => content.replace(map.next_value::<Text<'de>>()?.0).is_some(),
                        "license" => license.replace(map.next_value::<Text<'de>>()?.0).is_some(),
                        "copies" => copies.replace(map.next_value::<Number>()?.0).is_some(),
                        "size" => size.replace(map.next_value::<Number>()?.0).is_some(),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            extra_columns += 1;
                            false
                        }
                    };
                    if twice {
                        return Err(de::Error::custom(format!("column '{name}' is there twice")));
                    }
                }
                Ok(Row {
                    repo_name: required("repo_name", repo_name)?,
                    path: required("path", path)?,
                    copies: count("copies", required("copies", copies)?).map_err(de::Error::custom)?,
                    size: count("size", required("size", size)?).map_err(de::Error::custom)?,
                    content: required("content", content)?,
                    // BigQuery omits the keys of null values.
                    license: license.flatten(),
                    extra_columns,
                })
            }
        }
        deserializer.deserialize_map(Rows)
    }
}

/// Checks a number of copies or bytes.
///
/// # Errors
/// Returns a short reason that it is not a valid number.
pub(super) fn count(name: &str, number: i64) -> Result<i64, String> {
    if number < 0 { Err(format!("column '{name}' is {number}, expected 0 or more")) } else { Ok(number) }
}

fn required<T, E: de::Error>(name: &str, value: Option<Option<T>>) -> Result<T, E> {
    match value {
        Some(Some(value)) => Ok(value),
        Some(None) => Err(E::custom(format!("column '{name}' is null"))),
        None => Err(E::custom(format!("column '{name}' is missing"))),
    }
}
