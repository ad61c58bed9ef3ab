//! The data that the components of a store share.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use contract::Cancel;

use super::error::{Damage, Fault, Object, Result, StoreError};
use super::files;
use super::layout::Layout;

/// The data that all components share: the paths, whether the store may be written, and when to stop.
#[derive(Debug, Clone)]
pub(super) struct Root {
    pub(super) layout: Layout,
    pub(super) writes: bool,
    /// Stops hashing and waiting.
    pub(super) stop: Cancel,
}

impl Root {
    /// Returns the same data for a store that is open for reading only.
    pub(super) fn as_reader(&self) -> Self {
        Self { writes: false, ..self.clone() }
    }

    pub(super) fn check_writable(&self) -> Result<()> {
        if self.writes { Ok(()) } else { Err(StoreError::ReadOnly) }
    }

    pub(super) fn replace(&self, path: &Path, content: &[u8]) -> Result<()> {
        files::replace(&self.layout.tmp(), path, content)
    }

    pub(super) fn move_aside(&self, path: &Path) -> Result<PathBuf> {
        files::move_aside(path, &self.layout.dir("damaged"))
    }

    /// Reports an object as damaged, and moves it aside if the store is writable.
    pub(super) fn damage(&self, object: Object, fault: Fault, path: &Path) -> Result<Damage> {
        let mut aside = None;
        if self.writes && fault != Fault::Missing {
            match self.move_aside(path) {
                Ok(moved) => aside = Some(moved),
                // Another process has moved it first.
                Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        tracing::warn!(%object, %fault, "damaged object");
        Ok(Damage { object, fault, aside })
    }

    /// Returns [`Root::damage`] as an error.
    pub(super) fn damaged(&self, object: Object, fault: Fault, path: &Path) -> StoreError {
        self.damage(object, fault, path).map_or_else(|error| error, StoreError::Damaged)
    }
}

/// Locks a mutex, even if another thread panicked while holding it.
pub(super) fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
