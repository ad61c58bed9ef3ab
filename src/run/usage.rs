//! Memory and processor time that a stage took, where the system says (Linux).
//!
//! Both are the process's, so they are a stage's only when no other stage ran at the same time; else they are left out.

use std::fs;
use std::sync::Mutex;
use std::sync::PoisonError;

use nix::time::{ClockId, clock_gettime};

/// Knows which stages run at the same time.
#[derive(Debug, Default)]
pub(super) struct Meter(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// Stages that ever started.
    started: u64,
}

/// A stage that runs.
#[derive(Debug)]
pub(super) struct Measurement<'m> {
    meter: &'m Meter,
    /// Stages started so far, this one among them; `None` when it did not start alone.
    alone: Option<u64>,
    processor: Option<f64>,
}

/// What a stage took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// Bytes that the process held at most.
    pub(super) peak_memory: Option<u64>,
    /// Seconds of processor time, of all threads.
    pub(super) cpu_seconds: Option<f64>,
}

impl Meter {
    /// A stage starts.
    pub(super) fn start(&self) -> Measurement<'_> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.running += 1;
        state.started += 1;
        let alone = (state.running == 1).then_some(state.started);
        if alone.is_some() {
            reset_peak();
        }
        Measurement { meter: self, alone, processor: processor_seconds() }
    }
}

impl Measurement<'_> {
    /// What it took, when it was alone all the time.
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

/// Starts a new high-water mark.
fn reset_peak() {
    // 5 resets VmHWM (proc(5), /proc/pid/clear_refs). Where it cannot be written the mark is the process's so far.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Bytes at the high-water mark.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

fn processor_seconds() -> Option<f64> {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).ok()?;
    Some(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_measured_only_when_it_was_alone_all_the_time() {
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
