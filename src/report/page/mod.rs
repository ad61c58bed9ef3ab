//! `report.html`: a run as one self-contained page, built from its events.
//!
//! It shows warnings and failures, the stages with their times, outputs and reasons, the graph with the status of each stage, and
//! a chart of every metric.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::Note;

use super::drawing::Colours;
use crate::events::{Event, Purpose, Renderer, RunStatus, Stamped, since};
use crate::manifest::Manifest;

mod chart;
mod html;

/// The content of the page.
#[derive(Debug, Clone, Default)]
struct Page {
    /// The run: `quickstart.3`.
    id: String,
    /// The start time, in UTC.
    started: String,
    /// The status at the end and the duration in seconds; `None` for a run that was killed.
    ended: Option<(RunStatus, f64)>,
    /// The stages in the order of the graph.
    stages: Vec<StageRow>,
    /// The index of each stage.
    indexes: BTreeMap<String, usize>,
}

/// A stage of a run.
#[derive(Debug, Clone, Default)]
struct StageRow {
    name: String,
    status: StageStatus,
    seconds: Option<f64>,
    /// The number of files and bytes of all its ports.
    output: Option<(usize, u64)>,
    /// The reasons that it ran, and its result, one line each.
    notes: Vec<String>,
    /// The run in which a cached stage ran (`quickstart.1`), and the relative path of that run's page.
    ran_in: Option<(String, String)>,
    warnings: Vec<String>,
    failure: Option<String>,
    metrics: BTreeMap<String, Series>,
}

/// The result of a stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum StageStatus {
    #[default]
    NotReached,
    Started,
    Ran,
    Cached,
    Failed,
    Skipped,
}

impl StageStatus {
    const fn text(self) -> &'static str {
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

/// The values of a metric by step.
type Series = Vec<(u64, f64)>;

impl Page {
    /// Adds the next event.
    fn add(&mut self, Stamped { event, .. }: Stamped) {
        if let Event::RunStarted { stages, .. } = &event {
            self.stages = stages.iter().map(|name| StageRow { name: name.clone(), ..StageRow::default() }).collect();
            self.indexes = stages.iter().cloned().enumerate().map(|(index, name)| (name, index)).collect();
        }
        if let Event::RunFinished { status, seconds, .. } = event {
            self.ended = Some((status, seconds));
        }
        let index = event.stage().and_then(|stage| self.indexes.get(stage)).copied();
        if let Some(row) = index.and_then(|index| self.stages.get_mut(index)) {
            row.add(event);
        }
    }
}

/// A page that is built during the run; clones share it.
#[derive(Debug, Clone)]
pub struct LivePage(Arc<Mutex<Page>>);

impl LivePage {
    /// Returns the page of a run that has just started.
    pub fn new(id: &str, started: &str) -> Self {
        let page = Page { id: id.to_owned(), started: started.to_owned(), ..Page::default() };
        Self(Arc::new(Mutex::new(page)))
    }

    fn lock(&self) -> MutexGuard<'_, Page> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Links a cached stage to the run in which it ran, whose page has its charts.
    pub fn link_run(&self, stage: &str, run: String, page: String) {
        let mut shared = self.lock();
        let index = shared.indexes.get(stage).copied();
        if let Some(row) = index.and_then(|index| shared.stages.get_mut(index)) {
            row.ran_in = Some((run, page));
        }
    }

    /// Renders the page.
    pub fn html(&self, manifest: &Manifest) -> String {
        self.lock().html(manifest)
    }
}

impl Renderer for LivePage {
    fn event(&mut self, event: &Stamped) -> io::Result<()> {
        self.lock().add(event.clone());
        Ok(())
    }

    fn purpose(&self) -> Purpose {
        Purpose::Recorded
    }
}

impl StageRow {
    fn add(&mut self, event: Event) {
        let total = |outputs: &BTreeMap<String, crate::events::OutputSummary>| {
            Some(outputs.values().fold((0, 0), |(files, bytes), output| (files + output.files, bytes + output.bytes)))
        };
        match event {
            Event::StageStarted { reasons, .. } => {
                self.status = StageStatus::Started;
                self.notes.extend(reasons);
            }
            Event::StageWaiting { holder, .. } => self.notes.push(format!("waited for {holder}")),
            Event::StageNote { note, .. } => match note {
                Note::Info { text } => self.notes.push(text),
                Note::Warning { text } => self.warnings.push(text),
                Note::Metric { step, name, value } => self.metrics.entry(name).or_default().push((step, value)),
                Note::Output { .. } => {}
            },
            Event::StageFinished { ref outputs, seconds, .. } => {
                self.status = StageStatus::Ran;
                (self.seconds, self.output) = (Some(seconds), total(outputs));
                self.notes.extend(since(&event));
            }
            Event::StageCached { outputs, .. } => {
                (self.status, self.output) = (StageStatus::Cached, total(&outputs));
            }
            Event::StageFailed { message, place, hint, .. } => {
                self.status = StageStatus::Failed;
                let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
                let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
                self.failure = Some(format!("{place}{message}{hint}"));
            }
            Event::StageSkipped { because, .. } => {
                self.status = StageStatus::Skipped;
                self.notes.push(because);
            }
            Event::RunStarted { .. } | Event::StageProgress { .. } | Event::RunFinished { .. } => {}
        }
    }
}
