//! Lines for logs and pipes: nothing is overwritten, and progress lines are infrequent.

use std::collections::HashMap;
use std::io::{self, Write};

use super::event::{Event, Stamped};
use super::line::{Line, Lines, Verb};
use super::renderer::Renderer;

/// The seconds between two progress lines of one stage.
const PROGRESS_EVERY: f64 = 10.0;

/// Writes a line for each start and end, or for failures and warnings only.
#[derive(Debug)]
pub struct Plain<W> {
    output: W,
    quiet: bool,
    lines: Lines,
    /// The time of the last line of each running stage.
    printed: HashMap<String, f64>,
}

impl<W: Write + Send> Plain<W> {
    /// Creates a renderer that writes to `output` with ANSI colours; an `anstream` stream removes them if they are not wanted.
    pub fn new(output: W) -> Self {
        Self { output, quiet: false, lines: Lines::default(), printed: HashMap::new() }
    }

    /// Creates a renderer that writes failures and warnings only.
    pub fn quiet(output: W) -> Self {
        Self { quiet: true, ..Self::new(output) }
    }

    fn is_due(&mut self, stamped: &Stamped, line: &Line) -> bool {
        match &stamped.event {
            Event::RunFinished { .. } => !self.quiet,
            _ if self.quiet => matches!(line.verb, Verb::Failed | Verb::Warning),
            Event::StageStarted { stage, .. } => {
                self.printed.insert(stage.clone(), stamped.at);
                true
            }
            Event::StageProgress { stage, .. } => {
                let printed = self.printed.entry(stage.clone()).or_insert(stamped.at);
                let due = stamped.at - *printed >= PROGRESS_EVERY;
                if due {
                    *printed = stamped.at;
                }
                due
            }
            _ => true,
        }
    }
}

impl<W: Write + Send> Renderer for Plain<W> {
    fn event(&mut self, event: &Stamped) -> io::Result<()> {
        let Some(line) = self.lines.line(event) else { return Ok(()) };
        if !self.is_due(event, &line) {
            return Ok(());
        }
        writeln!(self.output, "{}", line.full(true))?;
        self.output.flush()
    }
}
