//! A report as a self-contained HTML page, which runs no script and loads nothing.

use std::fmt::Write;

use contract::figures::count;

use crate::escape::html as escaped;
use crate::program_result::FailureKind;
use crate::report::{Example, Report, percent};
use crate::scores::Score;
use crate::{picture, words};

const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
    <meta name=\"viewport\" content=\"width=device-width\">\n<title>Evaluation by unit tests</title>\n<style>\n\
    body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }\n\
    table { border-collapse: collapse; margin: 1rem 0; }\n\
    th, td { padding: .2rem .7rem; border-bottom: 1px solid #8884; text-align: right; }\n\
    th:first-child, td:first-child, td.text { text-align: left; }\n\
    pre { padding: .7rem; background: #8881; overflow-x: auto; }\n\
    @media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } }\n\
    </style>\n</head>\n<body>\n<h1>Evaluation by unit tests</h1>\n";

/// Returns the page.
pub fn page(report: &Report) -> String {
    let mut page = HEAD.to_owned();
    for line in words::summary(report) {
        page += &paragraph(&line);
    }
    page += &picture::svg(report);
    page += &scores("pass@k", &report.scores, report.level);
    if report.scores.len() > report.best.len() {
        page += &scores("The best temperature for each k", &report.best, report.level);
        page += &paragraph(words::BEST);
    }
    page += &comparison(report);
    page += &failures(report);
    page += &examples("Samples that passed", &report.examples_passed);
    page += &examples("Samples that nearly passed", &report.examples_nearly);
    page += &problems(report);
    page += "<h2>How they were run</h2>\n<ul>\n";
    for line in words::conditions(report) {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "<li>{}</li>", escaped(&line));
    }
    page + "</ul>\n</body>\n</html>\n"
}

fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escaped(text))
}

/// Formats a table of plain text.
fn table(head: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let cells = |tag: &str, cells: &[String]| -> String {
        cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell))).collect()
    };
    let mut table = format!("<table>\n<tr>{}</tr>\n", cells("th", head));
    for row in rows {
        let _ = writeln!(table, "<tr>{}</tr>", cells("td", &row));
    }
    table + "</table>\n"
}

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).into()
}

fn scores(title: &str, scores: &[Score], level: f64) -> String {
    let mut head = strings(["k", "temperature", "samples a problem", "pass@k"]);
    head.push(format!("{} interval", words::level(level)));
    let row = |score: &Score| {
        vec![
            score.k.to_string(),
            score.temperature.to_string(),
            count(score.samples_per_problem),
            percent(score.pass_at_k),
            words::interval(score.low, score.high, score.is_exact),
        ]
    };
    format!("<h2>{title}</h2>\n{}", table(&head, scores.iter().map(row)))
}

fn comparison(report: &Report) -> String {
    let Some(comparison) = &report.comparison else { return String::new() };
    let mut head = strings(["k", "temperature", "baseline's", "pass@k", "baseline's", "difference"]);
    head.extend([format!("{} interval", words::level(report.level)), "ahead".to_owned()]);
    let rows = comparison.differences.iter().map(|row| {
        let best = if row.is_best { " (best)" } else { "" };
        vec![
            row.k.to_string(),
            format!("{}{best}", row.temperature),
            format!("{}{best}", row.baseline_temperature),
            percent(row.pass_at_k),
            percent(row.baseline_pass_at_k),
            percent(row.difference),
            words::interval(row.low, row.high, row.is_exact),
            percent(row.ahead),
        ]
    });
    let about = paragraph(&words::comparison(comparison));
    format!("<h2>Compared with the baseline</h2>\n{about}{}", table(&head, rows))
}

fn failures(report: &Report) -> String {
    let share = |samples: u64| percent(samples as f64 / report.samples.max(1) as f64);
    let passed = vec!["passed".to_owned(), count(report.passed), share(report.passed), String::new()];
    let failed = report
        .failures
        .iter()
        .map(|(kind, samples)| vec![kind.to_string(), count(*samples), share(*samples), kind.about().to_owned()]);
    let head = strings(["", "samples", "share", ""]);
    format!("<h2>Samples by how they ended</h2>\n{}", table(&head, [passed].into_iter().chain(failed)))
}

fn examples(title: &str, examples: &[Example]) -> String {
    let mut text = format!("<h2>{title}</h2>\n");
    if examples.is_empty() {
        text += &paragraph("None.");
    }
    for example in examples {
        let _ = write!(
            text,
            "<h3>{}, sample {}</h3>\n{}<pre>{}<b>{}</b></pre>\n",
            escaped(&example.task_id),
            example.index,
            paragraph(&format!("{}.", words::outcome(example))),
            escaped(&example.prompt),
            escaped(&example.text)
        );
    }
    text
}

fn problems(report: &Report) -> String {
    let kinds: Vec<FailureKind> = report.failures.keys().copied().collect();
    let mut head = strings(["problem", "samples", "passed"]);
    head.extend(kinds.iter().map(ToString::to_string));
    let rows = report.by_problem.iter().map(|row| {
        let mut cells = vec![row.task_id.clone(), count(row.samples), count(row.passed)];
        let failed = kinds.iter().map(|kind| row.failures.get(kind).map_or(String::new(), |samples| count(*samples)));
        cells.extend(failed);
        cells
    });
    format!("<h2>Problems</h2>\n{}", table(&head, rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    const HOSTILE: &str =
        "</pre></td><script>alert(1)</script>\n```\n| x | <img src=x onerror=y> ![a](b)\u{202e}\u{1b}[31m";

    #[test]
    fn what_a_model_wrote_is_text_in_every_form() {
        let mut report = report();
        for example in report.examples_passed.iter_mut().chain(&mut report.examples_nearly) {
            for field in [&mut example.task_id, &mut example.prompt, &mut example.text, &mut example.detail] {
                HOSTILE.clone_into(field);
            }
        }
        report.by_problem.iter_mut().for_each(|row| HOSTILE.clone_into(&mut row.task_id));
        report.run.truncation.stops.push(HOSTILE.to_owned());
        HOSTILE.clone_into(&mut report.run.python);
        let page = page(&report);
        for text in ["<script", "<img", "</pre></td>", "\u{202e}", "\u{1b}"] {
            assert!(!page.contains(text), "{text:?}");
        }
        assert_eq!(page.matches("<pre>").count(), page.matches("</pre>").count());
        let markdown = report.markdown();
        assert!(!markdown.contains('\u{202e}') && !markdown.contains('\u{1b}'));
        // Outside code blocks nothing of it is an element, and no line of it starts a block.
        let mut fence: Option<String> = None;
        for line in markdown.lines() {
            match &fence {
                Some(open) if line == open => fence = None,
                None if line.starts_with("```") => fence = Some(line.trim_end_matches("python").to_owned()),
                None => assert!(!line.contains("<script") && !line.contains("<img"), "{line}"),
                _ => {}
            }
        }
        assert_eq!(fence, None);
    }

    #[test]
    fn every_element_is_closed() {
        let page = page(&report());
        for tag in ["table", "tr", "td", "th", "h1", "h2", "h3", "p", "ul", "li", "pre", "b", "svg", "body", "html"] {
            let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}
