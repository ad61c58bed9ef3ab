//! Output on a terminal: finished stages scroll up as lines, running ones have a bar each at the bottom. On a narrow terminal the bar
//! itself is omitted, so that the loss and the time left fit.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::Duration;

use console::Term;
use contract::{Note, progress::Sample};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::event::{Event, Stamped};
use super::line::{Line, Lines};
use super::progress::figures_of;
use super::renderer::Renderer;

/// The graphic between the head of a line and its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// The finished part.
    Bar,
    /// A spinner for activity without a known end.
    Spinner,
    /// The text alone, on a narrow terminal.
    Nothing,
}

impl Mark {
    /// The number of columns from which a terminal is wide enough for a bar beside the loss and the time left.
    const WIDE: u16 = 100;

    const fn of(sample: &Sample, columns: u16) -> Self {
        match sample.total {
            None => Self::Spinner,
            Some(_) if columns >= Self::WIDE => Self::Bar,
            Some(_) => Self::Nothing,
        }
    }

    fn style(self) -> ProgressStyle {
        let template = match self {
            Self::Bar => "{prefix}  {bar:16}  {wide_msg}",
            Self::Spinner => "{prefix}  {spinner}  {wide_msg}",
            Self::Nothing => "{prefix}  {wide_msg}",
        };
        let style = ProgressStyle::with_template(template).expect("the templates of this file are valid constants");
        style.progress_chars("=> ").tick_chars("|/-\\ ")
    }
}

/// The interval at which spinners turn.
const TICK: Duration = Duration::from_millis(120);

/// Shows running stages as bars on standard error.
pub(super) struct Bars {
    all: MultiProgress,
    running: HashMap<String, Running>,
    lines: Lines,
    colour: bool,
}

struct Running {
    bar: ProgressBar,
    mark: Mark,
    metrics: BTreeMap<String, f64>,
}

impl Bars {
    pub(super) fn new() -> Self {
        let colour = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
        Self { all: MultiProgress::new(), running: HashMap::new(), lines: Lines::default(), colour }
    }

    /// Prints a line above the bars.
    fn print(&self, line: &Line) -> io::Result<()> {
        self.all.println(line.full(self.colour))
    }

    fn start(&mut self, stage: &str, line: Line) {
        self.stop(stage);
        let bar = self.all.add(ProgressBar::new_spinner());
        bar.set_style(Mark::Spinner.style());
        bar.set_prefix(line.head(self.colour));
        bar.set_message(line.text);
        bar.enable_steady_tick(TICK);
        self.running.insert(stage.to_owned(), Running { bar, mark: Mark::Spinner, metrics: BTreeMap::new() });
    }

    fn stop(&mut self, stage: &str) {
        if let Some(Running { bar, .. }) = self.running.remove(stage) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
    }

    fn advance(&mut self, stage: &str, sample: &Sample, rate: Option<f64>) {
        let Some(running) = self.running.get_mut(stage) else { return };
        // The terminal on which the bars are drawn.
        let mark = Mark::of(sample, Term::stderr().size().1);
        if running.mark != mark {
            running.mark = mark;
            running.bar.set_style(mark.style());
        }
        if let Some(total) = sample.total {
            running.bar.set_length(total);
            running.bar.set_position(sample.done.min(total));
        }
        running.bar.set_message(figures_of(sample, rate, &running.metrics));
    }
}

impl Renderer for Bars {
    fn event(&mut self, stamped: &Stamped) -> io::Result<()> {
        let line = self.lines.line(stamped);
        match (&stamped.event, line) {
            (Event::StageStarted { stage, .. } | Event::StageWaiting { stage, .. }, Some(line)) => {
                self.start(stage, line);
                Ok(())
            }
            (Event::StageProgress { stage, sample, rate }, _) => {
                self.advance(stage, sample, *rate);
                Ok(())
            }
            (Event::StageNote { stage, note: Note::Metric { name, value, .. } }, _) => {
                if let Some(running) = self.running.get_mut(stage) {
                    running.metrics.insert(name.clone(), *value);
                }
                Ok(())
            }
            (
                Event::StageFinished { stage, .. }
                | Event::StageCached { stage, .. }
                | Event::StageFailed { stage, .. }
                | Event::StageSkipped { stage, .. },
                Some(line),
            ) => {
                self.stop(stage);
                self.print(&line)
            }
            (Event::RunFinished { .. }, Some(line)) => {
                for stage in self.running.keys().cloned().collect::<Vec<_>>() {
                    self.stop(&stage);
                }
                self.print(&line)
            }
            (_, Some(line)) => self.print(&line),
            (_, None) => Ok(()),
        }
    }
}
