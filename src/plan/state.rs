//! The state of a stage in a plan.

use serde::Serialize;

/// What `run` would do with a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its output is in the store and undamaged. Precondition: all its dependencies are cached.
    Cached,
    /// It will run: no build with its settings is recorded; or its inputs are known and no build has read them; or it is forced.
    WillRun,
    /// Whether it runs depends on facts that are not known yet: whether an upstream stage changes its output, whether another process that
    /// builds an upstream stage builds it too, or which of several stages that have, or may have, its key is built first. Precondition: a
    /// build with its settings is recorded, or one of the reasons [`super::Reason::UpstreamHeld`], `SameKey`, `MaybeSameKey` and
    /// `SharedDamage` applies.
    MayRun,
    /// Another process is building its key: the stage waits and then uses that output. [`super::Reason::Held`] names the process.
    Waiting,
}

impl State {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Cached, Self::WillRun, Self::MayRun, Self::Waiting];

    /// Returns the verb phrase that follows the name of a stage.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Cached => "is cached",
            Self::WillRun | Self::MayRun => self.text(),
            Self::Waiting => "waits",
        }
    }

    /// Returns the label for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::WillRun => "will run",
            Self::MayRun => "may run",
            Self::Waiting => "waiting",
        }
    }
}
