//! A running stage: its share of the machine and its progress.

use std::time::{Duration, Instant};

use contract::{Digest, Progress};

use super::resources::Share;
use crate::events::{Event, EventSender};
use crate::manifest::StageName;

/// The interval at which the counters of running stages are sampled.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// A running stage.
pub(super) struct Running {
    pub(super) share: Share,
    /// The key that it builds.
    pub(super) key: Digest,
    /// The counters and notes of the stage.
    pub(super) progress: Progress,
    /// Whether it has the lock of its key.
    pub(super) has_started: bool,
    since: Instant,
    sampled: Instant,
}

impl Running {
    /// Creates a running stage that starts now.
    pub(super) fn new(share: Share, key: Digest) -> Self {
        let now = Instant::now();
        Self { share, key, progress: Progress::default(), has_started: false, since: now, sampled: now }
    }

    /// Sends the notes of the stage since the last call.
    pub(super) fn send_notes(&self, name: &StageName, events: &EventSender) {
        for note in self.progress.drain() {
            events.send(Event::StageNote { stage: name.to_string(), note });
        }
    }

    /// Sends the notes and the progress of the stage: progress at first ten times a second, after some minutes once a second, so that the
    /// record of a long run stays small.
    pub(super) fn sample(&mut self, name: &StageName, events: &EventSender) {
        if !self.has_started {
            return;
        }
        self.send_notes(name, events);
        let interval = (self.since.elapsed() / 100).clamp(SAMPLE_INTERVAL, Duration::from_secs(1));
        if self.sampled.elapsed() >= interval {
            self.sampled = Instant::now();
            let (sample, rate) = (self.progress.sample(), self.progress.rate());
            events.send(Event::StageProgress { stage: name.to_string(), sample, rate });
        }
    }
}
