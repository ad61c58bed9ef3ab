//! The sentences of a report, the same in every format. Only [`conditions`] contains external text (stops and a version).

use contract::figures::{count, counted};

use crate::report::{Comparison, Example, Report, percent};
use crate::truncate::Rule;

/// Explains the best of several temperatures.
pub const BEST: &str = "The best of several temperatures is a little better than what a new evaluation at that temperature would give, and \
                        its interval does not allow for the choice.";

/// Formats a level in percent: `95%`.
pub fn level(level: f64) -> String {
    // At most two decimals, without trailing zeros.
    format!("{}%", (level * 10_000.0).round() / 100.0)
}

/// Formats an interval: `0.00% to 2.22% (exact)`.
pub fn interval(low: f64, high: f64, is_exact: bool) -> String {
    let exact = if is_exact { " (exact)" } else { "" };
    format!("{} to {}{exact}", percent(low), percent(high))
}

/// Returns the sentences on the result and its meaning.
pub fn summary(report: &Report) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{} of {}, {} different programs. {} passed; {} of {} are solved by some sample.",
            counted(report.samples, "sample"),
            counted(report.problems, "problem"),
            count(report.programs),
            count(report.passed),
            count(report.solved),
            counted(report.problems, "problem"),
        ),
        format!(
            "pass@k is the probability that at least one of k samples passes all tests of its problem, as a mean over the problems. \
             An interval estimates how far that mean would vary over other problems of the same sort: the percentile bootstrap over \
             problems, {} draws, seed {}.",
            count(report.draws as u64),
            report.seed
        ),
    ];
    let differences = report.comparison.iter().flat_map(|comparison| &comparison.differences);
    let mut exact = report.scores.iter().map(|score| score.is_exact).chain(differences.map(|one| one.is_exact));
    if exact.any(|is_exact| is_exact) {
        lines.push(format!(
            "If all problems have the same value, as when none of them is solved, or all are, the bootstrap has no spread. Then the interval is exact: \
             a model that solves no problem of {} could still solve some of the others. If none or all are solved, it is the interval of Clopper \
             and Pearson.",
            count(report.problems)
        ));
    }
    lines
}

/// Explains a comparison.
pub fn comparison(comparison: &Comparison) -> String {
    let mut text = "Paired: both are measured on the same problems, and each draw of the bootstrap takes the same problems of both. \"Ahead\" is \
                    the share of draws in which the results are better than the baseline, draws in which both are equal counted half."
        .to_owned();
    if !comparison.unequal.is_empty() {
        text += &format!(" The two runs differ in: {}.", comparison.unequal.join(", "));
    }
    text
}

/// Describes the result of an example: `Temperature 0.2; name: NameError: name 'x' is not defined`.
pub fn outcome(example: &Example) -> String {
    let ended = match example.failure {
        None => "passed".to_owned(),
        Some(kind) => format!("{kind}: {}", example.detail),
    };
    match example.temperature.value() {
        Some(value) => format!("Temperature {value}; {ended}"),
        None => ended,
    }
}

/// Describes how the samples were run, one line per fact.
pub fn conditions(report: &Report) -> Vec<String> {
    let run = &report.run;
    let limits = &run.limits;
    let mut lines = vec![
        format!(
            "Self-test: {} of {} passed, {} of {} passed.",
            count(run.self_test.canonical_passed),
            counted(run.self_test.problems, "reference solution"),
            count(run.self_test.empty_passed),
            counted(run.self_test.problems, "empty completion"),
        ),
        format!("Python {}, sandbox revision {}.", run.python, run.sandbox),
        format!(
            "Limits of a program: {} s of processor time, {} s of elapsed time, {} bytes of memory, {} of files, {} of output, {}, {}.",
            limits.cpu_seconds,
            limits.wall_seconds,
            count(limits.memory),
            count(limits.disk),
            count(limits.output),
            if limits.processes == 1 { "1 process".to_owned() } else { format!("{} processes", limits.processes) },
            counted(limits.descriptors.into(), "descriptor"),
        ),
    ];
    if !run.without.is_empty() {
        lines.push(format!("WARNING: layers of the sandbox were off: {}.", run.without.join(", ")));
    }
    let stops: Vec<_> = run.truncation.stops.iter().map(|stop| format!("{stop:?}")).collect();
    lines.push(match (run.truncation.rule, stops.is_empty()) {
        (_, true) => "Completions were not truncated at stops.".to_owned(),
        (Rule::FirstStop, false) => format!("Completions were truncated before the first of: {}.", stops.join(", ")),
        (Rule::LastStop, false) => format!(
            "WARNING: programs were truncated before the last stop, as CodeParrot's script does it, which destroys correct answers: {}.",
            stops.join(", ")
        ),
    });
    if let Some(most) = run.truncation.most_characters {
        lines.push(format!("Completions have {} characters at most.", count(most as u64)));
    }
    if let Some(spaces) = run.truncation.tab_spaces {
        lines.push(format!("A tab became {}.", counted(spaces as u64, "space")));
    }
    lines
}
