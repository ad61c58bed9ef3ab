//! Progress on standard error while a command hashes files, once it takes longer than half a second.

use std::time::Instant;

use indicatif::ProgressBar;

use crate::events::figures;
use crate::stderr::stderr;

/// Seconds during which nothing is shown.
const DELAY: f64 = 0.5;

/// The progress of a command that hashes files.
pub(super) struct HashProgress {
    what: &'static str,
    started: Instant,
    bytes: u64,
    bar: Option<ProgressBar>,
}

impl HashProgress {
    /// Starts a progress of `what`: "hashing source files".
    pub(super) fn start(what: &'static str) -> Self {
        Self { what, started: Instant::now(), bytes: 0, bar: None }
    }

    /// Adds bytes that were hashed.
    pub(super) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        let seconds = self.started.elapsed().as_secs_f64();
        if self.bar.is_none() && seconds > DELAY {
            let bar = ProgressBar::new_spinner();
            // A bar is drawn only on a terminal.
            if bar.is_hidden() {
                stderr!("{}", self.what);
            }
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            let (done, rate) = (figures::size(self.bytes), figures::size((self.bytes as f64 / seconds) as u64));
            bar.set_message(format!("{}: {done}  {rate}/s", self.what));
            bar.tick();
        }
    }
}

impl Drop for HashProgress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
