//! What shows or keeps events.

use std::io;

use super::event::Stamped;

/// What a renderer does with events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Shows them to people.
    Shown,
    /// Prints them on standard output for a program.
    Printed,
    /// Keeps them.
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

/// Shows or keeps events.
pub trait Renderer: Send {
    /// Takes one event.
    ///
    /// # Errors
    /// Returns an error if it cannot be written; the renderer is then not called again.
    fn event(&mut self, event: &Stamped) -> io::Result<()>;

    /// Returns what it does with the events.
    fn purpose(&self) -> Purpose {
        Purpose::Shown
    }

    /// Writes buffered events; called when no event waits.
    ///
    /// # Errors
    /// See [`Renderer::event`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
