//! What the thread of a stage says to the scheduler.

use std::path::PathBuf;

use super::decision::Decided;
use super::execution::{Built, Executed, Failure, Ready};
use crate::manifest::StageName;
use crate::plan::Keyed;
use crate::store::Hit;

/// What a stage's thread found out.
pub(super) enum Message {
    /// Its output is in the store.
    Cached(StageName, Keyed, Box<Hit>),
    /// It is stale.
    Ready(StageName, Box<Ready>),
    /// It is stale, and another process builds its key.
    Held(StageName, Box<Ready>),
    /// It has its share and the lock of its key, and runs from now on.
    Started(StageName),
    /// A file outside the store is not what it was when the stage was decided; nothing was done.
    Changed(StageName, Box<Ready>, PathBuf),
    /// It ran.
    Built(StageName, Keyed, Box<Built>),
    /// It has no output.
    Failed(StageName, Failure),
}

impl Message {
    /// Of a decision.
    pub(super) fn of_decided(stage: &StageName, decided: Decided) -> Self {
        match decided {
            Decided::Cached(keyed, hit) => Self::Cached(stage.clone(), keyed, hit),
            Decided::Ready(ready) => Self::Ready(stage.clone(), ready),
            Decided::Held(ready) => Self::Held(stage.clone(), ready),
        }
    }

    /// Of a stage that had its share.
    pub(super) fn of_executed(stage: &StageName, ready: Box<Ready>, executed: Executed) -> Self {
        match executed {
            Executed::Built(built) => Self::Built(stage.clone(), ready.keyed, built),
            Executed::Cached(hit) => Self::Cached(stage.clone(), ready.keyed, hit),
            Executed::Held => Self::Held(stage.clone(), ready),
            Executed::Changed(path) => Self::Changed(stage.clone(), ready, path),
        }
    }
}
