//! The display modes of a run.

use std::io::{self, IsTerminal};

use super::bars::Bars;
use super::json::Json;
use super::plain::Plain;
use super::renderer::{Purpose, Renderer};

/// The display modes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Show bars on a terminal.
    Bars,
    /// Print lines, without a terminal.
    Plain,
    /// Print only failures and warnings.
    Quiet,
    /// Print the events as JSON lines to standard output.
    Json,
}

impl Mode {
    /// Returns the mode for the given flags; without flags, it depends on whether standard error is a terminal.
    pub fn choose(json: bool, quiet: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match (json, quiet, io::stderr().is_terminal() && !dumb) {
            (true, ..) => Self::Json,
            (_, true, _) => Self::Quiet,
            (_, _, true) => Self::Bars,
            _ => Self::Plain,
        }
    }

    /// Creates the renderer.
    pub fn renderer(self) -> Box<dyn Renderer> {
        match self {
            Self::Bars => Box::new(Bars::new()),
            Self::Plain => Box::new(Plain::new(anstream::stderr())),
            Self::Quiet => Box::new(Plain::quiet(anstream::stderr())),
            Self::Json => Box::new(Json::new(Purpose::Printed, io::stdout())),
        }
    }
}
