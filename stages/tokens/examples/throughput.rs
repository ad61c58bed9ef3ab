//! Times the stages `tokenizer` and `pack` on an export's files: `throughput EXPORT_FOLDER OUTPUT_FOLDER VOCABULARY [THREADS]`.
//!
//! Prints one JSON object per line; `benches/tokenizer/compare.py` runs it beside the peer. The table is written first and is not timed.
//! Peak memory is that of the whole process (`VmHWM`) up to the end of the stage.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Instant;

use contract::harness::Harness;
use contract::{Digest, InputFile, InputTree, Outputs};
use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};
use tables::{Document, ShardWriter};
use tokens::{Pack, Tokenizer};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [export, output, vocabulary, threads @ ..] = arguments.as_slice() else {
        return Err("usage: throughput EXPORT_FOLDER OUTPUT_FOLDER VOCABULARY [THREADS]".into());
    };
    let output = Path::new(output);
    let (table, bytes) = table(Path::new(export), &output.join("table"))?;
    let mut harness = Harness::new(&output.join("runs"));
    harness.resources.threads = threads.first().map_or(Ok(2), |threads| threads.parse())?;
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    println!("{}", json!({ "step": "table", "mebibytes": mebibytes, "peak_mebibytes": peak()? }));

    harness.connect("documents", &table);
    let start = Instant::now();
    let trained = harness.run::<Tokenizer>(json!({ "vocabulary": vocabulary.parse::<u32>()? }))?;
    let seconds = start.elapsed().as_secs_f64();
    let report: Value = serde_json::from_slice(&fs::read(&trained["report"].required("report.json")?.location)?)?;
    println!(
        "{}",
        json!({
            "step": "tokenizer", "seconds": seconds, "mebibytes_a_second": mebibytes / seconds, "peak_mebibytes": peak()?,
            "characters_per_token": report["sample"]["characters_per_token"], "missing": report["keywords"]["missing"],
            "training": report["training"],
        })
    );
    for file in &trained["tokenizer"].files {
        fs::copy(&file.location, output.join(file.path.as_str()))?;
    }
    fs::copy(&trained["report"].required("report.md")?.location, output.join("report.md"))?;

    harness.inputs.clear();
    harness.connect("train", &table).connect("tokenizer", &trained["tokenizer"]);
    let start = Instant::now();
    let packed = harness.run::<Pack>(json!({}))?;
    let seconds = start.elapsed().as_secs_f64();
    for file in &packed["train"].files {
        fs::copy(&file.location, output.join(file.path.as_str()))?;
    }
    let report: Value = serde_json::from_slice(&fs::read(&packed["report"].required("report.json")?.location)?)?;
    println!(
        "{}",
        json!({
            "step": "pack", "seconds": seconds, "mebibytes_a_second": mebibytes / seconds, "peak_mebibytes": peak()?,
            "ledger": report["splits"]["train"],
        })
    );
    Ok(())
}

/// Returns a table of the export's documents, one shard per file, and the bytes of its text.
fn table(export: &Path, folder: &Path) -> Result<(InputTree, u64), Box<dyn Error>> {
    let outputs = Outputs::stage(folder, ["documents".to_owned()])?;
    let mut shards = fs::read_dir(export)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>()?;
    shards.sort();
    let mut bytes = 0;
    for shard in shards {
        let mut writer = ShardWriter::new(outputs.tree("documents")?, Digest::of_file(&shard)?);
        for line in BufReader::new(MultiGzDecoder::new(File::open(&shard)?)).lines() {
            let row: Value = serde_json::from_str(&line?)?;
            let text = |name: &str| row[name].as_str().unwrap_or_default();
            let (repo_name, path, content) = (text("repo_name"), text("path"), text("content"));
            bytes += content.len() as u64;
            writer.push(&Document {
                repo_name,
                path,
                copies: 1,
                size: content.len() as i64,
                license: None,
                content,
            })?;
        }
        writer.finish()?;
    }
    let (tree, files) = outputs.finish()?.remove("documents").ok_or("the port is declared above")?;
    let mut files: Vec<_> = files
        .into_iter()
        .map(|(entry, location)| InputFile { path: entry.path, location, digest: entry.digest, size: entry.size })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((InputTree { digest: tree.digest(), files }, bytes))
}

/// Returns the process's peak resident memory in MiB; 0 if the system does not report it.
fn peak() -> Result<u64, Box<dyn Error>> {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return Ok(0) };
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")).map_or(Ok(0), str::parse::<u64>)?;
    Ok(kibibytes / 1024)
}
