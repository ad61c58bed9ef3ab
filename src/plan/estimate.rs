//! Estimates of how long a stage may take, from recorded builds.
//!
//! The time of a build is used for a stage only if the work of both is known, and is scaled by it:
//!
//! Builds on another machine or, for a stage that uses it, on another device are used only if there are none on this one.
//!
//! | known of both | scaled by | used if |
//! |---|---|---|
//! | floating-point operations and equal updates | the ratio of the operations | an update of neither has more than [`MAX_OPERATIONS_RATIO`] times those of the other: so a short training predicts a long one |
//! | floating-point operations | their ratio | neither is more than [`MAX_OPERATIONS_RATIO`] times the other |
//! | bytes of input | their ratio | neither is more than [`MAX_BYTES_RATIO`] times the other |
//! | neither reads anything, and their settings are equal | 1 | always |

use serde::Serialize;

use crate::events::figures;

/// Ratio of the input sizes of two builds beyond which the time of one does not predict that of the other.
const MAX_BYTES_RATIO: f64 = 10.0;
/// The same ratio for floating-point operations: beyond it, devices are utilised differently.
const MAX_OPERATIONS_RATIO: f64 = 100.0;
/// Ratios within this distance of 1 are not mentioned.
const NEGLIGIBLE: f64 = 0.02;

/// The range of the times of earlier builds, scaled to the work of the stage. It is history, not a promise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Seconds of the fastest build.
    pub least: f64,
    /// Seconds of the slowest build.
    pub most: f64,
    /// Number of builds.
    pub builds: usize,
    /// The builds that the estimate is based on.
    pub basis: Basis,
    /// The factor by which their times were scaled to the work of the stage; of several, the one furthest from 1.
    pub scaled: f64,
}

/// The builds from which the time of a stage is estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// Builds with its settings.
    Settings,
    /// Builds of its kind, scaled by floating-point operations.
    Operations,
    /// Builds of its kind, scaled by the bytes that they read.
    Kind,
    /// The interrupted build that it resumes: the remaining time.
    Checkpoint,
}

/// The reason that there is no estimate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum NoEstimate {
    /// No build of its kind is recorded.
    NoBuild,
    /// The recorded builds read much more or much less than the stage will.
    OtherSize {
        /// Bytes that the build nearest in size read.
        then: u64,
        /// Bytes that the stage reads, by estimate.
        now: u64,
    },
    /// The recorded builds took many more or many fewer floating-point operations.
    OtherOperations {
        /// Operations of the recorded build with the nearest number.
        then: f64,
        /// Operations of the stage, by estimate.
        now: f64,
    },
    /// The input size of the stage is not known yet.
    UnknownInput,
    /// The recorded builds and the stage have no measure of work in common.
    OtherWork,
}

/// The work of a build, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Work {
    /// Floating-point operations.
    pub(super) operations: Option<f64>,
    /// The equal updates in which they are made.
    pub(super) updates: Option<u64>,
    /// Bytes of its inputs and source files.
    pub(super) bytes: Option<u64>,
}

/// A recorded build, as far as an estimate needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct PastBuild {
    /// Its duration, in seconds.
    pub(super) seconds: f64,
    /// Its work.
    pub(super) work: Work,
    /// Whether its settings are those of the stage.
    pub(super) has_equal_settings: bool,
    /// Whether it ran on this machine and, if the stage uses it, on the device of this run.
    pub(super) is_here: bool,
}

/// The work of a stage relative to that of a build.
enum Ratio {
    Operations(f64),
    Bytes(f64),
    /// The work differs too much, by a factor with this logarithm.
    Apart(f64, NoEstimate),
    Unknown,
}

impl Work {
    fn ratio(self, then: Self, has_equal_settings: bool) -> Ratio {
        let then_updates = then.updates;
        let positive = |operations: Option<f64>| operations.filter(|operations| *operations > 0.0);
        if let (Some(now), Some(then)) = (positive(self.operations), positive(then.operations)) {
            let ratio = now / then;
            let updates = [self.updates, then_updates].map(|updates| updates.filter(|updates| *updates > 0));
            // The time of an update does not depend on how many there are.
            let an_update = match updates {
                [Some(now), Some(then)] => ratio * then as f64 / now as f64,
                _ => ratio,
            };
            return match (1.0 / MAX_OPERATIONS_RATIO..=MAX_OPERATIONS_RATIO).contains(&an_update) {
                true => Ratio::Operations(ratio),
                false => Ratio::Apart(an_update.ln().abs(), NoEstimate::OtherOperations { then, now }),
            };
        }
        match (self.bytes, then.bytes) {
            (Some(0), Some(0)) if has_equal_settings => Ratio::Bytes(1.0),
            (Some(now), Some(then)) if now > 0 && then > 0 => {
                let ratio = now as f64 / then as f64;
                match (1.0 / MAX_BYTES_RATIO..=MAX_BYTES_RATIO).contains(&ratio) {
                    true => Ratio::Bytes(ratio),
                    false => Ratio::Apart(ratio.ln().abs(), NoEstimate::OtherSize { then, now }),
                }
            }
            _ => Ratio::Unknown,
        }
    }
}

impl Estimate {
    /// Estimates the time of this work from the builds of the stage's kind: from those with its settings if any has comparable work;
    /// otherwise from all builds, by operations if known.
    pub(super) fn of(work: Work, builds: &[PastBuild]) -> Result<Self, NoEstimate> {
        let here: Vec<_> = builds.iter().filter(|build| build.is_here).copied().collect();
        let builds = if here.is_empty() { builds } else { &here };
        let ratios: Vec<_> =
            builds.iter().map(|build| (build, work.ratio(build.work, build.has_equal_settings))).collect();
        let scaled = |wanted: fn(&PastBuild, &Ratio) -> bool| {
            ratios.iter().filter(move |(build, ratio)| wanted(build, ratio)).filter_map(|(build, ratio)| match ratio {
                Ratio::Operations(ratio) | Ratio::Bytes(ratio) => Some((build.seconds, *ratio)),
                Ratio::Apart(..) | Ratio::Unknown => None,
            })
        };
        Self::range(scaled(|build, _| build.has_equal_settings), Basis::Settings)
            .or_else(|| Self::range(scaled(|_, ratio| matches!(ratio, Ratio::Operations(_))), Basis::Operations))
            .or_else(|| Self::range(scaled(|_, _| true), Basis::Kind))
            .ok_or_else(|| {
                let apart = ratios.iter().filter_map(|(_, ratio)| match ratio {
                    Ratio::Apart(far, why) => Some((far, why)),
                    _ => None,
                });
                match apart.min_by(|one, other| one.0.total_cmp(other.0)) {
                    Some((_, why)) => *why,
                    None if builds.is_empty() => NoEstimate::NoBuild,
                    None if work.bytes.is_none() => NoEstimate::UnknownInput,
                    None => NoEstimate::OtherWork,
                }
            })
    }

    /// Returns the range of the given times, each with its scale; `None` if there are no times.
    fn range(times: impl Iterator<Item = (f64, f64)>, basis: Basis) -> Option<Self> {
        times.fold(None, |estimate: Option<Self>, (seconds, ratio)| {
            let seconds = seconds * ratio;
            let Self { least, most, builds, scaled, .. } =
                estimate.unwrap_or(Self { least: seconds, most: seconds, builds: 0, basis, scaled: 1.0 });
            let scaled = if ratio.ln().abs() > scaled.ln().abs() { ratio } else { scaled };
            Some(Self { least: least.min(seconds), most: most.max(seconds), builds: builds + 1, basis, scaled })
        })
    }

    /// Returns the estimate for an interrupted build with this many seconds left.
    pub(super) fn left(seconds: f64) -> Self {
        Self { least: seconds, most: seconds, builds: 1, basis: Basis::Checkpoint, scaled: 1.0 }
    }

    /// Formats the estimate: `took 12 s to 1:40 (3 builds with its settings)`.
    pub fn text(&self) -> String {
        let (range, builds) = (range(self.least, self.most), figures::counted(self.builds as u64, "build"));
        let (whose, measure) = match self.basis {
            Basis::Settings => ("with its settings", "its work"),
            Basis::Operations => ("of its kind", "floating-point operations"),
            Basis::Kind => ("of its kind", "the size of its input"),
            Basis::Checkpoint => return format!("about {range} left"),
        };
        if (self.scaled - 1.0).abs() <= NEGLIGIBLE {
            return format!("took {range} ({builds} {whose})");
        }
        format!("about {range} ({builds} {whose}, scaled by {measure})")
    }
}

impl NoEstimate {
    /// Formats the reason: `no estimate: no earlier build of kind train`.
    pub fn text(&self, kind: &str) -> String {
        match self {
            Self::NoBuild => format!("no estimate: no earlier build of kind {kind}"),
            Self::OtherSize { then, now } => {
                let (then, now) = (figures::size(*then), figures::size(*now));
                format!("no estimate: earlier builds of kind {kind} read {then}, this one reads about {now}")
            }
            Self::OtherOperations { then, now } => format!(
                "no estimate: earlier builds of kind {kind} took {then:.2e} floating-point operations, this one about {now:.2e}"
            ),
            Self::UnknownInput => "no estimate: the size of its input is not known yet".to_owned(),
            Self::OtherWork => format!("no estimate: no earlier build of kind {kind} with comparable work"),
        }
    }
}

/// Formats a range of seconds: `1.4 s` if both ends have the same text, else `1.4 s to 2:03`.
pub fn range(least: f64, most: f64) -> String {
    let (least, most) = (figures::duration(least), figures::duration(most));
    if least == most { least } else { format!("{least} to {most}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(seconds: f64, operations: Option<f64>, bytes: Option<u64>, has_equal_settings: bool) -> PastBuild {
        PastBuild { seconds, work: Work { operations, updates: None, bytes }, has_equal_settings, is_here: true }
    }

    fn text(work: Work, builds: &[PastBuild]) -> String {
        Estimate::of(work, builds).map_or_else(|none| none.text("train"), |estimate| estimate.text())
    }

    #[test]
    fn an_estimate_is_the_range_of_what_builds_of_equal_work_took() {
        let work = Work { bytes: Some(1000), ..Work::default() };
        let alike = |seconds| past(seconds, None, Some(1000), true);
        let kind = |seconds| past(seconds, None, Some(1000), false);
        assert_eq!(text(work, &[]), "no estimate: no earlier build of kind train");
        assert_eq!(text(work, &[kind(12.0), kind(100.0), kind(30.0)]), "took 12 s to 1:40 (3 builds of its kind)");
        assert_eq!(text(work, &[kind(12.0), alike(0.5)]), "took 0.5 s (1 build with its settings)");
    }

    #[test]
    fn a_time_is_scaled_by_operations_up_to_a_hundredfold_and_by_bytes_up_to_tenfold() {
        let operations = |operations| Work { operations: Some(operations), bytes: Some(1), updates: None };
        let trained = [past(0.09, Some(1e6), Some(1_000_000), false)];
        let scaled = |range| format!("about {range} (1 build of its kind, scaled by floating-point operations)");
        assert_eq!(text(operations(2e6), &trained), scaled("0.2 s"));
        assert_eq!(text(operations(1e8), &trained), scaled("9.0 s"));
        let apart =
            "no estimate: earlier builds of kind train took 1.00e6 floating-point operations, this one about 1.01e8";
        assert_eq!(text(operations(1.01e8), &trained), apart);
        assert!(
            text(operations(0.99e4), &trained).starts_with("no estimate: earlier builds of kind train took 1.00e6 ")
        );
        assert!(text(operations(1.01e4), &trained).starts_with("about "));
        let bytes = |bytes| Work { bytes: Some(bytes), ..Work::default() };
        let read = [past(10.0, None, Some(1000), true)];
        let scaled = |range| format!("about {range} (1 build with its settings, scaled by its work)");
        assert_eq!(text(bytes(9_999), &read), scaled("1:40"));
        assert_eq!(text(bytes(10_000), &read), scaled("1:40"));
        let apart = "no estimate: earlier builds of kind train read 1000 B, this one reads about 9.8 KiB";
        assert_eq!(text(bytes(10_001), &read), apart);
        assert_eq!(text(bytes(100), &read), scaled("1.0 s"));
        assert!(text(bytes(99), &read).starts_with("no estimate: earlier builds of kind train read 1000 B"));
    }

    #[test]
    fn a_short_training_predicts_a_long_one_with_updates_of_its_size() {
        let training =
            |operations, updates| Work { operations: Some(operations), updates: Some(updates), bytes: Some(1) };
        // 20 updates of 1e14 operations took 40 s.
        let past = PastBuild { work: training(2e15, 20), ..past(40.0, None, None, false) };
        let scaled = |range| format!("about {range} (1 build of its kind, scaled by floating-point operations)");
        assert_eq!(text(training(1.5e19, 150_000), &[past]), scaled("3 d 11 h"));
        assert_eq!(text(training(1.5e21, 150_000), &[past]), scaled("347 d 5 h"), "a hundred times as large an update");
        let apart =
            "no estimate: earlier builds of kind train took 2.00e15 floating-point operations, this one about 1.52e21";
        assert_eq!(text(training(1.52e21, 150_000), &[past]), apart);
    }

    #[test]
    fn builds_elsewhere_are_used_only_if_there_are_none_here() {
        let work = Work { bytes: Some(1000), ..Work::default() };
        let here = past(12.0, None, Some(1000), false);
        let elsewhere = PastBuild { is_here: false, ..past(1.0, None, Some(1000), true) };
        assert_eq!(text(work, &[elsewhere, here]), "took 12 s (1 build of its kind)");
        assert_eq!(text(work, &[elsewhere]), "took 1.0 s (1 build with its settings)");
    }

    #[test]
    fn builds_without_a_common_measure_of_work_say_nothing() {
        let none = "no estimate: no earlier build of kind train with comparable work";
        let unknown = [past(10.0, None, None, true)];
        assert_eq!(text(Work { operations: Some(1e9), bytes: Some(1), updates: None }, &unknown), none);
        let unknown = text(Work::default(), &[past(10.0, None, Some(1), true)]);
        assert_eq!(unknown, "no estimate: the size of its input is not known yet");
        // A stage that reads nothing does the same work with the same settings; with others there is no estimate.
        let work = Work { bytes: Some(0), ..Work::default() };
        assert_eq!(text(work, &[past(10.0, None, Some(0), true)]), "took 10 s (1 build with its settings)");
        assert_eq!(text(work, &[past(10.0, None, Some(0), false)]), none);
    }
}
