//! Architecture layer 1: the stream of events, from which all output and records of a run are produced.
//!
//! The threads that run stages have an [`EventSender`]; one thread passes each [`Event`] to the console renderer of the chosen [`Mode`] and
//! to the recorder of `events.jsonl`. A renderer never fails the run: a renderer whose console or disk fails is dropped. A renderer that is
//! slower than the run delays it only when thousands of events wait.
//!
//! | mode | stream | content |
//! |---|---|---|
//! | [`Mode::Bars`] | stderr, a terminal | a line for each finished or cached stage, and below them a bar for each running stage |
//! | [`Mode::Plain`] | stderr | a line for each start and end, and a progress line every ten seconds per stage |
//! | [`Mode::Quiet`] | stderr | failures and warnings |
//! | [`Mode::Json`] | stdout | every event, one JSON object per line |

mod bars;
mod event;
pub mod figures;
mod json;
mod line;
mod mode;
mod plain;
mod progress;
mod renderer;
mod stream;

pub use event::{Event, OutputSummary, RunStatus, Stamped};
pub use json::Json;
pub(crate) use line::since;
pub use mode::Mode;
pub use plain::Plain;
pub use renderer::{Purpose, Renderer};
pub use stream::{EventSender, Renderers};
