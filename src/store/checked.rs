//! JSON that tells when it is torn or edited: indented, and its last field, `check`, is the digest of all bytes before that
//! field.

use contract::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

const CHECK: &str = ",\n  \"check\": \"";

/// An object with at least one field, written so.
pub(super) fn encode(value: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string_pretty(value)?;
    let body = text.trim_end_matches("\n}");
    Ok(format!("{body}{CHECK}{}\"\n}}\n", Digest::of(body.as_bytes())))
}

/// Reads what [`encode`] gave, or what was written before there was a check, if every byte is as it would be written now; what
/// is wrong, otherwise.
pub(super) fn decode_or_older<T: Serialize + DeserializeOwned>(text: &str) -> Result<T, String> {
    if text.contains(CHECK) {
        return decode(text);
    }
    let value: T = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let same = serde_json::to_string_pretty(&value).is_ok_and(|again| again == text.trim_end());
    if same { Ok(value) } else { Err("it is not as it was written".to_owned()) }
}

/// Reads what [`encode`] gave; what is wrong, otherwise.
pub(super) fn decode<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let (body, check) = text.rsplit_once(CHECK).ok_or("it has no check")?;
    if check.trim_end_matches("\"\n}\n") != Digest::of(body.as_bytes()).to_string() {
        return Err("it is not as it was written".to_owned());
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}
