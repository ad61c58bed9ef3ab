//! A report as a page of Markdown.

use std::fmt::Write;

use contract::figures::{count, counted};

use crate::escape::{markdown as escaped, markdown_block as block};
use crate::program_result::FailureKind;
use crate::report::{Comparison, Example, Report, percent};
use crate::scores::{Difference, Score};
use crate::words;

/// Returns the page.
pub fn page(report: &Report) -> String {
    let mut page = String::from("# Evaluation by unit tests\n\n");
    let mut add = |text: &str| {
        page.push_str(text);
        page.push('\n');
    };
    for line in words::summary(report) {
        add(&format!("{line}\n"));
    }
    add("![pass@k with intervals](pass-at-k.svg)\n");
    add(&scores("pass@k", &report.scores, report.level));
    if report.scores.len() > report.best.len() {
        add(&scores("The best temperature for each k", &report.best, report.level));
        add(&format!("{}\n", words::BEST));
    }
    if let Some(comparison) = &report.comparison {
        add(&differences(comparison, report.level));
    }
    add(&failures(report));
    add(&examples("Samples that passed", &report.examples_passed));
    add(&examples("Samples that nearly passed", &report.examples_nearly));
    add(&problems(report));
    add("## How they were run\n");
    for line in words::conditions(report) {
        add(&format!("- {}", escaped(&line)));
    }
    page
}

fn scores(title: &str, scores: &[Score], level: f64) -> String {
    let mut table = format!(
        "## {title}\n\n| k | temperature | samples a problem | pass@k | {} interval |\n|---:|---:|---:|---:|---|\n",
        words::level(level)
    );
    for Score { temperature, k, samples_per_problem, pass_at_k, low, high, is_exact } in scores {
        let (value, interval) = (percent(*pass_at_k), words::interval(*low, *high, *is_exact));
        let samples = count(*samples_per_problem);
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| {k} | {temperature} | {samples} | {value} | {interval} |");
    }
    table
}

fn differences(comparison: &Comparison, level: f64) -> String {
    let mut table = format!(
        "## Compared with the baseline\n\n{}\n\n| k | temperature | baseline's | pass@k | baseline's | difference | {} interval | ahead |\n\
         |---:|---:|---:|---:|---:|---:|---|---:|\n",
        words::comparison(comparison),
        words::level(level)
    );
    for row in &comparison.differences {
        let Difference { k, temperature, baseline_temperature, .. } = row;
        let best = if row.is_best { " (best)" } else { "" };
        let [value, baseline, difference, ahead] =
            [row.pass_at_k, row.baseline_pass_at_k, row.difference, row.ahead].map(percent);
        let interval = words::interval(row.low, row.high, row.is_exact);
        let _ = writeln!(
            table,
            "| {k} | {temperature}{best} | {baseline_temperature}{best} | {value} | {baseline} | {difference} | {interval} | {ahead} |"
        );
    }
    table
}

fn failures(report: &Report) -> String {
    let mut table = "## Samples by how they ended\n\n| | samples | share | |\n|---|---:|---:|---|\n".to_owned();
    let share = |samples: u64| percent(samples as f64 / report.samples.max(1) as f64);
    let _ = writeln!(table, "| passed | {} | {} | |", count(report.passed), share(report.passed));
    for (kind, samples) in &report.failures {
        let _ = writeln!(table, "| {kind} | {} | {} | {} |", count(*samples), share(*samples), kind.about());
    }
    table
}

fn examples(title: &str, examples: &[Example]) -> String {
    let mut text = format!("## {title}\n");
    if examples.is_empty() {
        text += "\nNone.\n";
    }
    for example in examples {
        let _ = write!(
            text,
            "\n### {}, sample {}\n\n{}.\n\n{}",
            escaped(&example.task_id),
            example.index,
            escaped(&words::outcome(example)),
            block(&format!("{}{}", example.prompt, example.text))
        );
    }
    text
}

fn problems(report: &Report) -> String {
    let kinds: Vec<FailureKind> = report.failures.keys().copied().collect();
    let mut table = format!("## Problems\n\n{}\n\n| problem | samples | passed |", counted(report.problems, "problem"));
    kinds.iter().for_each(|kind| table += &format!(" {kind} |"));
    table += "\n|---|---:|---:|";
    kinds.iter().for_each(|_| table += "---:|");
    table.push('\n');
    for row in &report.by_problem {
        let _ = write!(table, "| {} | {} | {} |", escaped(&row.task_id), count(row.samples), count(row.passed));
        for kind in &kinds {
            let _ = write!(table, " {} |", row.failures.get(kind).map_or(String::new(), |samples| count(*samples)));
        }
        table.push('\n');
    }
    table
}
