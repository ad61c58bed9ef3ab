//! The name of a stage.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// The name of a stage in a manifest: 1 to 100 letters, digits, `_` and `-`, the first a letter or digit. It is used as a directory name in
/// a run and is never part of a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct StageName(String);

/// The error for a string that is not a valid stage name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid stage name '{}' (at most {MAX_LENGTH} letters, digits, '_' and '-', the first a letter or digit)", .0.escape_debug())]
pub struct NotAStageName(pub String);

const MAX_LENGTH: usize = 100;

impl StageName {
    /// The rule for names as a regular expression.
    pub const PATTERN: &'static str = "^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$";

    /// Returns the name as a string slice.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StageName {
    type Err = NotAStageName;

    fn from_str(text: &str) -> Result<Self, NotAStageName> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let first_is_allowed = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if first_is_allowed && text.len() <= MAX_LENGTH && text.chars().all(is_allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAStageName(text.to_owned()))
        }
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Maps of stages are looked up by string.
impl Borrow<str> for StageName {
    fn borrow(&self) -> &str {
        &self.0
    }
}
