//! JSON with a checksum: indented text whose last field, `check`, is the digest of all bytes before that field.

use std::io::{self, ErrorKind};
use std::path::Path;

use contract::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::store::{Result, StoreError, files};

const CHECK: &str = ",\n  \"check\": \"";

/// Encodes an object with at least one field, to be written at `path`.
pub(super) fn encode(value: &impl Serialize, path: &Path) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|error| StoreError::io("write", path)(io::Error::other(error)))?;
    let body = text.trim_end_matches("\n}");
    Ok(format!("{body}{CHECK}{}\"\n}}\n", Digest::of(body.as_bytes())))
}

/// Decodes the result of [`encode`].
pub(super) fn decode<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let (body, check) = text.rsplit_once(CHECK).ok_or("it has no checksum")?;
    if check.trim_end_matches("\"\n}\n") != Digest::of(body.as_bytes()).to_string() {
        return Err("its checksum does not match".to_owned());
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Reads a file. Returns `None` if it does not exist, and the problem if its content is invalid.
pub(super) fn read<T>(path: &Path, decode: impl Fn(&str) -> Result<T, String>) -> Result<Option<Result<T, String>>> {
    match files::read(path) {
        Ok(text) => Ok(Some(decode(&text))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => Ok(Some(Err(error.to_string()))),
        Err(error) => Err(StoreError::io("read", path)(error)),
    }
}
