//! The page as HTML: no scripts, nothing from elsewhere; text of stages is text and never markup.

use std::fmt::Write;

use super::chart::charts;
use super::{Fate, Page, Part};
use crate::events::{RunStatus, figures};
use crate::report::escaped;

const STYLE: &str = "body{font:15px/1.5 sans-serif;color:#222;max-width:70rem;margin:2rem auto;padding:0 1rem}\
    table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;\
    border-bottom:1px solid #ddd}td.number{text-align:right;white-space:nowrap}pre{white-space:pre-wrap;margin:0}\
    svg{max-width:100%;height:auto}.said{color:#555;font-size:13px}.word{padding:0 .5rem;border-radius:.5rem;\
    border:1px solid;white-space:nowrap}";

pub(super) fn document(page: &Page, graph: &str) -> String {
    let end = match page.ended {
        Some((status, seconds)) => {
            let word = match status {
                RunStatus::Done => "done",
                RunStatus::Failed => "failed",
                RunStatus::Interrupted => "interrupted",
            };
            format!("{word} in {}", figures::duration(seconds))
        }
        None => "did not end".to_owned(),
    };
    let (id, started) = (escaped(&page.id), escaped(&page.started));
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{id}</title>\n<style>{STYLE}</style>\n\
         <h1>{id}</h1>\n<p>{end}, started {started}: {}, {}, {}, {}.\n",
        count(page, Fate::Ran),
        count(page, Fate::Cached),
        count(page, Fate::Failed),
        count(page, Fate::Skipped),
    );
    let told = |part: &&Part| part.failure.is_some() || !part.warnings.is_empty();
    if page.stages.iter().any(|part| told(&part)) {
        text += "<h2>What went wrong</h2>\n<table>\n";
        for part in page.stages.iter().filter(told) {
            for line in part.failure.iter().chain(&part.warnings) {
                let what = if Some(line) == part.failure.as_ref() { "failed" } else { "warning" };
                let (name, line) = (escaped(&part.name), escaped(line));
                // Writing to a string does not fail.
                let _ = writeln!(text, "<tr><td>{name}<td>{what}<td><pre>{line}</pre>");
            }
        }
        text += "</table>\n";
    }
    text += "<h2>Stages</h2>\n<table>\n<tr><th>stage<th>what became of it<th>time<th>files<th>size<th>why, and what came of it\n";
    page.stages.iter().for_each(|part| row(&mut text, part));
    text += "</table>\n<h2>Graph</h2>\n";
    text += graph;
    let curves = page.stages.iter().map(|part| (part, charts(&part.series))).filter(|(_, charts)| !charts.is_empty());
    for (part, charts) in curves {
        let _ = write!(text, "<h2>{}</h2>\n{charts}", escaped(&part.name));
    }
    text + "</html>\n"
}

fn count(page: &Page, fate: Fate) -> String {
    let count = page.stages.iter().filter(|part| part.fate == fate).count();
    format!("{count} {}", fate.word())
}

fn row(text: &mut String, part: &Part) {
    let (name, word) = (escaped(&part.name), part.fate.word());
    let super::Colours(fill, stroke) = part.fate.colours();
    let seconds = part.seconds.map(figures::duration).unwrap_or_default();
    let (files, size) = match part.output {
        Some((files, bytes)) => (figures::count(files as u64), figures::size(bytes)),
        None => Default::default(),
    };
    let mut said: Vec<_> = part.said.iter().map(|line| escaped(line)).collect();
    said.extend(part.ran_in.as_ref().map(|(run, page)| {
        let (run, page) = (escaped(run), escaped(page));
        format!("it ran in <a href=\"{page}\">{run}</a>")
    }));
    let _ = writeln!(
        text,
        "<tr><td>{name}<td><span class=\"word\" style=\"background:{fill};border-color:{stroke}\">{word}</span>\
         <td class=\"number\">{seconds}<td class=\"number\">{files}<td class=\"number\">{size}<td class=\"said\">{}",
        said.join("<br>")
    );
}
