//! How long a stage may take, from what is on record.

use serde::Serialize;

use crate::events::figures;

/// The range of the times that builds took. It is history, not a promise: the input may be larger now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Seconds of the quickest build.
    pub least: f64,
    /// Seconds of the slowest.
    pub most: f64,
    /// How many builds there are.
    pub builds: usize,
    /// Whether they had the stage's own settings; else they were only of its kind.
    pub alike: bool,
}

impl Estimate {
    /// Of builds that took so many seconds; `None` of none.
    pub(super) fn of(seconds: impl Iterator<Item = f64>, alike: bool) -> Option<Self> {
        seconds.fold(None, |estimate: Option<Self>, seconds| {
            let Self { least, most, builds, .. } =
                estimate.unwrap_or(Self { least: seconds, most: seconds, builds: 0, alike });
            Some(Self { least: least.min(seconds), most: most.max(seconds), builds: builds + 1, alike })
        })
    }

    /// For people: `12 s to 1:40 (3 builds of its kind)`.
    pub fn text(&self) -> String {
        let what = if self.alike { "with its settings" } else { "of its kind" };
        format!("{} ({} {what})", range(self.least, self.most), figures::counted(self.builds as u64, "build"))
    }
}

/// `1.4 s`, where both ends read the same, else `1.4 s to 2:03`.
pub fn range(least: f64, most: f64) -> String {
    let (least, most) = (figures::duration(least), figures::duration(most));
    if least == most { least } else { format!("{least} to {most}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_the_range_of_what_was() {
        assert_eq!(Estimate::of(std::iter::empty(), true), None);
        let estimate = Estimate::of([12.0, 100.0, 30.0].into_iter(), false).unwrap();
        assert_eq!(estimate.text(), "12 s to 1:40 (3 builds of its kind)");
        assert_eq!(Estimate::of([0.5].into_iter(), true).unwrap().text(), "0.5 s (1 build with its settings)");
    }
}
