//! The progress of a stage: counters that the engine samples, and notes that it drains.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Deserializer, Serialize};

/// The unit of the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// The unit is bytes read or written.
    Bytes,
    /// The unit is rows of a table.
    #[default]
    Rows,
    /// The unit is optimiser steps.
    Steps,
    /// The unit is tokens read or written.
    Tokens,
    /// The unit is merges of a tokenizer.
    Merges,
    /// The unit is completions of a prompt.
    Completions,
    /// The unit is seconds since the start, for a stage whose progress is unknown, such as one that runs a program.
    Seconds,
}

/// A message or a value that a stage reports while it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "kebab-case")]
pub enum Note {
    /// A line for people.
    Info {
        /// The text.
        text: String,
    },
    /// A warning.
    Warning {
        /// The text.
        text: String,
    },
    /// A line of output of a program that the stage ran.
    Output {
        /// The text.
        text: String,
    },
    /// One value of a series: the loss at a step.
    Metric {
        /// The position in the series.
        step: u64,
        /// The name of the series, such as `loss/train`.
        name: String,
        /// The value; `null` in JSON if it is not finite.
        #[serde(deserialize_with = "null_is_not_a_number")]
        value: f64,
    },
}

fn null_is_not_a_number<'de, D: Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
    Option::deserialize(value).map(|value| value.unwrap_or(f64::NAN))
}

/// The maximum number of notes that wait for the engine, which drains them ten times a second.
const MAX_NOTES: usize = 65_536;

/// The progress of a stage, shared between the stage, which counts, and the engine, which displays it. It is cheap to clone and can be
/// called from any thread.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<ProgressState>);

#[derive(Debug, Default)]
struct ProgressState {
    done: AtomicU64,
    total: AtomicU64,
    phase: Mutex<Phase>,
    notes: Mutex<VecDeque<Note>>,
    /// The number of notes that were dropped since the last drain.
    dropped: AtomicU64,
    metrics: Mutex<BTreeMap<String, f64>>,
    earlier: Mutex<f64>,
}

/// The current phase, its count and its start.
#[derive(Debug, Clone)]
struct Phase {
    name: String,
    unit: Unit,
    /// The time at which the count was `from`.
    since: Instant,
    from: u64,
    /// Whether all units take about the same time.
    even: bool,
}

impl Default for Phase {
    fn default() -> Self {
        Self { name: String::new(), unit: Unit::default(), since: Instant::now(), from: 0, even: true }
    }
}

/// A sample of the counters. The default is that of a stage that has not started to count.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sample {
    /// The current phase ("read shards"); empty if the stage has only one phase.
    pub phase: String,
    /// The unit of the count.
    pub unit: Unit,
    /// The number of finished units.
    pub done: u64,
    /// The total number of units, if it is known.
    pub total: Option<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Progress {
    /// Renames the phase without resetting the count.
    pub fn phase(&self, phase: &str) {
        phase.clone_into(&mut lock(&self.0.phase).name);
    }

    /// Starts a phase: the count begins at 0.
    pub fn start(&self, phase: &str, unit: Unit, total: Option<u64>) {
        self.begin(phase, unit, total, true);
    }

    /// Starts a phase whose units take very different times at its beginning and its end. The rate does not predict the remaining time, so
    /// no rate is reported.
    pub fn start_uneven(&self, phase: &str, unit: Unit, total: Option<u64>) {
        self.begin(phase, unit, total, false);
    }

    fn begin(&self, phase: &str, unit: Unit, total: Option<u64>, even: bool) {
        *lock(&self.0.phase) = Phase { name: phase.to_owned(), unit, since: Instant::now(), from: 0, even };
        self.0.done.store(0, Ordering::Relaxed);
        self.0.total.store(total.unwrap_or(0), Ordering::Relaxed);
    }

    /// Adds `more` to the count.
    pub fn add(&self, more: u64) {
        self.0.done.fetch_add(more, Ordering::Relaxed);
    }

    /// Sets the count after a resume. Units done before do not count towards the rate.
    pub fn set(&self, done: u64) {
        let mut phase = lock(&self.0.phase);
        (phase.since, phase.from) = (Instant::now(), done);
        self.0.done.store(done, Ordering::Relaxed);
    }

    /// Returns units per second since the phase began or was resumed; `None` before the first unit and in an uneven phase.
    pub fn rate(&self) -> Option<f64> {
        let phase = lock(&self.0.phase);
        let done = self.0.done.load(Ordering::Relaxed).saturating_sub(phase.from);
        (phase.even && done > 0).then(|| done as f64 / phase.since.elapsed().as_secs_f64())
    }

    /// Continues the phase from a count that earlier runs of the stage reached in `seconds`.
    pub fn resume(&self, done: u64, seconds: f64) {
        self.set(done);
        *lock(&self.0.earlier) = seconds;
    }

    /// Returns the seconds that earlier runs of the stage spent on the work that this run continues.
    pub fn earlier_seconds(&self) -> f64 {
        *lock(&self.0.earlier)
    }

    /// Adds an informational note.
    pub fn info(&self, text: impl Into<String>) {
        self.note(Note::Info { text: text.into() });
    }

    /// Adds a warning.
    pub fn warn(&self, text: impl Into<String>) {
        self.note(Note::Warning { text: text.into() });
    }

    /// Adds a line that a program wrote.
    pub fn output(&self, text: impl Into<String>) {
        self.note(Note::Output { text: text.into() });
    }

    /// Adds one value of a series.
    pub fn metric(&self, step: u64, name: &str, value: f64) {
        lock(&self.0.metrics).insert(name.to_owned(), value);
        self.note(Note::Metric { step, name: name.to_owned(), value });
    }

    /// Adds one value of a series that depends on the machine and the moment, such as a speed: it is shown and logged like a metric, but
    /// is no part of the record of a build, with which a reproduction is compared.
    pub fn measure(&self, step: u64, name: &str, value: f64) {
        self.note(Note::Metric { step, name: name.to_owned(), value });
    }

    fn note(&self, note: Note) {
        let mut notes = lock(&self.0.notes);
        if notes.len() < MAX_NOTES {
            notes.push_back(note);
        } else {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the current counters.
    pub fn sample(&self) -> Sample {
        let Phase { name: phase, unit, .. } = lock(&self.0.phase).clone();
        let total = self.0.total.load(Ordering::Relaxed);
        Sample { phase, unit, done: self.0.done.load(Ordering::Relaxed), total: (total > 0).then_some(total) }
    }

    /// Returns the last value of each series.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        lock(&self.0.metrics).clone()
    }

    /// Returns the notes since the last call.
    pub fn drain(&self) -> Vec<Note> {
        let mut notes: Vec<_> = lock(&self.0.notes).drain(..).collect();
        let dropped = self.0.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let text = format!("{dropped} notes were dropped: more than {MAX_NOTES} were sent at once");
            notes.push(Note::Warning { text });
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_phase_has_no_rate_before_its_first_unit_and_an_uneven_one_has_none() {
        let progress = Progress::default();
        progress.start("train", Unit::Steps, Some(300));
        progress.set(65);
        assert_eq!((progress.sample().done, progress.rate()), (65, None));
        progress.add(1);
        // One unit, however long ago the phase began; 66 would be more than a clock's tick allows.
        let since = Instant::now() - std::time::Duration::from_secs(1);
        lock(&progress.0.phase).since = since;
        let rate = progress.rate().unwrap();
        assert!(rate > 0.0 && rate <= 1.0, "{rate}");
        progress.resume(65, 93.0);
        assert_eq!((progress.rate(), progress.earlier_seconds()), (None, 93.0));
        progress.start("next", Unit::Rows, None);
        progress.add(1);
        assert!(progress.rate().unwrap() > 1.0, "the phase before is no part of it");
        progress.start_uneven("learn merges", Unit::Merges, Some(10));
        progress.add(5);
        assert_eq!((progress.sample().done, progress.rate()), (5, None));
    }

    #[test]
    fn a_flood_of_notes_is_bounded_and_the_loss_is_reported() {
        let progress = Progress::default();
        for number in 0..MAX_NOTES + 3 {
            progress.info(number.to_string());
        }
        let notes = progress.drain();
        assert_eq!(notes.len(), MAX_NOTES + 1);
        assert!(matches!(notes.last(), Some(Note::Warning { text }) if text.starts_with("3 notes were dropped")));
        assert!(progress.drain().is_empty());
    }

    #[test]
    fn a_metric_that_diverged_can_be_read_again() {
        for value in [1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let note = Note::Metric { step: 3, name: "loss/train".to_owned(), value };
            let text = serde_json::to_string(&note).unwrap();
            let Note::Metric { value: read, .. } = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
            assert!(if value.is_finite() { read == value } else { read.is_nan() }, "{text}");
        }
    }
}
