//! Events as JSON lines: for `--json` and for `events.jsonl`.

use std::io::{self, Write};

use super::event::Stamped;
use super::stream::Renderer;

/// Writes each event as one JSON object a line; several that come at once are written together.
#[derive(Debug)]
pub struct Json<W>(W);

impl<W: Write + Send> Json<W> {
    /// Writes to `output`.
    pub const fn new(output: W) -> Self {
        Self(output)
    }
}

impl<W: Write + Send> Renderer for Json<W> {
    fn event(&mut self, event: &Stamped) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.0.write_all(&line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
