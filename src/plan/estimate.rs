//! How long a stage may take, from what is on record.

use serde::Serialize;

use crate::events::figures;

/// The range of the times that builds took. It is history, not a promise: the input may be larger now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Seconds of the quickest.
    pub least: f64,
    /// Seconds of the slowest.
    pub most: f64,
    /// How many builds there are.
    pub builds: usize,
    /// What they have in common with the stage.
    pub basis: Basis,
}

/// From which builds a stage's time is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// Those with its own settings.
    Settings,
    /// Those of its kind, at their floating-point operations a second.
    Operations,
    /// Those of its kind.
    Kind,
}

impl Estimate {
    /// Of builds that took so many seconds; `None` of none.
    pub(super) fn of(seconds: impl Iterator<Item = f64>, basis: Basis) -> Option<Self> {
        seconds.fold(None, |estimate: Option<Self>, seconds| {
            let Self { least, most, builds, .. } =
                estimate.unwrap_or(Self { least: seconds, most: seconds, builds: 0, basis });
            Some(Self { least: least.min(seconds), most: most.max(seconds), builds: builds + 1, basis })
        })
    }

    /// For people: `took 12 s to 1:40 (3 builds of its kind)`.
    pub fn text(&self) -> String {
        let (range, builds) = (range(self.least, self.most), figures::counted(self.builds as u64, "build"));
        match self.basis {
            Basis::Settings => format!("took {range} ({builds} with its settings)"),
            Basis::Operations => format!("would take {range} (at the speed of {builds} of its kind)"),
            Basis::Kind => format!("took {range} ({builds} of its kind)"),
        }
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
        assert_eq!(Estimate::of(std::iter::empty(), Basis::Settings), None);
        let text = |seconds: &[f64], basis| Estimate::of(seconds.iter().copied(), basis).unwrap().text();
        assert_eq!(text(&[12.0, 100.0, 30.0], Basis::Kind), "took 12 s to 1:40 (3 builds of its kind)");
        assert_eq!(text(&[0.5], Basis::Settings), "took 0.5 s (1 build with its settings)");
        assert_eq!(text(&[90.0], Basis::Operations), "would take 1:30 (at the speed of 1 build of its kind)");
    }
}
