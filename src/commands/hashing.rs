//! Says on standard error that a command reads external files, when that takes longer than people wait in silence.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::events::figures;
use crate::say::say;

/// How long nothing is said.
const PATIENCE: Duration = Duration::from_millis(500);

/// Bytes of external files that a command has hashed.
pub(super) struct Hashing {
    what: &'static str,
    started: Instant,
    bytes: u64,
    bar: Option<ProgressBar>,
}

impl Hashing {
    /// `what` is being done: "hashing source files".
    pub(super) fn start(what: &'static str) -> Self {
        Self { what, started: Instant::now(), bytes: 0, bar: None }
    }

    /// Counts a piece that was read.
    pub(super) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.bar.is_none() && self.started.elapsed() > PATIENCE {
            let bar = ProgressBar::new_spinner();
            bar.set_style(ProgressStyle::default_spinner());
            // A bar is drawn on a terminal only.
            if bar.is_hidden() {
                say!("{}", self.what);
            }
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            let rate = self.bytes as f64 / self.started.elapsed().as_secs_f64();
            bar.set_message(format!("{}: {}  {}/s", self.what, figures::size(self.bytes), figures::size(rate as u64)));
            bar.tick();
        }
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
