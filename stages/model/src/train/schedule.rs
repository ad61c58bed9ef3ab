//! The learning rate of each step: linear warm-up from 0, then one of four shapes, as transformers' `optimization.py` defines them, with
//! a floor. With `p = (step − start) / (steps − start)` and `start` the end of the warm-up:
//!
//! | schedule | rate | transformers |
//! |---|---|---|
//! | warm-up, `step < warmup` | `peak · step / warmup` | all of them |
//! | `cosine` | `floor + (peak − floor) · ½ (1 + cos πp)` | `get_cosine_schedule_with_warmup` |
//! | `linear` | `floor + (peak − floor) · (1 − p)` | `get_linear_schedule_with_warmup` |
//! | `constant` | `peak` | `get_constant_schedule_with_warmup` |
//! | `warmup-stable-decay` | `peak`; in the last `decay` steps the cosine, with `start = steps − decay` | `get_wsd_schedule` with its defaults |
//!
//! Warm-up-stable-decay: Hu et al., "MiniCPM", 2024, section 4, where a tenth of the steps is enough for the decay. Transformers' warm-ups
//! with a floor start from the floor; ours always starts from 0.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Half a cosine to `min_learning_rate`.
    #[default]
    Cosine,
    /// A line to `min_learning_rate`.
    Linear,
    /// It stays at `learning_rate`.
    Constant,
    /// It stays at `learning_rate`, and falls by half a cosine to `min_learning_rate` in the last `decay` updates.
    WarmupStableDecay,
}

/// A schedule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// How the rate falls.
    pub shape: Shape,
    /// The maximum rate.
    pub peak: f64,
    /// The rate at the end.
    pub floor: f64,
    /// The number of warm-up steps.
    pub warmup: u64,
    /// The number of last steps in which warm-up-stable-decay lowers the rate.
    pub decay: u64,
    /// The total number of steps.
    pub steps: u64,
}

impl Schedule {
    /// Returns the rate of the update with this number, from 0.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step as f64 / self.warmup as f64);
        }
        let start = match self.shape {
            Shape::WarmupStableDecay => self.steps.saturating_sub(self.decay).max(self.warmup),
            _ => self.warmup,
        };
        let progress = step.saturating_sub(start) as f64 / self.steps.saturating_sub(start).max(1) as f64;
        let progress = progress.min(1.0);
        let share = match self.shape {
            Shape::Constant => return self.peak,
            Shape::Linear => 1.0 - progress,
            // libm, not the machine's cosine: the same bits everywhere.
            Shape::Cosine | Shape::WarmupStableDecay => (0.5 * (1.0 + libm::cos(PI * progress))).max(0.0),
        };
        self.floor + (self.peak - self.floor) * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(shape: Shape) -> Schedule {
        Schedule { shape, peak: 1e-3, floor: 0.0, warmup: 10, decay: 20, steps: 110 }
    }

    /// The factors of `learning_rate` that the functions of transformers 5 return for 10 warm-up steps of 110, and 20 of decay.
    #[test]
    fn the_rates_are_those_of_transformers() {
        use Shape::{Constant, Cosine, Linear, WarmupStableDecay};
        for (shape, expected) in [
            (Cosine, [0.0, 0.5, 0.9, 1.0, 0.75, 0.5, 0.095_491_502_812_526_33, 0.000_246_719_817_134_2]),
            (Linear, [0.0, 0.5, 0.9, 1.0, 0.666_666_666_666_666_6, 0.5, 0.2, 0.01]),
            (Constant, [0.0, 0.5, 0.9, 1.0, 1.0, 1.0, 1.0, 1.0]),
            (WarmupStableDecay, [0.0, 0.5, 0.9, 1.0, 1.0, 1.0, 1.0, 0.006_155_829_702_431_17]),
        ] {
            // A third of the way is no whole step, so the fifth is computed from a schedule of 310 steps.
            for (at, step) in [0, 5, 9, 10, 110, 60, 90, 109].into_iter().enumerate() {
                let schedule = match at {
                    4 => Schedule { steps: 310, ..schedule(shape) },
                    _ => schedule(shape),
                };
                let found = schedule.rate(step) / schedule.peak;
                assert!((found - expected[at]).abs() < 1e-12, "{shape:?}, step {step}: {found}");
            }
        }
    }

    #[test]
    fn the_rate_ends_at_the_floor_unless_it_is_constant() {
        for shape in [Shape::Cosine, Shape::Linear, Shape::WarmupStableDecay] {
            let schedule = Schedule { floor: 1e-4, ..schedule(shape) };
            assert_eq!((schedule.rate(0), schedule.rate(5), schedule.rate(10)), (0.0, 5e-4, 1e-3), "{shape:?}");
            assert!((schedule.rate(110) - 1e-4).abs() < 1e-12, "{shape:?}");
            assert_eq!(schedule.rate(1000), schedule.rate(110), "{shape:?}");
        }
    }

    #[test]
    fn the_decay_begins_that_many_steps_before_the_end() {
        let schedule = schedule(Shape::WarmupStableDecay);
        assert_eq!((schedule.rate(89), schedule.rate(90)), (1e-3, 1e-3));
        assert!(schedule.rate(91) < 1e-3);
        assert!((schedule.rate(100) - 5e-4).abs() < 1e-12, "half of it is done");
        // Without a stable part.
        let short = Schedule { decay: 100, ..schedule };
        assert_eq!(short.rate(37), Schedule { shape: Shape::Cosine, ..short }.rate(37));
        assert_eq!(Schedule { decay: 0, ..schedule }.rate(109), 1e-3);
    }

    #[test]
    fn without_warm_up_the_first_rate_is_the_peak() {
        for shape in [Shape::Cosine, Shape::Linear, Shape::Constant, Shape::WarmupStableDecay] {
            assert_eq!(Schedule { warmup: 0, ..schedule(shape) }.rate(0), 1e-3, "{shape:?}");
        }
    }
}
