//! Floor 1: one stream of events, and everything that is shown or kept of a run is made of it.
//!
//! Whoever runs stages holds an [`EventSender`] and says what happens; one thread hands each [`Event`] to the console
//! renderer of the chosen [`Mode`] and to the recorder of `events.jsonl`. Rendering never blocks the run and never fails
//! it: a console or a disk that takes no more text is let go.
//!
//! | mode | where | what |
//! |---|---|---|
//! | [`Mode::Bars`] | stderr, a terminal | a line for each finished or cached stage, below them a bar for each running one |
//! | [`Mode::Plain`] | stderr | a line for each start and end, and one for progress every ten seconds a stage |
//! | [`Mode::Quiet`] | stderr | failures and warnings |
//! | [`Mode::Json`] | stdout | every event, one JSON object a line |

mod bars;
mod event;
pub mod figures;
mod json;
mod line;
mod plain;
mod progress;
mod quiet;
mod stream;

pub use event::{Event, OutputSummary, RunStatus, Stamped};
pub use json::Json;
pub(crate) use line::since;
pub use plain::Plain;
pub use quiet::Quiet;
pub use stream::{EventSender, Mode, Purpose, Renderer, Renderers};
