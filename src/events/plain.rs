//! Lines for logs and pipes: nothing is overwritten, and progress is told sparingly.

use std::collections::HashMap;
use std::io::{self, Write};

use super::event::{Event, Stamped};
use super::line::Lines;
use super::stream::Renderer;

/// Seconds between two progress lines of one stage.
const PROGRESS_EVERY: f64 = 10.0;

/// Writes a line for each start and end.
#[derive(Debug)]
pub struct Plain<W> {
    output: W,
    lines: Lines,
    /// When each running stage last had a line.
    told: HashMap<String, f64>,
}

impl<W: Write + Send> Plain<W> {
    /// Writes to `output`, with ANSI colours: give an `anstream` stream, which leaves them out where they are not
    /// wanted.
    pub fn new(output: W) -> Self {
        Self { output, lines: Lines::default(), told: HashMap::new() }
    }

    fn is_due(&mut self, stamped: &Stamped) -> bool {
        match &stamped.event {
            Event::StageStarted { stage, .. } => {
                self.told.insert(stage.clone(), stamped.at);
                true
            }
            Event::StageProgress { stage, .. } => {
                let told = self.told.entry(stage.clone()).or_insert(stamped.at);
                let due = stamped.at - *told >= PROGRESS_EVERY;
                if due {
                    *told = stamped.at;
                }
                due
            }
            _ => true,
        }
    }
}

impl<W: Write + Send> Renderer for Plain<W> {
    fn event(&mut self, event: &Stamped) -> io::Result<()> {
        let line = self.lines.line(event);
        if !self.is_due(event) {
            return Ok(());
        }
        let Some(line) = line else { return Ok(()) };
        writeln!(self.output, "{}", line.full(true))?;
        self.output.flush()
    }
}
