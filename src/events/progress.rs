//! The progress of a stage, in the available columns: `120 of 2,000 steps  loss/train 4.21  3.1/s  10:06 left`.
//!
//! For a stage that runs a program it is the time so far and the last line that the program wrote: `0:42  epoch 3`.
//!
//! Figures that do not fit are left out, the least important first; none is truncated.

use std::collections::BTreeMap;

use contract::Unit;
use contract::progress::Sample;

use super::figures;

/// The figures of a running stage, in the order in which they are shown.
pub(super) struct Figures {
    /// The current phase, with a colon; empty if the stage has one phase only.
    phase: String,
    figures: Vec<(Rank, String)>,
}

/// The importance of a figure, the most important first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Amount,
    Loss,
    Left,
    OtherLoss,
    Rate,
    Metric,
}

impl Figures {
    /// Creates the figures of a sample, its rate in units a second, and the last value of each series.
    pub(super) fn of(sample: &Sample, rate: Option<f64>, metrics: &BTreeMap<String, f64>) -> Self {
        let Sample { phase, unit, done, total } = sample;
        let alone = |text: &str| Self { phase: String::new(), figures: vec![(Rank::Amount, text.to_owned())] };
        if *unit == Unit::Seconds {
            let time = figures::amount(*done, *total, *unit);
            return alone(format!("{time}  {phase}").trim_end());
        }
        if *sample == Sample::default() {
            // It has not started to count.
            return alone("starts");
        }
        let mut all = vec![(Rank::Amount, figures::amount(*done, *total, *unit))];
        let is_loss = |name: &str| name.starts_with("loss");
        let mut rank = Rank::Loss;
        for (name, value) in metrics.iter().filter(|(name, _)| is_loss(name)) {
            all.push((rank, metric(name, *value)));
            rank = Rank::OtherLoss;
        }
        if let Some(rate) = rate.filter(|rate| rate.is_finite() && *rate > 0.0) {
            all.push((Rank::Rate, figures::rate(rate, *unit)));
            if let Some(total) = total.filter(|total| total > done) {
                all.push((Rank::Left, format!("{} left", figures::clock((total - done) as f64 / rate))));
            }
        }
        let others = metrics.iter().filter(|(name, _)| !is_loss(name));
        all.extend(others.map(|(name, value)| (Rank::Metric, metric(name, *value))));
        let phase = if phase.is_empty() { String::new() } else { format!("{phase}: ") };
        Self { phase, figures: all }
    }

    /// Formats all figures.
    pub(super) fn all(&self) -> String {
        self.text(Rank::Metric)
    }

    /// Returns whether the amount, the loss and the time left fit into this many columns.
    pub(super) fn essentials_fit(&self, columns: usize) -> bool {
        self.text(Rank::Left).chars().count() <= columns
    }

    /// Formats as many figures as fit into this many columns; the amount always.
    pub(super) fn within(mut self, columns: usize) -> String {
        loop {
            let text = self.all();
            if text.chars().count() <= columns {
                return text;
            }
            let least = self.figures.iter().enumerate().skip(1).max_by_key(|(index, (rank, _))| (*rank, *index));
            match least.map(|(index, _)| index) {
                Some(index) => drop(self.figures.remove(index)),
                None if self.phase.is_empty() => return text,
                None => self.phase.clear(),
            }
        }
    }

    /// Formats the figures of this rank and above.
    fn text(&self, least: Rank) -> String {
        let shown = self.figures.iter().filter(|(rank, _)| *rank <= least);
        format!("{}{}", self.phase, shown.map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("  "))
    }
}

fn metric(name: &str, value: f64) -> String {
    format!("{name} {}", figures::metric(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn training() -> Figures {
        let sample = Sample { phase: String::new(), unit: Unit::Steps, done: 100_000, total: Some(500_000) };
        let metrics = [
            ("gradient_norm", 0.8214),
            ("learning_rate", 0.06),
            ("loss/train", 2.9314),
            ("loss/validation", 3.1),
            ("perplexity/validation", 22.2),
        ];
        let metrics = metrics.map(|(name, value)| (name.to_owned(), value)).into();
        Figures::of(&sample, Some(31.0), &metrics)
    }

    #[test]
    fn figures_are_left_out_whole_and_the_loss_last() {
        let all = "100,000 of 500,000 steps  loss/train 2.9314  loss/validation 3.1  31/s  3:35:03 left  \
             gradient_norm 0.8214  learning_rate 0.06  perplexity/validation 22.2";
        assert_eq!(training().all(), all);
        let within = |columns| training().within(columns);
        assert_eq!(within(all.len()), all);
        assert_eq!(within(all.len() - 1), all.replace("  perplexity/validation 22.2", ""));
        let expected = [
            (84, "100,000 of 500,000 steps  loss/train 2.9314  loss/validation 3.1  31/s  3:35:03 left"),
            (83, "100,000 of 500,000 steps  loss/train 2.9314  loss/validation 3.1  3:35:03 left"),
            (77, "100,000 of 500,000 steps  loss/train 2.9314  3:35:03 left"),
            (56, "100,000 of 500,000 steps  loss/train 2.9314"),
            (43, "100,000 of 500,000 steps  loss/train 2.9314"),
            (42, "100,000 of 500,000 steps"),
            // The terminal truncates what does not fit even then.
            (0, "100,000 of 500,000 steps"),
        ];
        for (columns, text) in expected {
            assert_eq!(within(columns), text, "{columns} columns");
        }
        assert!(training().essentials_fit(57) && !training().essentials_fit(56));
    }

    #[test]
    fn the_phase_is_left_out_after_the_figures() {
        let sample = Sample { phase: "read shards".into(), unit: Unit::Rows, done: 7, total: None };
        let within = |columns| Figures::of(&sample, Some(2.0), &BTreeMap::new()).within(columns);
        assert_eq!(within(26), "read shards: 7 rows  2.0/s");
        assert_eq!(within(25), "read shards: 7 rows");
        assert_eq!(within(18), "7 rows");
    }
}
