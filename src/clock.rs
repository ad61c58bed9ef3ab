//! The system clock, which may jump. No result depends on it alone; most times are only displayed. Two decisions read it: whether a file
//! outside the store was last written so long ago that the next write must change its times (`store::sources`; if the clock is ahead, a
//! write of the same length in the same tick may go unnoticed), and which files in `tmp/` are old enough to be abandoned (they are removed
//! only while no other process uses the store).
//!
//! `PIPELINE_CLOCK=-3600` sets the program's clock back by an hour. Tests use it to run with clocks of other years.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// Returns the current time.
pub fn now() -> SystemTime {
    static SKEW: OnceLock<i64> = OnceLock::new();
    let skew = *SKEW
        .get_or_init(|| std::env::var("PIPELINE_CLOCK").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(0));
    let (now, by) = (SystemTime::now(), Duration::from_secs(skew.unsigned_abs()));
    let skewed = if skew < 0 { now.checked_sub(by) } else { now.checked_add(by) };
    skewed.unwrap_or(now)
}

/// Formats a time as `2026-11-25T06:36:11Z`; one before 1970 or after 9999 is clamped to that range.
pub fn rfc3339(time: SystemTime) -> String {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    let first = SystemTime::UNIX_EPOCH;
    humantime::format_rfc3339_seconds(time.clamp(first, first + LAST)).to_string()
}

/// Returns how long ago a time was; zero for a time in the future.
pub fn since(time: SystemTime) -> Duration {
    now().duration_since(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_time_can_be_formatted() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(rfc3339(at(1_764_052_571)), "2025-11-25T06:36:11Z");
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH - Duration::from_secs(5)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(at(1 << 40)), "9999-12-31T23:59:59Z");
        assert_eq!(since(now() + Duration::from_secs(60)), Duration::ZERO);
    }
}
