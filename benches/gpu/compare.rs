//! Compares numbers in JSON files.

use std::path::Path;

use contract::{Result, StageError};
use serde_json::{Value, json};

use crate::print_line;

/// Returns whether the numbers at `pointer` in two files differ by at most `within`, absolute or relative to the first
/// one.
pub fn run(pointer: &str, within: f64, relative: bool, files: [&Path; 2]) -> Result<bool> {
    let (one, other) = (number(files[0], pointer)?, number(files[1], pointer)?);
    let difference = (one - other).abs() / if relative { one.abs() } else { 1.0 };
    let right = difference <= within;
    print_line(
        &json!({ "figure": pointer, "values": [one, other], "difference": difference, "within": within, "right": right }),
    );
    Ok(right)
}

/// Returns whether the number at `last` is at most `share` times the number at `first`.
pub fn fell(first: &str, last: &str, share: f64, file: &Path) -> Result<bool> {
    let (first, last) = (number(file, first)?, number(file, last)?);
    let right = last <= first * share;
    print_line(&json!({ "first": first, "last": last, "right": right }));
    Ok(right)
}

fn number(file: &Path, pointer: &str) -> Result<f64> {
    let text = std::fs::read(file)?;
    let value: Value = serde_json::from_slice(&text).map_err(std::io::Error::from)?;
    let number = value.pointer(pointer).and_then(Value::as_f64);
    number.ok_or_else(|| StageError::new(format!("{}: no number at {pointer}", file.display())))
}
