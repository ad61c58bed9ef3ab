//! A stale stage that another process builds. It has no thread and no share, and is decided again when the lock of its key is free.

use super::message::StaleStage;
use crate::store::{LockHolder, LockState, Store};

/// A stage that waits.
pub(super) struct Waiting {
    pub(super) stale: Box<StaleStage>,
    /// The holder that was reported last; `Some(None)` is one whose name is not known.
    reported: Option<Option<LockHolder>>,
}

/// What has changed since the last poll.
pub(super) enum LockChange {
    Unchanged,
    /// The holder is to be reported.
    Holder(String),
    /// The lock is free: the stage is to be decided again.
    Free,
}

impl Waiting {
    /// The holder is not reported before the first poll: a plan holds the lock for a moment to find out who builds the key.
    pub(super) fn new(stale: Box<StaleStage>) -> Self {
        Self { stale, reported: None }
    }

    /// Checks the lock. Each holder is reported once.
    pub(super) fn poll(&mut self, store: &Store) -> LockChange {
        // An error of the lock is reported by whoever acquires it.
        let LockState::Held(holder) = store.work.lock_state(self.stale.key.key.digest()).unwrap_or(LockState::Free)
        else {
            return LockChange::Free;
        };
        // A holder without a name is reported only if none was reported before.
        if self.reported.is_some() && (holder.is_none() || self.reported == Some(holder.clone())) {
            return LockChange::Unchanged;
        }
        let text = holder.as_ref().map_or_else(|| "another process".to_owned(), ToString::to_string);
        self.reported = Some(holder);
        LockChange::Holder(text)
    }
}
