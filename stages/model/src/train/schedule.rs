//! The learning rate of each step: linear warm-up, then half a cosine, as in transformers'
//! `get_cosine_schedule_with_warmup` (whose first rate is 0), with a minimum.
//!
//! ```text
//! step < warmup:  peak · step / warmup
//! else:           floor + (peak − floor) · ½ (1 + cos(π (step − warmup) / (steps − warmup)))
//! ```

use std::f64::consts::PI;

/// A schedule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The maximum rate.
    pub peak: f64,
    /// The rate at the end.
    pub floor: f64,
    /// The number of warm-up steps.
    pub warmup: u64,
    /// The total number of steps.
    pub steps: u64,
}

impl Schedule {
    /// Returns the rate of the update with this number, from 0.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step as f64 / self.warmup as f64);
        }
        let progress = (step - self.warmup) as f64 / self.steps.saturating_sub(self.warmup).max(1) as f64;
        // libm instead of the machine's cosine: the same bits on every machine.
        let share = (0.5 * (1.0 + libm::cos(PI * progress.min(1.0)))).max(0.0);
        self.floor + (self.peak - self.floor) * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_is_linear_and_the_cosine_ends_at_the_floor() {
        let schedule = Schedule { peak: 1e-3, floor: 1e-4, warmup: 10, steps: 110 };
        assert_eq!(schedule.rate(0), 0.0);
        assert_eq!(schedule.rate(5), 5e-4);
        assert_eq!(schedule.rate(10), 1e-3);
        assert!((schedule.rate(60) - 5.5e-4).abs() < 1e-12);
        assert!((schedule.rate(110) - 1e-4).abs() < 1e-12);
        assert_eq!(schedule.rate(1000), schedule.rate(110));
    }

    #[test]
    fn without_warm_up_the_first_rate_is_the_peak() {
        assert_eq!(Schedule { peak: 1e-3, floor: 0.0, warmup: 0, steps: 10 }.rate(0), 1e-3);
    }
}
