//! The kernels that one training step launches on a GPU: how often, and how long each takes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use burn::tensor::Device;
use contract::{Cancel, Result};
use cubecl::config::{TypeNameFormatLevel, type_name_format};
use cubecl::logging::{LaunchObservation, LaunchObserver, TimingMethod, TimingRequest};
use model::Precision;
use serde_json::json;

use crate::{Sizes, print_line, speed, wait};

/// The number of steps before the one that is reported; kernels are compiled and tuned in them.
const WARMUP: usize = 2;

/// The launches and the total time of each kernel.
#[derive(Default)]
struct Launches(Mutex<BTreeMap<&'static str, (u64, Duration)>>);

impl Launches {
    fn add(&self, kernel: &'static str, launches: u64, time: Duration) {
        let mut kernels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = kernels.entry(kernel).or_default();
        *entry = (entry.0 + launches, entry.1 + time);
    }
}

impl LaunchObserver for Launches {
    fn launched(&self, kernel: &'static str) {
        self.add(kernel, 1, Duration::ZERO);
    }

    fn timing(&self) -> TimingRequest {
        TimingRequest::Resolved
    }

    fn timed(&self, kernel: &'static str, time: Duration, _: TimingMethod) {
        self.add(kernel, 0, time);
    }
}

/// Prints the totals of one step, then each kernel, the costliest first.
pub fn run(device: &Device, sizes: Sizes, precision: Precision) -> Result<bool> {
    let mut trainer = speed::trainer(device, sizes, precision, 1)?;
    let batch = speed::batch(sizes);
    let mut step = || trainer.update(std::slice::from_ref(&batch), 1e-4, &Cancel::default());
    for _ in 0..WARMUP {
        step()?;
    }
    wait(device)?;
    let launches = Arc::new(Launches::default());
    let observation = LaunchObservation::new(launches.clone());
    step()?;
    wait(device)?;
    drop(observation);
    let kernels = launches.0.lock().unwrap_or_else(PoisonError::into_inner);
    let mut kernels: Vec<_> = kernels.iter().map(|(name, (launches, time))| (name, launches, time)).collect();
    kernels.sort_by(|(_, launches, time), (_, others, other)| other.cmp(time).then(others.cmp(launches)));
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let total: u64 = kernels.iter().map(|(_, launches, _)| *launches).sum();
    let time: Duration = kernels.iter().map(|(.., time)| **time).sum();
    print_line(&json!({
        "kernels": kernels.len(), "launches": total, "ms": milliseconds(time), "precision": precision, "batch": sizes.batch,
    }));
    for (name, launches, time) in &kernels {
        let name: String = type_name_format(name, TypeNameFormatLevel::Balanced).chars().take(120).collect();
        print_line(&json!({ "kernel": name, "launches": launches, "ms": milliseconds(**time) }));
    }
    Ok(!kernels.is_empty())
}
