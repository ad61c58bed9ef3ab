//! The memory and processor time of a stage (Linux).
//!
//! The operating system counts both per process, so they are recorded only if no other stage ran at the same time.

use std::fs;
use std::sync::{Mutex, PoisonError};

use contract::machine::peak_memory;
use nix::time::{ClockId, clock_gettime};

/// Counts the stages that run at the same time.
#[derive(Debug, Default)]
pub(super) struct Meter(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    running: usize,
    /// The number of stages started so far.
    started: u64,
}

/// The measurement of a running stage.
#[derive(Debug)]
pub(super) struct Measurement<'m> {
    meter: &'m Meter,
    /// The number of stages started so far, including this one; `None` if another one was running.
    alone: Option<u64>,
    processor: Option<f64>,
}

/// The resources that a stage used.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// The peak memory of the process, in bytes.
    pub(super) peak_memory: Option<u64>,
    /// The processor time of all threads, in seconds.
    pub(super) cpu_seconds: Option<f64>,
}

impl Meter {
    /// Starts the measurement of a stage.
    pub(super) fn start(&self) -> Measurement<'_> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.running += 1;
        counts.started += 1;
        let alone = (counts.running == 1).then_some(counts.started);
        if alone.is_some() {
            reset_peak();
        }
        Measurement { meter: self, alone, processor: processor_seconds() }
    }
}

impl Measurement<'_> {
    /// Returns what the stage has used so far, if no other stage ran meanwhile.
    pub(super) fn usage(&self) -> Usage {
        let started = self.meter.0.lock().unwrap_or_else(PoisonError::into_inner).started;
        if self.alone != Some(started) {
            return Usage::default();
        }
        let cpu_seconds = self.processor.zip(processor_seconds()).map(|(before, now)| now - before);
        Usage { peak_memory: peak_memory(), cpu_seconds }
    }
}

impl Drop for Measurement<'_> {
    fn drop(&mut self) {
        self.meter.0.lock().unwrap_or_else(PoisonError::into_inner).running -= 1;
    }
}

/// Resets the peak.
fn reset_peak() {
    // 5 resets VmHWM (proc(5), /proc/pid/clear_refs). If it cannot be written, the peak is that of the whole process.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

fn processor_seconds() -> Option<f64> {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).ok()?;
    Some(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_measured_only_if_no_other_one_ran_meanwhile() {
        let meter = Meter::default();
        let first = meter.start();
        assert!(first.usage().cpu_seconds.is_some());
        let second = meter.start();
        drop(second);
        assert!(first.usage().cpu_seconds.is_none(), "another one ran meanwhile");
        drop(first);
        assert!(meter.start().usage().cpu_seconds.is_some());
    }
}
