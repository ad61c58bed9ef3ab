//! Paths of settings: `rules.line_max`, `allow[0]`, `environment."LANG.C"`.

use serde_json::Value;

/// Appends a key of the table at `path`, quoted unless it is made of letters, digits, `_` and `-`.
pub fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) {
        path.push_str(key);
    } else {
        path.push_str(&Value::from(key).to_string());
    }
}

/// Returns the path of a key of the table at `table`; empty for the settings of the stage itself.
pub fn setting_path(table: &str, key: &str) -> String {
    let mut path = table.to_owned();
    push_key(&mut path, key);
    path
}
