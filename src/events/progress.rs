//! The progress of a stage: `120 of 2,000 steps  loss/train 4.21  3.1/s  10:06 left`.
//!
//! For a stage that runs a program, it shows the time so far and the last line of the program's output: `0:42  epoch 3`.

use std::collections::BTreeMap;

use contract::Unit;
use contract::progress::Sample;

use super::figures;

/// Formats a sample, its rate in units per second, and the last value of each series: the most important comes first, because a
/// narrow terminal truncates the end.
pub(super) fn figures_of(sample: &Sample, rate: Option<f64>, metrics: &BTreeMap<String, f64>) -> String {
    let Sample { phase, unit, done, total } = sample;
    let amount = figures::amount(*done, *total, *unit);
    if *unit == Unit::Seconds {
        return format!("{amount}  {phase}").trim_end().to_owned();
    }
    if *sample == Sample::default() {
        // The stage has not counted anything yet.
        return "starts".to_owned();
    }
    let phase = if phase.is_empty() { String::new() } else { format!("{phase}: ") };
    let metric = |(name, value): (&String, &f64)| format!("{name} {}", figures::metric(*value));
    let is_loss = |(name, _): &(&String, &f64)| name.starts_with("loss");
    let is_speed = |(name, _): &(&String, &f64)| name.starts_with("speed/");
    let mut all = vec![phase + &amount];
    all.extend(metrics.iter().filter(is_loss).map(metric));
    if let Some(rate) = rate.filter(|rate| rate.is_finite() && *rate > 0.0) {
        all.push(figures::rate(rate, *unit));
        let left = total.filter(|total| total > done).map(|total| (total - done) as f64 / rate);
        all.extend(left.map(|left| format!("{} left", figures::clock(left))));
    }
    all.extend(metrics.iter().filter(is_speed).map(metric));
    all.extend(metrics.iter().filter(|metric| !is_loss(metric) && !is_speed(metric)).map(metric));
    all.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_comes_before_the_time_left_and_other_metrics() {
        let sample = Sample { phase: "train".into(), unit: Unit::Steps, done: 65, total: Some(300) };
        let metrics =
            [("gradient_norm", 0.8214), ("learning_rate", 0.06), ("loss/train", 2.9314), ("speed/mfu", 0.4112)];
        let metrics = metrics.map(|(name, value)| (name.to_owned(), value)).into();
        assert_eq!(
            figures_of(&sample, Some(0.7), &metrics),
            "train: 65 of 300 steps  loss/train 2.9314  0.7/s  5:36 left  speed/mfu 0.4112  gradient_norm 0.8214  \
             learning_rate 0.06"
        );
    }
}
