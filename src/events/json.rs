//! Events as JSON lines: for `--json` and for `events.jsonl`.

use std::io::{self, Write};

use super::event::Stamped;
use super::renderer::{Purpose, Renderer};

/// Writes each event as one JSON object per line; events that are waiting are written together.
#[derive(Debug)]
pub struct Json<W> {
    purpose: Purpose,
    output: W,
}

impl<W: Write + Send> Json<W> {
    /// Creates a renderer that writes to `output`.
    pub const fn new(purpose: Purpose, output: W) -> Self {
        Self { purpose, output }
    }
}

impl<W: Write + Send> Renderer for Json<W> {
    fn event(&mut self, event: &Stamped) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.output.write_all(&line)
    }

    fn purpose(&self) -> Purpose {
        self.purpose
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
