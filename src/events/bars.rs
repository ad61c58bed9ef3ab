//! Output on a terminal: finished stages scroll up as lines, running ones have a bar each at the bottom. If the terminal is too
//! narrow for the most important figures beside the bar, the bar is left out.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::Duration;

use console::Term;
use contract::{Note, progress::Sample};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::event::{Event, Stamped};
use super::line::{Line, Lines};
use super::progress::Figures;
use super::renderer::Renderer;

/// The mark between the head of a line and its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// The part that is done.
    Bar,
    /// Activity without a known end.
    Spinner,
    Nothing,
}

impl Mark {
    const fn template(self) -> &'static str {
        match self {
            Self::Bar => "{prefix}  {bar:16}  {wide_msg}",
            Self::Spinner => "{prefix}  {spinner}  {wide_msg}",
            Self::Nothing => "{prefix}  {wide_msg}",
        }
    }

    /// Returns the columns that are left for the text of a line.
    const fn room(self, columns: usize, head: usize) -> usize {
        let taken = match self {
            Self::Bar => 20,
            Self::Spinner => 5,
            Self::Nothing => 2,
        };
        columns.saturating_sub(head + taken)
    }

    /// Chooses the mark for these figures on a terminal of this many columns, and formats their text.
    fn choose(sample: &Sample, figures: Figures, columns: usize, head: usize) -> (Self, String) {
        let mark = match sample.total {
            None => Self::Spinner,
            Some(_) if figures.essentials_fit(Self::Bar.room(columns, head)) => Self::Bar,
            Some(_) => Self::Nothing,
        };
        (mark, figures.within(mark.room(columns, head)))
    }
}

/// How often spinners turn.
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
    /// The columns of the head.
    head: usize,
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
        bar.set_style(style(Mark::Spinner));
        bar.set_prefix(line.head(self.colour));
        let head = line.head_columns();
        bar.set_message(line.text);
        bar.enable_steady_tick(TICK);
        self.running.insert(stage.to_owned(), Running { bar, mark: Mark::Spinner, head, metrics: BTreeMap::new() });
    }

    fn stop(&mut self, stage: &str) {
        if let Some(Running { bar, .. }) = self.running.remove(stage) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
    }

    fn advance(&mut self, stage: &str, sample: &Sample, rate: Option<f64>) {
        let Some(running) = self.running.get_mut(stage) else { return };
        let figures = Figures::of(sample, rate, &running.metrics);
        // The terminal on which the bars are drawn.
        let columns = usize::from(Term::stderr().size().1);
        let (mark, text) = Mark::choose(sample, figures, columns, running.head);
        if running.mark != mark {
            running.mark = mark;
            running.bar.set_style(style(mark));
        }
        if let Some(total) = sample.total {
            running.bar.set_length(total);
            running.bar.set_position(sample.done.min(total));
        }
        running.bar.set_message(text);
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

fn style(mark: Mark) -> ProgressStyle {
    ProgressStyle::with_template(mark.template())
        .expect("the templates of this file are valid constants")
        .progress_chars("=> ")
        .tick_chars("|/-\\ ")
}

#[cfg(test)]
mod tests {
    use contract::{Digest, Unit};

    use super::*;

    /// Returns the line of a training on a terminal of this many columns, without the bar.
    fn line(stage: &str, columns: usize) -> String {
        let mut lines = Lines::default();
        let names = vec![stage.to_owned(), "export".to_owned()];
        lines.line(&Stamped { at: 0.0, event: Event::RunStarted { run: "run".into(), stages: names } });
        let (kind, key) = ("train".to_owned(), Digest::of(b"key"));
        let started = Event::StageStarted { stage: stage.into(), kind, key, threads: 2, reasons: Vec::new() };
        let head = lines.line(&Stamped { at: 0.0, event: started }).unwrap();
        let sample = Sample { phase: String::new(), unit: Unit::Steps, done: 65, total: Some(300) };
        let metrics = [("gradient_norm", 0.82), ("learning_rate", 6e-4), ("loss/train", 2.9314)];
        let metrics = metrics.map(|(name, value)| (name.to_owned(), value)).into();
        let figures = Figures::of(&sample, Some(0.7), &metrics);
        let (mark, text) = Mark::choose(&sample, figures, columns, head.head_columns());
        let bar = if mark == Mark::Bar { "[==============]  " } else { "" };
        assert_eq!(head.head(false).chars().count(), head.head_columns());
        let line = format!("{}  {bar}{text}", head.head(false));
        assert!(line.chars().count() <= columns, "{line}");
        line
    }

    #[test]
    fn at_80_columns_a_training_shows_its_loss_and_the_time_left() {
        assert_eq!(
            line("train", 80),
            "     run  train             65 of 300 steps  loss/train 2.9314  0.7/s  5:36 left"
        );
        assert_eq!(
            line("train-the-large-model-once-more", 80),
            "     run  train-the-large-model-once-more  65 of 300 steps  loss/train 2.9314"
        );
        assert_eq!(
            line("train", 100),
            "     run  train             [==============]  65 of 300 steps  loss/train 2.9314  0.7/s  5:36 left"
        );
    }
}
