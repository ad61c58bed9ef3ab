//! Measures the data stages on the example export: wall and processor seconds, MiB of text per processor second, and
//! the process's peak memory so far.
//!
//! `PIPELINE_SHARED=... THREADS=2 SHARDS=4 cargo bench -p data --bench data_stages`

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use contract::InputTree;
use contract::harness::Harness;
use contract::machine::peak_memory;
use data::import::Import;
use data::license::License;
use data::quality::QualityStage;
use data::split::Split;
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let number =
        |name: &str, default: usize| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let shared = std::env::var_os("PIPELINE_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from);
    let Ok(listing) = fs::read_dir(shared.join("data/export")) else {
        println!("skipped: no example export at {} (set PIPELINE_SHARED)", shared.display());
        return Ok(());
    };
    let mut shards = listing.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    shards.sort();
    shards.truncate(number("SHARDS", usize::MAX));

    let folder = tempfile::tempdir()?;
    let export = folder.path().join("export");
    fs::create_dir(&export)?;
    for (index, shard) in shards.iter().enumerate() {
        fs::copy(shard, export.join(index.to_string()))?;
    }
    let mut harness = Harness::new(&folder.path().join("runs"));
    harness.resources.threads = number("THREADS", 2);
    println!("{} shards, {} threads", shards.len(), harness.resources.threads);

    let clock = Clock::start();
    let import = harness.run::<Import>(json!({"source": format!("{}/*", export.display())}))?;
    let mib = text(&import["documents"])? / (1u64 << 20) as f64;
    clock.stop("import", mib);
    harness.connect("documents", &import["documents"]);
    let clock = Clock::start();
    let allow = ["mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "isc", "cc0-1.0", "unlicense"];
    harness.run::<License>(json!({ "allow": allow }))?;
    clock.stop("license", mib);
    let clock = Clock::start();
    harness.run::<QualityStage>(json!({}))?;
    clock.stop("quality", mib);
    let clock = Clock::start();
    harness.run::<Split>(json!({}))?;
    clock.stop("split", mib);
    Ok(())
}

/// Returns the MiB of text in a table.
fn text(tree: &InputTree) -> Result<f64, Box<dyn Error>> {
    let mut bytes = 0;
    for part in tables::Table::open(tree)?.parts() {
        for batch in part.documents()? {
            let batch = tables::DocumentBatch::try_from(batch?)?;
            bytes += (0..batch.len()).map(|index| batch.content(index).len()).sum::<usize>();
        }
    }
    Ok(bytes as f64)
}

struct Clock(Instant, f64);

impl Clock {
    fn start() -> Self {
        Self(Instant::now(), processor_seconds())
    }

    fn stop(self, stage: &str, mib: f64) {
        let (wall, processor) = (self.0.elapsed().as_secs_f64(), processor_seconds() - self.1);
        let (rate, peak) = (mib / processor.max(0.01), peak_mib());
        println!(
            "{stage:8} {wall:6.2} s  {processor:6.2} processor-s  {rate:7.0} MiB/processor-s  peak {peak:5.0} MiB"
        );
    }
}

/// Returns the user and system time of this process in seconds, from `/proc` (0 if it does not exist).
fn processor_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // Fields 14 and 15, in hundredths of a second. The first two fields precede the last bracket.
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Returns the peak memory of this process in MiB, from `/proc` (0 if it does not exist).
fn peak_mib() -> f64 {
    peak_memory().unwrap_or(0) as f64 / (1 << 20) as f64
}
