//! pass@k with its intervals, drawn as an SVG: k on one axis, a line and a bar for each interval of each temperature.

use std::fmt::Write;

use crate::report::Report;
use crate::scores::Score;
use crate::temperature::Temperature;

const WIDTH: f64 = 640.0;
/// The height, if the legend does not need more.
const HEIGHT: f64 = 340.0;
/// The height of a line of the legend.
const LEGEND_LINE: f64 = 20.0;
/// The left, top, right and bottom edges of the plot.
const PLOT: [f64; 4] = [64.0, 20.0, 500.0, 290.0];
/// The maximum distance between the points of neighbouring temperatures, in pixels.
const APART: f64 = 8.0;
/// Colours that colour-blind readers can distinguish (Okabe and Ito 2008).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// Returns the picture. It contains no generated text.
pub fn svg(report: &Report) -> String {
    let scores = &report.scores;
    let mut ks: Vec<u64> = scores.iter().map(|score| score.k).collect();
    ks.sort_unstable();
    ks.dedup();
    let mut temperatures: Vec<Temperature> = scores.iter().map(|score| score.temperature).collect();
    temperatures.dedup();
    let total = HEIGHT.max(PLOT[1] + LEGEND_LINE * temperatures.len() as f64);
    let top = ceiling(scores.iter().map(|score| score.high.max(score.pass_at_k)).fold(0.0, f64::max));
    let [left, upper, right, lower] = PLOT;
    let y = |share: f64| lower - (lower - upper) * (share / top).clamp(0.0, 1.0);
    let x = |k: u64, group: usize| {
        let place = ks.iter().position(|other| *other == k).unwrap_or(0) as f64;
        let middle = left + (right - left) * (place + 0.5) / ks.len().max(1) as f64;
        let apart = APART.min((right - left) / (ks.len() * temperatures.len()).max(1) as f64);
        middle + apart * (group as f64 - (temperatures.len() as f64 - 1.0) / 2.0)
    };

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {total}\" width=\"{WIDTH}\" height=\"{total}\" role=\"img\" \
         aria-label=\"pass@k with intervals\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{total}\" fill=\"#fff\"/>\n"
    );
    // Writing to a String cannot fail.
    for tick in 0..=4 {
        let share = top * f64::from(tick) / 4.0;
        let height = y(share);
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{right}\" y1=\"{height:.1}\" y2=\"{height:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#333\">{}%</text>",
            left - 8.0,
            height + 4.0,
            (share * 1000.0).round() / 10.0
        );
    }
    for k in &ks {
        let middle = (x(*k, 0) + x(*k, temperatures.len().max(1) - 1)) / 2.0;
        let _ = writeln!(
            svg,
            "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#333\">pass@{k}</text>",
            lower + 22.0
        );
    }
    for (group, temperature) in temperatures.iter().enumerate() {
        let colour = COLOURS[group % COLOURS.len()];
        let own: Vec<&Score> = scores.iter().filter(|score| score.temperature == *temperature).collect();
        let points: Vec<_> =
            own.iter().map(|score| format!("{:.1},{:.1}", x(score.k, group), y(score.pass_at_k))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" opacity=\"0.5\"/>",
            points.join(" ")
        );
        for score in own {
            let (x, [value, low, high]) = (x(score.k, group), [score.pass_at_k, score.low, score.high].map(y));
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.1} {low:.1}V{high:.1}M{:.1} {low:.1}h8M{:.1} {high:.1}h8\" stroke=\"{colour}\" stroke-width=\"2\" fill=\"none\"/>\
                 <circle cx=\"{x:.1}\" cy=\"{value:.1}\" r=\"4\" fill=\"{colour}\"/>",
                x - 4.0,
                x - 4.0
            );
        }
        let line = upper + LEGEND_LINE * group as f64;
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{line:.1}\" r=\"4\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#333\">{}</text>",
            right + 14.0,
            right + 24.0,
            line + 4.0,
            match temperature.value() {
                Some(value) => format!("temperature {value}"),
                None => "all samples".to_owned(),
            }
        );
    }
    svg + "</svg>\n"
}

/// Returns the smallest upper limit of an axis (1, 2 or 5 times a power of ten, from 1% to 100%) that is not below a share.
fn ceiling(share: f64) -> f64 {
    [0.01, 0.02, 0.05, 0.1, 0.2, 0.5].into_iter().find(|top| share <= *top).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn each_score_is_a_point_within_the_picture() {
        let report = report();
        let svg = svg(&report);
        let legend = 2;
        assert_eq!(svg.matches("<circle").count(), report.scores.len() + legend);
        assert_eq!(svg.matches("<path").count(), report.scores.len());
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        for attribute in svg.split("cy=\"").skip(1) {
            let place: f64 = attribute.split('"').next().unwrap().parse().unwrap();
            assert!((0.0..=HEIGHT).contains(&place), "{place}");
        }
    }

    #[test]
    fn any_number_of_temperatures_is_within_the_picture() {
        let original = report();
        for (count, expected) in [(1, 340.0), (16, 340.0), (17, 360.0), (32, 660.0)] {
            let mut report = original.clone();
            report.scores.clear();
            for number in 0..count {
                let temperature = Temperature::new(Some(f64::from(number) / 100.0)).unwrap();
                for k in [1, 10, 100] {
                    report.scores.push(Score { temperature, k, ..original.scores[0] });
                }
            }
            let svg = svg(&report);
            let numbers = |attribute: &str| {
                let values = svg.split(attribute).skip(1).map(|rest| rest.split('"').next().unwrap().parse().unwrap());
                values.collect::<Vec<f64>>()
            };
            assert_eq!(numbers(" height=\"")[0], expected);
            let [left, _, right, _] = PLOT;
            for (x, y) in numbers("cx=\"").into_iter().zip(numbers("cy=\"")) {
                assert!((0.0..expected - 10.0).contains(&y), "{y} of {expected}");
                assert!((left..=right).contains(&x) || x == right + 14.0, "{x}");
            }
            for y in numbers(" y=\"") {
                assert!((0.0..expected).contains(&y), "{y} of {expected}");
            }
        }
    }

    #[test]
    fn the_axis_fits_the_highest_bound() {
        for (share, top) in [(0.0, 0.01), (0.01, 0.01), (0.011, 0.02), (0.3, 0.5), (0.51, 1.0), (1.0, 1.0)] {
            assert_eq!(ceiling(share), top);
        }
    }

    #[test]
    fn a_report_without_scores_is_an_empty_picture() {
        let mut report = report();
        report.scores.clear();
        assert!(svg(&report).ends_with("</svg>\n"));
    }
}
