//! `report.html`: a run as one page that needs nothing else, made from its events.
//!
//! It shows the graph with what became of each stage, the stages with their times, outputs and reasons, what was warned of
//! or failed, and every series of numbers that a stage gave as a curve.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use contract::Note;

use super::drawing::{Colours, Drawing};
use crate::events::{Event, Purpose, Renderer, RunStatus, Stamped, since};
use crate::manifest::Manifest;

mod chart;
mod html;

/// A run, as far as its page shows it.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// As a reference: `quickstart.3`.
    id: String,
    /// When it started, in UTC.
    started: String,
    /// How it ended, with its seconds; a run that was killed has no end.
    ended: Option<(RunStatus, f64)>,
    /// In the order of the graph.
    stages: Vec<Part>,
    places: BTreeMap<String, usize>,
}

/// A stage in a run.
#[derive(Debug, Clone, Default)]
struct Part {
    name: String,
    fate: Fate,
    seconds: Option<f64>,
    /// Files and bytes of all its ports.
    output: Option<(usize, u64)>,
    /// Why it ran, and what came of that, a line each.
    said: Vec<String>,
    /// Where a cached stage ran: the run, as `quickstart.1`, and the way to its page.
    ran_in: Option<(String, String)>,
    warnings: Vec<String>,
    failure: Option<String>,
    series: BTreeMap<String, Series>,
}

/// What became of a stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Fate {
    /// Nothing is known of it.
    #[default]
    NotReached,
    Started,
    Ran,
    Cached,
    Failed,
    Skipped,
}

impl Fate {
    const fn word(self) -> &'static str {
        match self {
            Self::NotReached => "not reached",
            Self::Started => "stopped",
            Self::Ran => "ran",
            Self::Cached => "cached",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    const fn colours(self) -> Colours {
        match self {
            Self::Ran => Colours::ORANGE,
            Self::Cached => Colours::GREEN,
            Self::Failed => Colours::RED,
            Self::Started | Self::NotReached | Self::Skipped => Colours::GREY,
        }
    }
}

/// The values of a series by step. Of a long one every second, fourth, eighth value is kept, so that it stays small.
#[derive(Debug, Clone, PartialEq)]
struct Series {
    points: Vec<(u64, f64)>,
    every: u64,
    seen: u64,
    last: Option<(u64, f64)>,
}

impl Default for Series {
    fn default() -> Self {
        Self { points: Vec::new(), every: 1, seen: 0, last: None }
    }
}

impl Series {
    const MOST: usize = 1000;

    fn add(&mut self, step: u64, value: f64) {
        if self.seen.is_multiple_of(self.every) {
            self.points.push((step, value));
        }
        self.seen += 1;
        self.last = Some((step, value));
        if self.points.len() > Self::MOST {
            let mut number = 0;
            self.points.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.every *= 2;
        }
    }

    /// The points that can be drawn; the last value is always among them.
    fn drawn(&self) -> Vec<(f64, f64)> {
        let last = self.last.filter(|last| self.points.last() != Some(last));
        let points = self.points.iter().copied().chain(last);
        points.filter(|(_, value)| value.is_finite()).map(|(step, value)| (step as f64, value)).collect()
    }
}

impl Page {
    /// The page of a run with this reference, that started then.
    pub fn new(id: &str, started: &str) -> Self {
        Self { id: id.to_owned(), started: started.to_owned(), ..Self::default() }
    }

    /// Takes the next event.
    fn add(&mut self, Stamped { event, .. }: Stamped) {
        if let Event::RunStarted { stages, .. } = &event {
            self.stages = stages.iter().map(|name| Part { name: name.clone(), ..Part::default() }).collect();
            self.places = stages.iter().cloned().enumerate().map(|(place, name)| (name, place)).collect();
        }
        if let Event::RunFinished { status, seconds, .. } = event {
            self.ended = Some((status, seconds));
        }
        let place = event.stage().and_then(|stage| self.places.get(stage)).copied();
        if let Some(part) = place.and_then(|place| self.stages.get_mut(place)) {
            part.add(event);
        }
    }

    /// As an HTML document. The manifest tells what flows from stage to stage.
    pub fn html(&self, manifest: &Manifest) -> String {
        let stages = self.stages.iter().filter_map(|part| {
            let (name, _) = manifest.stages.get_key_value(part.name.as_str())?;
            Some((name, part.fate.word(), part.fate.colours()))
        });
        html::document(self, &Drawing::of(manifest, stages).svg())
    }
}

/// A page that is made while the run goes on; clones share it.
#[derive(Debug, Clone)]
pub struct LivePage(Arc<Mutex<Page>>);

impl LivePage {
    /// With nothing on it but what [`Page::new`] takes.
    pub fn new(page: Page) -> Self {
        Self(Arc::new(Mutex::new(page)))
    }

    /// Says of a cached stage in which earlier run it ran, whose page has its curves: the run, and the way to its page.
    pub fn ran_in(&self, stage: &str, run: String, page: String) {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = shared.places.get(stage).copied();
        if let Some(part) = place.and_then(|place| shared.stages.get_mut(place)) {
            part.ran_in = Some((run, page));
        }
    }

    /// What it has come to, as an HTML document.
    pub fn html(&self, manifest: &Manifest) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).html(manifest)
    }
}

impl Renderer for LivePage {
    fn event(&mut self, event: &Stamped) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(event.clone());
        Ok(())
    }

    fn purpose(&self) -> Purpose {
        Purpose::Recorded
    }
}

impl Part {
    fn add(&mut self, event: Event) {
        let total = |outputs: &BTreeMap<String, crate::events::OutputSummary>| {
            Some(outputs.values().fold((0, 0), |(files, bytes), output| (files + output.files, bytes + output.bytes)))
        };
        match event {
            Event::StageStarted { reasons, .. } => {
                self.fate = Fate::Started;
                self.said.extend(reasons);
            }
            Event::StageWaiting { holder, .. } => self.said.push(format!("waited for {holder}")),
            Event::StageNote { note, .. } => match note {
                Note::Info { text } => self.said.push(text),
                Note::Warning { text } => self.warnings.push(text),
                Note::Metric { step, name, value } => self.series.entry(name).or_default().add(step, value),
                Note::Output { .. } => {}
            },
            Event::StageFinished { ref outputs, seconds, .. } => {
                self.fate = Fate::Ran;
                (self.seconds, self.output) = (Some(seconds), total(outputs));
                self.said.extend(since(&event));
            }
            Event::StageCached { outputs, .. } => {
                (self.fate, self.output) = (Fate::Cached, total(&outputs));
            }
            Event::StageFailed { message, place, hint, .. } => {
                self.fate = Fate::Failed;
                let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
                let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
                self.failure = Some(format!("{place}{message}{hint}"));
            }
            Event::StageSkipped { because, .. } => {
                self.fate = Fate::Skipped;
                self.said.push(because);
            }
            Event::RunStarted { .. } | Event::StageProgress { .. } | Event::RunFinished { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_series_keeps_its_shape_its_size_and_its_last_value() {
        let mut series = Series::default();
        for step in 0..150_000 {
            series.add(step, step as f64);
        }
        let drawn = series.drawn();
        assert!((Series::MOST / 2..=Series::MOST + 1).contains(&drawn.len()), "{}", drawn.len());
        assert_eq!((drawn[0], drawn[drawn.len() - 1]), ((0.0, 0.0), (149_999.0, 149_999.0)));
        let gap = drawn[1].0 - drawn[0].0;
        assert!(drawn.windows(2).rev().skip(1).all(|pair| pair[1].0 - pair[0].0 == gap), "evenly spaced");
        series.add(150_000, f64::NAN);
        assert!(series.drawn().iter().all(|(_, value)| value.is_finite()));
    }
}
