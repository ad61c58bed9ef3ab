//! The lines of the console renderers:
//!
//! ```text
//!   cached  export            4 files, 40 MiB
//!      run  quality           11,449 rows  8,123/s  0:01 left
//!     done  quality           9,120 of 11,449 rows kept in 1.4 s
//!   failed  import            data/x.json.gz:17: row is not JSON
//!                             hint: max_bad_rows sets such rows aside
//! ```

use std::collections::{BTreeMap, HashMap};

use contract::Note;

use super::event::{Event, OutputSummary, RunStatus, Stamped};
use super::figures;
use super::progress::figures_of;

/// Formats events as lines; keeps the data that later lines of the same stage need.
#[derive(Debug, Default)]
pub(super) struct Lines {
    width: usize,
    stages: HashMap<String, Notes>,
}

/// The last notes of a running stage.
#[derive(Debug, Default)]
struct Notes {
    info: Option<String>,
    metrics: BTreeMap<String, f64>,
}

/// A line: a verb, a stage and a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) verb: Verb,
    stage: String,
    /// The width of the stage's name; 0 in a line about the run.
    width: usize,
    pub(super) text: String,
}

/// The first column of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Run,
    Wait,
    Done,
    Cached,
    Warning,
    Failed,
    Skipped,
    Stopped,
}

impl Verb {
    const WIDTH: usize = 8;

    fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Wait => "wait",
            Self::Done => "done",
            Self::Cached => "cached",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Stopped => "stopped",
        }
    }

    /// Returns the ANSI colour; the word alone carries the same information.
    fn colour(self) -> &'static str {
        match self {
            Self::Run => "36",
            Self::Done => "32",
            Self::Cached => "2",
            Self::Wait | Self::Warning | Self::Skipped | Self::Stopped => "33",
            Self::Failed => "31",
        }
    }
}

impl Lines {
    /// Formats an event, if it has a line. Progress has one too; the renderer decides which lines to print.
    pub(super) fn line(&mut self, stamped: &Stamped) -> Option<Line> {
        match &stamped.event {
            Event::RunStarted { stages, .. } => {
                self.width = stages.iter().map(|stage| stage.chars().count()).max().unwrap_or(0).clamp(16, 32);
                None
            }
            Event::StageStarted { stage, reasons, .. } => {
                self.stages.insert(stage.clone(), Notes::default());
                Some(self.of(Verb::Run, stage, &shortened(reasons)))
            }
            Event::StageWaiting { stage, holder } => Some(self.of(Verb::Wait, stage, &format!("for {holder}"))),
            Event::StageProgress { stage, sample, rate } => {
                let metrics = self.stages.get(stage).map(|notes| &notes.metrics);
                Some(self.of(Verb::Run, stage, &figures_of(sample, *rate, metrics.unwrap_or(&BTreeMap::new()))))
            }
            Event::StageNote { stage, note } => self.note(stage, note),
            Event::StageFinished { stage, outputs, seconds, .. } => {
                let Notes { info, .. } = self.stages.remove(stage).unwrap_or_default();
                let result = info.unwrap_or_else(|| output_size(outputs));
                let done = format!("{result} in {}", figures::duration(*seconds));
                let text = [done].into_iter().chain(since(&stamped.event)).collect::<Vec<_>>().join("; ");
                Some(self.of(Verb::Done, stage, &text))
            }
            Event::StageCached { stage, outputs, .. } => Some(self.of(Verb::Cached, stage, &output_size(outputs))),
            Event::StageFailed { stage, message, place, hint } => {
                let place = place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
                let hint = hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
                Some(self.of(Verb::Failed, stage, &format!("{place}{message}{hint}")))
            }
            Event::StageSkipped { stage, because } => Some(self.of(Verb::Skipped, stage, because)),
            Event::RunFinished { .. } => end(&stamped.event),
        }
    }

    fn note(&mut self, stage: &str, note: &Note) -> Option<Line> {
        match note {
            Note::Info { text } => {
                self.stages.entry(stage.to_owned()).or_default().info = Some(text.clone());
                None
            }
            Note::Metric { name, value, .. } => {
                self.stages.entry(stage.to_owned()).or_default().metrics.insert(name.clone(), *value);
                None
            }
            Note::Output { .. } => None,
            Note::Warning { text } => Some(self.of(Verb::Warning, stage, text)),
        }
    }

    /// Creates a line about a stage.
    fn of(&self, verb: Verb, stage: &str, text: &str) -> Line {
        // Names of files and the output of programs may hold control characters.
        let (stage, text) = (contract::printable(stage, &[]), contract::printable(text.trim_end(), &['\t']));
        Line { verb, stage, width: self.width.max(16), text }
    }
}

impl Line {
    /// Formats the verb and the stage, each padded to its column.
    pub(super) fn head(&self, colour: bool) -> String {
        let verb = self.verb.name();
        let indent = " ".repeat(Verb::WIDTH - verb.len());
        let stage = if self.width > 0 { format!("  {:1$}", self.stage, self.width) } else { String::new() };
        if colour {
            format!("{indent}\x1b[{}m{verb}\x1b[0m{stage}", self.verb.colour())
        } else {
            format!("{indent}{verb}{stage}")
        }
    }

    /// Formats the line; further lines of the text are aligned with its first line.
    pub(super) fn full(&self, colour: bool) -> String {
        let indent = Verb::WIDTH + if self.width > 0 { 2 + self.width } else { 0 } + 2;
        let text = self.text.replace('\n', &format!("\n{}", " ".repeat(indent)));
        format!("{}  {text}", self.head(colour)).trim_end().to_owned()
    }
}

/// Formats the end of a run: `3 ran, 1 failed in 2:03`.
fn end(event: &Event) -> Option<Line> {
    let Event::RunFinished { status, ran, cached, failed, skipped, seconds } = event else { return None };
    let verb = match status {
        RunStatus::Done => Verb::Done,
        RunStatus::Failed => Verb::Failed,
        RunStatus::Interrupted => Verb::Stopped,
    };
    let counts = [(ran, "ran"), (cached, "cached"), (failed, "failed"), (skipped, "skipped")];
    let counts = counts.iter().filter(|(count, _)| **count > 0).map(|(count, what)| format!("{count} {what}"));
    let counts = counts.collect::<Vec<_>>().join(", ");
    let counts = if counts.is_empty() { "no stages".to_owned() } else { counts };
    let text = format!("{counts} in {}", figures::duration(*seconds));
    Some(Line { verb, stage: String::new(), width: 0, text })
}

/// Formats the difference between a finished stage and the build that it is compared with, if any: `since quickstart.3:
/// 575 rows more`, `since quickstart.3: output unchanged (seed: 1 -> 2 had no effect)`.
pub(crate) fn since(event: &Event) -> Option<String> {
    let Event::StageFinished { outputs, unchanged, compared_with, compared, without_effect, .. } = event else {
        return None;
    };
    let mut parts: Vec<_> = compared.clone().into_iter().collect();
    match unchanged.len() {
        0 => {}
        all if all == outputs.len() && without_effect.is_empty() => parts.push("output unchanged".to_owned()),
        all if all == outputs.len() => {
            parts.push(format!("output unchanged ({} had no effect)", shortened(without_effect)));
        }
        _ => parts.push(format!("{} unchanged", unchanged.join(" and "))),
    }
    // Events of older versions do not name the build: it was the last one.
    let build = compared_with.as_deref().unwrap_or("its last build");
    (!parts.is_empty()).then(|| format!("since {build}: {}", parts.join(", ")))
}

/// Formats the first string and the number of the others.
fn shortened(texts: &[String]) -> String {
    match texts {
        [] => String::new(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

/// Formats the size of outputs: `4 files, 40 MiB`.
fn output_size(outputs: &BTreeMap<String, OutputSummary>) -> String {
    let files = outputs.values().map(|output| output.files as u64).sum();
    let bytes = outputs.values().map(|output| output.bytes).sum();
    format!("{}, {}", figures::counted(files, "file"), figures::size(bytes))
}
