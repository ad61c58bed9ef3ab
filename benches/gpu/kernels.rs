//! Every kernel of one training step, with its launches and its time, from CubeCL's own profile.
//!
//! The program must be started where a `burn.toml` turns the profile on and names its file (`check.sh` writes one):
//! `[cubecl.profiling.logger]`, `level = "basic"`, `file = ".."`. Each wait then writes the table of what ran since the last one.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use burn::tensor::Device;
use contract::{Cancel, Result, StageError};
use model::Precision;
use serde_json::json;

use crate::{Sizes, speed, tell, wait};

/// Steps before the one that is reported, while kernels are compiled and tuned.
const WARMUP: usize = 3;

/// The kernels of one step by their share of its time, and the totals.
pub fn run(device: &Device, sizes: Sizes, precision: Precision, log: &Path) -> Result<bool> {
    let mut trainer = speed::trainer(device, sizes, precision)?;
    let batch = speed::batch(sizes);
    let mut step = || trainer.update(std::slice::from_ref(&batch), 1e-4, &Cancel::default());
    for _ in 0..WARMUP {
        step()?;
    }
    wait(device)?;
    let before = written(log)?.len();
    step()?;
    wait(device)?;
    let log = written(log)?;
    let mut kernels: BTreeMap<&str, (u64, f64)> = BTreeMap::new();
    for line in log[before..].lines() {
        // | name | duration | launches | share |
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, name, duration, launches, share, _] = cells[..] else { continue };
        if let (true, Some(time), Ok(launches)) =
            (share.ends_with('%'), milliseconds(duration), launches.parse::<u64>())
            && name != "Total"
        {
            let kernel = kernels.entry(name).or_default();
            *kernel = (kernel.0 + launches, kernel.1 + time);
        }
    }
    let mut kernels: Vec<_> = kernels.into_iter().collect();
    kernels.sort_by(|(_, (_, one)), (_, (_, other))| other.total_cmp(one));
    let launches: u64 = kernels.iter().map(|(_, (launches, _))| launches).sum();
    let total: f64 = kernels.iter().map(|(_, (_, time))| time).sum();
    tell(&json!({ "kernels": kernels.len(), "launches": launches, "ms": total, "precision": precision }));
    for (name, (launches, time)) in &kernels {
        let name: String = name.chars().take(100).collect();
        tell(&json!({ "kernel": name, "launches": launches, "ms": time }));
    }
    Ok(!kernels.is_empty())
}

/// The profile so far. It is written by a thread of its own: it is whole once it no longer grows.
fn written(log: &Path) -> Result<String> {
    let mut text = String::new();
    loop {
        sleep(Duration::from_millis(500));
        let bytes = std::fs::read(log).map_err(|error| {
            StageError::new(format!("{}: {error}", log.display())).hint("is there a burn.toml that names it?")
        })?;
        let now = String::from_utf8_lossy(&bytes).into_owned();
        if now.len() == text.len() {
            return Ok(now);
        }
        text = now;
    }
}

/// A duration as Rust's `Debug` writes it.
fn milliseconds(text: &str) -> Option<f64> {
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let scale = match &text[unit..] {
        "ns" => 1e-6,
        "µs" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        _ => return None,
    };
    text[..unit].parse::<f64>().ok().map(|value| value * scale)
}
