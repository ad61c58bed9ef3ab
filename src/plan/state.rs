//! The state of a stage in a plan.

use serde::Serialize;

/// What `run` would do with a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its output is in the store and whole. Precondition: every stage that it needs is cached.
    Cached,
    /// It will run: whatever its inputs turn out to hold, no build with its settings is on record; or its inputs are
    /// known and no build with them is; or it is forced.
    WillRun,
    /// Whether it runs depends on what is not known yet: whether a stage that it needs changes its output (such a stage will
    /// run, may run or waits, and a build with this one's settings is on record), whether another process that is at work on
    /// what it needs builds it too, or which of several stages that have, or may turn out to have, its key is the first.
    /// Precondition: one of the reasons [`super::Reason::Upstream`], `UpstreamHeld`, `SameKey` and `MaybeSameKey` says which.
    MayRun,
    /// Another process builds its key now: it waits, and finds the output then. [`super::Reason::Held`] says who.
    Waiting,
}

impl State {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Cached, Self::WillRun, Self::MayRun, Self::Waiting];

    /// For people, after the name of a stage.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Cached => "is cached",
            Self::WillRun | Self::MayRun => self.text(),
            Self::Waiting => "waits",
        }
    }

    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::WillRun => "will run",
            Self::MayRun => "may run",
            Self::Waiting => "waiting",
        }
    }
}
