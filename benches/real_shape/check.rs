//! Compares the reports of `import` and `dedup` on the input with those on the output.

use std::error::Error;
use std::fs;
use std::path::Path;

use contract::harness::Harness;
use data::dedup::Dedup;
use data::import::Import;
use serde_json::{Value, json};

/// Prints both. Fails if the output's share of duplicates exceeds 1.5 times the input's plus 0.01.
pub fn compare(export: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    println!("{:>10} {:>10} {:>12} {:>9} {:>9}", "", "files", "mean bytes", "exact %", "near %");
    let [before, after] = [("input", export), ("output", out)].map(|(name, folder)| rates(name, folder));
    let (before, after) = (before?, after?);
    if after > 1.5 * before + 0.01 {
        return Err(format!(
            "{:.2} % of the output are duplicates, {:.2} % of the input",
            100.0 * after,
            100.0 * before
        )
        .into());
    }
    Ok(())
}

/// Prints the rates of an export; returns the share of its files that `dedup` removes.
fn rates(name: &str, folder: &Path) -> Result<f64, Box<dyn Error>> {
    let work = tempfile::tempdir_in(folder.parent().unwrap_or(folder)).or_else(|_| tempfile::tempdir())?;
    let mut harness = Harness::new(work.path());
    harness.resources.memory = 2 << 30;
    let source = format!("{}/*", folder.display());
    let everything = json!({"source": source, "suffix": "", "min_size": 0, "max_size": u32::MAX, "allow_binary": true});
    let imported = harness.run::<Import>(everything)?;
    harness.connect("documents", &imported["documents"]);
    let outputs = harness.run::<Dedup>(json!({"audit": 0}))?;
    let report: Value = serde_json::from_slice(&fs::read(&outputs["report"].files[0].location)?)?;
    let documents = &report["documents"];
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let (rows, mut bytes, mut shares) = (number(&documents["rows"]), number(&documents["kept_bytes"]), Vec::new());
    for rule in ["exact", "near"] {
        let dropped = &documents["dropped"][rule];
        shares.push(number(&dropped["rows"]) / rows.max(1.0));
        bytes += number(&dropped["bytes"]);
    }
    println!(
        "{name:>10} {rows:>10} {:>12.0} {:>9.2} {:>9.2}",
        bytes / rows.max(1.0),
        100.0 * shares[0],
        100.0 * shares[1]
    );
    Ok(shares.iter().sum())
}
