//! Charts of metrics as SVG. Metrics that share the first part of their name (`loss/train`, `loss/validation`) share a
//! chart.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Series;
use crate::report::escaped;

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 200.0;
/// The left margin, for numbers.
const LEFT: f64 = 70.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 24.0;
const RIGHT: f64 = 12.0;
/// The maximum number of points of a curve, excluding its last one.
const MOST_POINTS: usize = 1000;
/// Colour and dashes of each curve: dashes distinguish curves without colour.
const PENS: [(&str, &str); 4] = [("#b0501a", ""), ("#3f6fb0", "6 3"), ("#3c8a3c", "2 2"), ("#7a4fa0", "8 2 2 2")];

/// Renders the charts of the given metrics.
pub(super) fn charts(metrics: &BTreeMap<String, Series>) -> String {
    let mut groups: BTreeMap<&str, Vec<(&str, Vec<(f64, f64)>)>> = BTreeMap::new();
    for (name, series) in metrics {
        let points = points(series);
        if points.len() > 1 {
            groups.entry(name.split('/').next().unwrap_or(name)).or_default().push((name, points));
        }
    }
    groups.values().map(|curves| chart(curves)).collect()
}

/// Returns the finite points of a series, evenly thinned to limit the size of the chart, and always including the last
/// one.
fn points(series: &Series) -> Vec<(f64, f64)> {
    let every = series.len().div_ceil(MOST_POINTS).max(1);
    let last = series.len().saturating_sub(1);
    let shown = series.iter().enumerate().filter(|(index, _)| index.is_multiple_of(every) || *index == last);
    let finite = shown.filter(|(_, (_, value))| value.is_finite());
    finite.map(|(_, (step, value))| (*step as f64, *value)).collect()
}

fn chart(curves: &[(&str, Vec<(f64, f64)>)]) -> String {
    let all = || curves.iter().flat_map(|(_, points)| points.iter());
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        // A constant is drawn in the middle.
        if high > low { (low, high) } else { (low - 0.5, high + 0.5) }
    };
    let (left, right) = range(&mut all().map(|(step, _)| *step));
    let (low, high) = range(&mut all().map(|(_, value)| *value));
    let x = |step: f64| LEFT + (step - left) / (right - left) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM);
    let mut text =
        format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">\n");
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "<path d=\"M{LEFT} {TOP}V{0}H{1}\" fill=\"none\" stroke=\"#888\"/>\
         <g font-size=\"11\" fill=\"#555\"><text x=\"{2}\" y=\"{3}\" text-anchor=\"end\">{4}</text>\
         <text x=\"{2}\" y=\"{0}\" text-anchor=\"end\">{5}</text>\
         <text x=\"{LEFT}\" y=\"{6}\">{left}</text><text x=\"{1}\" y=\"{6}\" text-anchor=\"end\">{right}</text></g>",
        HEIGHT - BOTTOM,
        WIDTH - RIGHT,
        LEFT - 6.0,
        TOP + 8.0,
        number(high),
        number(low),
        HEIGHT - 8.0,
    );
    let mut at = LEFT;
    for ((name, points), (colour, dashes)) in curves.iter().zip(PENS.iter().cycle()) {
        let path: Vec<_> = points.iter().map(|(step, value)| format!("{:.1},{:.1}", x(*step), y(*value))).collect();
        let last = points.last().map(|(_, value)| number(*value)).unwrap_or_default();
        let label = format!("{name} {last}");
        let _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" stroke-dasharray=\"{dashes}\"/>\
             <path d=\"M{at} 12h18\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>\
             <text x=\"{}\" y=\"16\" font-size=\"12\" fill=\"#222\">{}</text>",
            path.join(" "),
            at + 24.0,
            escaped(&label)
        );
        at += 40.0 + 7.0 * label.len() as f64;
    }
    text + "</svg>\n"
}

/// Formats a value with the digits needed in a chart.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-3..1e6).contains(&size) => format!("{value:.2e}"),
        size if size >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64]) -> Series {
        (0..).zip(values.iter().copied()).collect()
    }

    #[test]
    fn a_long_series_keeps_its_shape_its_size_and_its_last_value() {
        let mut series: Series = (0..150_000).map(|step| (step, step as f64)).collect();
        let thinned = points(&series);
        assert!((MOST_POINTS / 2..=MOST_POINTS + 1).contains(&thinned.len()), "{}", thinned.len());
        assert_eq!((thinned[0], thinned[thinned.len() - 1]), ((0.0, 0.0), (149_999.0, 149_999.0)));
        series.push((150_000, f64::NAN));
        assert!(points(&series).iter().all(|(_, value)| value.is_finite()));
    }

    #[test]
    fn metrics_with_a_common_prefix_share_a_chart_and_stay_inside_it() {
        let all = BTreeMap::from([
            ("loss/train".to_owned(), series(&[3.0, 2.0, f64::NAN, 1.0])),
            ("loss/validation".to_owned(), series(&[2.5, 1.5])),
            ("level".to_owned(), series(&[7.0, 7.0])),
            ("one value".to_owned(), series(&[7.0])),
        ]);
        let text = charts(&all);
        assert_eq!((text.matches("<svg").count(), text.matches("<polyline").count()), (2, 3), "{text}");
        let lists = text.split("points=\"").skip(1).filter_map(|rest| rest.split('"').next());
        for point in lists.flat_map(|list| list.split(' ')) {
            let (x, y) = point.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((LEFT..=WIDTH).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y), "{point}");
        }
        assert!(text.contains("loss/validation 1.5000"), "{text}");
    }
}
