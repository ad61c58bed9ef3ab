//! A stage that runs: its share of the machine, and how far it is.

use std::time::{Duration, Instant};

use contract::{Digest, Progress};

use super::resources::Share;
use crate::events::{Event, EventSender};
use crate::manifest::StageName;

/// How often counters of running stages are sampled.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// A running stage.
pub(super) struct Running {
    pub(super) share: Share,
    /// What it builds.
    pub(super) key: Digest,
    /// What the stage counts and says.
    pub(super) progress: Progress,
    /// Whether it has the lock of its key.
    pub(super) has_started: bool,
    since: Instant,
    shown: Instant,
}

impl Running {
    /// From now on.
    pub(super) fn new(share: Share, key: Digest) -> Self {
        let now = Instant::now();
        Self { share, key, progress: Progress::default(), has_started: false, since: now, shown: now }
    }

    /// Shows what the stage said since the last look.
    pub(super) fn tell(&self, name: &StageName, events: &EventSender) {
        for note in self.progress.drain() {
            events.send(Event::StageNote { stage: name.to_string(), note });
        }
    }

    /// Shows what the stage said, and how far it is: at first ten times a second, after some minutes once a second, so
    /// that the record of a long run stays small.
    pub(super) fn sample(&mut self, name: &StageName, events: &EventSender) {
        if !self.has_started {
            return;
        }
        self.tell(name, events);
        let elapsed = self.since.elapsed();
        if self.shown.elapsed() < (elapsed / 100).clamp(TICK, Duration::from_secs(1)) {
            return;
        }
        self.shown = Instant::now();
        let sample = self.progress.sample();
        let rate = self.progress.rate();
        events.send(Event::StageProgress { stage: name.to_string(), sample, rate });
    }
}
