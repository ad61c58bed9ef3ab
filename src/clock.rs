//! The system's clock. It may jump, and nothing that decides trusts it: its times are there for people, and for the order in
//! which builds of equal standing are named.
//!
//! `PIPELINE_CLOCK=-3600` has the program see an hour less, to prove that: tests run it under clocks of other years.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// The time now.
pub fn now() -> SystemTime {
    static SKEW: OnceLock<i64> = OnceLock::new();
    let skew = *SKEW
        .get_or_init(|| std::env::var("PIPELINE_CLOCK").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(0));
    let (now, by) = (SystemTime::now(), Duration::from_secs(skew.unsigned_abs()));
    let skewed = if skew < 0 { now.checked_sub(by) } else { now.checked_add(by) };
    skewed.unwrap_or(now)
}

/// How long ago a time was; nothing where it lies in the future.
pub fn since(time: SystemTime) -> Duration {
    now().duration_since(time).unwrap_or_default()
}
