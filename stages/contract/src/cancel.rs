//! A flag that asks a running stage to stop soon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Result, StageError};

/// The cancel flag, shared by the engine, which sets it, and the stage, which checks it between units of work of at most about a second.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks the stage to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether the stage was asked to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns an error if the stage was asked to stop. Call it between units of work.
    ///
    /// # Errors
    /// Returns [`StageError::Interrupted`] if the stage was asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.is_set() { Err(StageError::Interrupted) } else { Ok(()) }
    }
}
