//! Floor 4: what a run did, as documents.
//!
//! | module | noun |
//! |---|---|
//! | [`recorded_run`] | a run with all that is kept of it |
//! | [`run_lock`] | `run.lock`: a run written down so that it can be done again and compared |
//! | [`difference`] | two of them, compared |
//! | [`page`] | `report.html`: a run for people |
//! | [`drawing`] | the graph of stages as a picture |

pub mod difference;
pub mod drawing;
pub mod page;
pub mod recorded_run;
pub mod run_lock;

pub use difference::Difference;
pub use page::{LivePage, Page};
pub use recorded_run::{EVENTS, RecordedRun};
pub use run_lock::{LockedStage, RunLock};

/// Text as HTML and SVG show it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
