//! A stale stage that another process builds: it has no thread and no share, and is decided again when the lock of its key is
//! free.

use super::execution::Ready;
use crate::store::{LockHolder, LockState, Store};

/// A stage that waits.
pub(super) struct Waiting {
    pub(super) ready: Box<Ready>,
    /// The holder that was told of; `Some(None)` is one that is not known by name.
    told: Option<Option<LockHolder>>,
}

/// What there is to do about a stage that waits.
pub(super) enum News {
    /// Nothing.
    None,
    /// To say whom it waits for.
    Holder(String),
    /// To decide it again.
    Free,
}

impl Waiting {
    /// From now on. Whom it waits for is told at a later look: a plan that looks who builds the key holds the lock for a
    /// moment.
    pub(super) fn new(ready: Box<Ready>) -> Self {
        Self { ready, told: None }
    }

    /// Looks at the lock. Each holder is told of once.
    pub(super) fn look(&mut self, store: &Store) -> News {
        // What is wrong with a lock is told by who takes it.
        let LockState::Held(holder) = store.work.lock_state(self.ready.keyed.key.digest()).unwrap_or(LockState::Free)
        else {
            return News::Free;
        };
        // Nobody's name yet is told only when nothing was told before.
        if self.told.is_some() && (holder.is_none() || self.told == Some(holder.clone())) {
            return News::None;
        }
        let text = holder.as_ref().map_or_else(|| "another process".to_owned(), ToString::to_string);
        self.told = Some(holder);
        News::Holder(text)
    }
}
