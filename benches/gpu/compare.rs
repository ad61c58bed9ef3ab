//! A figure of two JSON files, compared.

use std::path::Path;

use contract::{Result, StageError};
use serde_json::{Value, json};

use crate::tell;

/// Whether a number of both files lies within a tolerance, absolute or relative to the first.
pub fn run(pointer: &str, within: f64, relative: bool, files: [&Path; 2]) -> Result<bool> {
    let [one, other] = files.map(|file| {
        let text = std::fs::read(file)?;
        let value: Value = serde_json::from_slice(&text).map_err(std::io::Error::from)?;
        let number = value.pointer(pointer).and_then(Value::as_f64);
        number.ok_or_else(|| StageError::new(format!("{}: no number at {pointer}", file.display())))
    });
    let (one, other) = (one?, other?);
    let difference = (one - other).abs() / if relative { one.abs() } else { 1.0 };
    let right = difference <= within;
    tell(
        &json!({ "figure": pointer, "values": [one, other], "difference": difference, "within": within, "right": right }),
    );
    Ok(right)
}
