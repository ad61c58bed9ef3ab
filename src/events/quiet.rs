//! Failures and warnings, and nothing else.

use std::io::{self, Write};

use super::event::{Event, Stamped};
use super::line::{Lines, Verb};
use super::stream::Renderer;

/// Writes a line for each failure and warning.
#[derive(Debug)]
pub struct Quiet<W> {
    output: W,
    lines: Lines,
}

impl<W: Write + Send> Quiet<W> {
    /// Writes to `output`, with ANSI colours, as [`super::Plain::new`].
    pub fn new(output: W) -> Self {
        Self { output, lines: Lines::default() }
    }
}

impl<W: Write + Send> Renderer for Quiet<W> {
    fn event(&mut self, event: &Stamped) -> io::Result<()> {
        let end = matches!(event.event, Event::RunFinished { .. });
        match self.lines.line(event) {
            Some(line) if !end && matches!(line.verb, Verb::Failed | Verb::Warning) => {
                writeln!(self.output, "{}", line.full(true))?;
                self.output.flush()
            }
            _ => Ok(()),
        }
    }
}
