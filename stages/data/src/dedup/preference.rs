//! The order that determines the kept copy: a total order of documents.
//!
//! The `prefer` list is compared key by key, then the id, then the document's position in the table (which decides only
//! between rows with equal repository, path and content). Each key is a number; smaller numbers are preferred.
//!
//! | key | preferred |
//! |---|---|
//! | `license` | the lower [`LicenseKey::rank`] |
//! | `copies` | more copies on GitHub (unknown is 0) |
//! | `larger` | more bytes of content |
//! | `smaller` | fewer bytes of content |
//! | `path` | a path of fewer bytes |

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::license_key::LicenseKey;

/// One key of the sort order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preference {
    /// The more permissive license: permissive, then weak copyleft (lgpl, mpl, epl), gpl, agpl, then unknown or none.
    License,
    /// The document with more copies on GitHub.
    Copies,
    /// The document with more bytes of content.
    Larger,
    /// The document with fewer bytes of content.
    Smaller,
    /// The shorter path.
    Path,
}

/// The properties of a document that the order compares.
#[derive(Debug, Clone, Copy)]
pub struct Traits<'a> {
    /// The license.
    pub license: LicenseKey,
    /// The number of copies on GitHub.
    pub copies: u64,
    /// The size of the content, in bytes.
    pub size: u64,
    /// The path in its repository.
    pub path: &'a str,
}

impl Preference {
    /// Returns the document's number for this key; smaller numbers are preferred.
    pub fn of(self, document: &Traits) -> u64 {
        match self {
            Self::License => u64::from(document.license.rank()),
            Self::Copies => u64::MAX - document.copies,
            Self::Larger => u64::MAX - document.size,
            Self::Smaller => document.size,
            Self::Path => document.path.len() as u64,
        }
    }
}
