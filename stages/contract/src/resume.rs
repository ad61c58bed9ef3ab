//! What an interrupted build left for the next build of the same key.

use std::time::SystemTime;

use crate::progress::Unit;

/// The state that a stage saved in its scratch directory, from which the next run of the same key continues.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Checkpoint {
    /// Units done.
    pub done: u64,
    /// Units in all.
    pub total: u64,
    /// What is counted.
    pub unit: Unit,
    /// Seconds that the build took up to this state, over all its runs; 0 where that was not saved.
    pub seconds: f64,
    /// When it was saved.
    pub saved: SystemTime,
}

impl Checkpoint {
    /// Seconds that the rest takes at the rate so far, where that is known.
    pub fn seconds_left(&self) -> Option<f64> {
        let a_unit = (self.done > 0 && self.seconds > 0.0).then(|| self.seconds / self.done as f64)?;
        Some(a_unit * self.total.saturating_sub(self.done) as f64)
    }
}
