//! How fast a training is: series that depend on the machine and the moment, so they are in no output.
//!
//! | series | value |
//! |---|---|
//! | `speed/tokens_per_second` | tokens read since the last report, by its time without validations and checkpoints |
//! | `speed/mfu` | model FLOPs utilisation (Chowdhery et al., "PaLM", 2022, appendix B): [`Gpt2Config::operations`] a second over the device's peak |
//! | `speed/data_stall` | the share of that time in which the step waited for its sequences |
//! | `memory/peak_gib` | the process's peak memory (Linux) in GiB, or what the allocator reserves on a GPU |
//!
//! The peak is measured once, by products of two square matrices in the format of the training: the best of a few, because other work
//! on the machine only slows them. They are reported to the engine, and written to `live/` in scratch with real times, which
//! TensorBoard follows while the training runs.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use burn::tensor::{Device, Distribution, Tensor};
use contract::Result;
use contract::machine::peak_memory;

use super::event_file::EventFile;
use crate::config::Gpt2Config;
use crate::device::is_gpu;
use crate::precision::Precision;

/// The rows of the matrices whose product measures the peak of the CPU, and of a GPU.
const ROWS: [usize; 2] = [1024, 8192];
/// The number of products that are timed.
const PRODUCTS: usize = 4;

/// The directory in scratch that TensorBoard can follow.
pub const LIVE: &str = "live";

/// Measures a training between two reports.
#[derive(Debug)]
pub struct Speed {
    device: Device,
    precision: Precision,
    /// Operations for a token.
    operations: f64,
    /// The device's operations a second, once they were measured.
    peak: Option<f64>,
    since: Instant,
    tokens: u64,
    waited: Duration,
    paused: Duration,
    live: EventFile<BufWriter<File>>,
}

impl Speed {
    /// Starts to measure, and starts a file of events in scratch. The device has no gradients.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn start(
        config: &Gpt2Config,
        length: usize,
        precision: Precision,
        device: Device,
        scratch: &Path,
    ) -> Result<Self> {
        let folder = scratch.join(LIVE);
        fs::create_dir_all(&folder)?;
        // TensorBoard reads the files of a directory in the order of their names: that of the runs.
        let name = format!("events.out.tfevents.{:017.6}.pipeline", now());
        let live = EventFile::start_at(BufWriter::new(File::create(folder.join(name))?), now())?;
        let operations = config.operations(length as u64);
        let (waited, paused) = (Duration::ZERO, Duration::ZERO);
        Ok(Self { device, precision, operations, peak: None, since: Instant::now(), tokens: 0, waited, paused, live })
    }

    /// Counts an update of this many tokens that waited this long for them.
    pub fn add(&mut self, tokens: u64, waited: Duration) {
        self.tokens += tokens;
        self.waited += waited;
    }

    /// Leaves the time of something out that is no part of an update.
    pub fn pause(&mut self, paused: Duration) {
        self.paused += paused;
    }

    /// Writes values that do not depend on time to the live file.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub fn follow(&mut self, step: u64, series: &[(&'static str, f64)]) -> Result<()> {
        series.iter().try_for_each(|(name, value)| self.live.scalar_at(step, name, *value as f32, now()))?;
        Ok(())
    }

    /// Returns the series since the last report, and starts the next; empty if there was no update. Writes them to the live file.
    ///
    /// # Errors
    /// Returns an error if that cannot be written.
    pub fn report(&mut self, step: u64) -> Result<Vec<(&'static str, f64)>> {
        let seconds = self.since.elapsed().saturating_sub(self.paused).as_secs_f64();
        let mut series = Vec::new();
        if self.tokens > 0 && seconds > 0.0 {
            let rate = self.tokens as f64 / seconds;
            let peak = *self.peak.get_or_insert_with(|| peak(&self.device, self.precision));
            series.push(("speed/tokens_per_second", rate));
            series.push(("speed/mfu", rate * self.operations / peak));
            series.push(("speed/data_stall", (self.waited.as_secs_f64() / seconds).min(1.0)));
        }
        series.extend(memory(&self.device).map(|bytes| ("memory/peak_gib", bytes as f64 / (1u64 << 30) as f64)));
        self.follow(step, &series)?;
        self.live.flush()?;
        (self.since, self.tokens, self.waited, self.paused) = (Instant::now(), 0, Duration::ZERO, Duration::ZERO);
        Ok(series)
    }
}

/// Returns the seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Measures the floating-point operations a second of the best of a few products.
fn peak(device: &Device, precision: Precision) -> f64 {
    let rows = ROWS[usize::from(is_gpu(device))];
    let matrix = || precision.factor(Tensor::<2>::random([rows, rows], Distribution::Default, device));
    let (left, right) = (matrix(), matrix());
    // The first product may compile and tune kernels.
    let product = || {
        let start = Instant::now();
        // Reading one value waits for the device.
        let value = left.clone().matmul(right.clone()).slice([0..1, 0..1]);
        drop(value.into_data());
        start.elapsed().as_secs_f64()
    };
    product();
    let best = (0..PRODUCTS).map(|_| product()).fold(f64::INFINITY, f64::min);
    2.0 * (rows as f64).powi(3) / best.max(1e-9)
}

/// Returns the peak memory in bytes, if it is known.
fn memory(device: &Device) -> Option<u64> {
    if is_gpu(device) {
        return device.memory_pool_usage().map(|usage| usage.bytes_reserved);
    }
    peak_memory()
}
