//! The renderers, which show or record events.

use std::io;

use super::event::Stamped;

/// The purpose of a renderer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Shows events to people.
    Shown,
    /// Prints events to standard output for a program.
    Printed,
    /// Records events.
    Recorded,
}

impl Purpose {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Shown => "shown",
            Self::Printed => "printed",
            Self::Recorded => "recorded",
        }
    }
}

/// Shows or records events.
pub trait Renderer: Send {
    /// Renders one event.
    ///
    /// # Errors
    /// Returns an error if it cannot be written; the renderer is then not called again.
    fn event(&mut self, event: &Stamped) -> io::Result<()>;

    /// Returns the purpose of the renderer.
    fn purpose(&self) -> Purpose {
        Purpose::Shown
    }

    /// Writes buffered events. It is called when no event waits.
    ///
    /// # Errors
    /// See [`Renderer::event`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
