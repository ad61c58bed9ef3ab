//! Renders the page as HTML, without scripts or external resources. All text of stages is escaped.

use super::chart::charts;
use super::{Page, StageRow, StageStatus};
use crate::events::{RunStatus, figures};
use crate::manifest::Manifest;
use crate::report::drawing::{Colours, Drawing};
use crate::report::escaped;

const STYLE: &str = "body{font:15px/1.5 sans-serif;color:#222;max-width:70rem;margin:2rem auto;padding:0 1rem}\
    table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;\
    border-bottom:1px solid #ddd}td.number{text-align:right;white-space:nowrap}pre{white-space:pre-wrap;margin:0}\
    svg{max-width:100%;height:auto}.notes{color:#555;font-size:13px}.status{padding:0 .5rem;border-radius:.5rem;\
    border:1px solid;white-space:nowrap}";

impl Page {
    /// Renders the page. `manifest` provides the edges of the graph.
    pub(super) fn html(&self, manifest: &Manifest) -> String {
        let stages = self.stages.iter().filter_map(|row| {
            let (name, _) = manifest.stages.get_key_value(row.name.as_str())?;
            Some((name, row.status.text(), row.status.colours()))
        });
        document(self, &Drawing::new(manifest, stages).svg())
    }
}

fn document(page: &Page, graph: &str) -> String {
    let end = match page.ended {
        Some((status, seconds)) => {
            let status = match status {
                RunStatus::Done => "done",
                RunStatus::Failed => "failed",
                RunStatus::Interrupted => "interrupted",
            };
            format!("{status} in {}", figures::duration(seconds))
        }
        None => "did not end".to_owned(),
    };
    let (id, started) = (escaped(&page.id), escaped(&page.started));
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{id}</title>\n<style>{STYLE}</style>\n\
         <h1>{id}</h1>\n<p>{end}, started {started}: {}, {}, {}, {}.\n",
        count(page, StageStatus::Ran),
        count(page, StageStatus::Cached),
        count(page, StageStatus::Failed),
        count(page, StageStatus::Skipped),
    );
    let mut problems = String::new();
    for row in &page.stages {
        let failure = row.failure.iter().map(|line| ("failed", line));
        for (what, line) in failure.chain(row.warnings.iter().map(|line| ("warning", line))) {
            let (name, line) = (escaped(&row.name), escaped(line));
            problems += &format!("<tr><td>{name}<td>{what}<td><pre>{line}</pre>\n");
        }
    }
    if !problems.is_empty() {
        text += &format!("<h2>Problems</h2>\n<table>\n{problems}</table>\n");
    }
    text += "<h2>Stages</h2>\n<table>\n<tr><th>stage<th>status<th>time<th>files<th>size<th>reasons and results\n";
    page.stages.iter().for_each(|stage| text += &row(stage));
    text += "</table>\n<h2>Graph</h2>\n";
    text += graph;
    for row in &page.stages {
        let charts = charts(&row.metrics);
        if !charts.is_empty() {
            text += &format!("<h2>{}</h2>\n{charts}", escaped(&row.name));
        }
    }
    text + "</html>\n"
}

fn count(page: &Page, status: StageStatus) -> String {
    let count = page.stages.iter().filter(|row| row.status == status).count();
    format!("{count} {}", status.text())
}

fn row(stage: &StageRow) -> String {
    let (name, status) = (escaped(&stage.name), stage.status.text());
    let Colours(fill, stroke) = stage.status.colours();
    let seconds = stage.seconds.map(figures::duration).unwrap_or_default();
    let (files, size) = match stage.output {
        Some((files, bytes)) => (figures::count(files as u64), figures::size(bytes)),
        None => Default::default(),
    };
    let mut notes: Vec<_> = stage.notes.iter().map(|line| escaped(line)).collect();
    notes.extend(stage.ran_in.as_ref().map(|(run, page)| {
        let (run, page) = (escaped(run), escaped(page));
        format!("it ran in <a href=\"{page}\">{run}</a>")
    }));
    format!(
        "<tr><td>{name}<td><span class=\"status\" style=\"background:{fill};border-color:{stroke}\">{status}</span>\
         <td class=\"number\">{seconds}<td class=\"number\">{files}<td class=\"number\">{size}<td class=\"notes\">{}\n",
        notes.join("<br>")
    )
}
