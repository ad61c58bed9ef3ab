//! Files of a real export, where there is one: `data/export` below `PIPELINE_SHARED`, else `../shared`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

/// The first `count` files in the order of the shards' names, or `None` with the reason printed.
pub fn texts(count: usize) -> Option<Vec<String>> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("PIPELINE_SHARED").map_or_else(beside, PathBuf::from).join("data/export");
    let Ok(shards) = fs::read_dir(&folder) else {
        eprintln!("skipped: no export in {} (PIPELINE_SHARED)", folder.display());
        return None;
    };
    let mut shards: Vec<_> = shards.map(|entry| entry.unwrap().path()).collect();
    shards.sort();
    let lines = shards.into_iter().flat_map(|shard| BufReader::new(MultiGzDecoder::new(File::open(shard).unwrap())).lines());
    let content = |line: std::io::Result<String>| {
        let row: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        row["content"].as_str().unwrap().to_owned()
    };
    Some(lines.take(count).map(content).collect())
}
