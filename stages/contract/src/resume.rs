//! The state of an interrupted build, from which the next build of the same key continues.

use std::time::SystemTime;

use crate::progress::Unit;

/// The state that a stage saved in its scratch directory, from which the next run of the same key continues.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Checkpoint {
    /// The number of finished units.
    pub done: u64,
    /// The total number of units.
    pub total: u64,
    /// The unit of the count.
    pub unit: Unit,
    /// The seconds that the build took up to this state, over all its runs; 0 if that was not saved.
    pub seconds: f64,
    /// The time at which it was saved.
    pub saved: SystemTime,
}

impl Checkpoint {
    /// Returns the estimated remaining seconds at the rate so far, if known.
    pub fn seconds_left(&self) -> Option<f64> {
        let a_unit = (self.done > 0 && self.seconds > 0.0).then(|| self.seconds / self.done as f64)?;
        Some(a_unit * self.total.saturating_sub(self.done) as f64)
    }
}
