//! Architecture layer 4: documents about runs.
//!
//! | module | contents |
//! |---|---|
//! | [`run_lock`] | `run.lock`: a record of a run from which it can be reproduced and compared |
//! | [`diff`] | the differences between two runs |
//! | [`page`] | `report.html`: a run as one page |
//! | [`drawing`] | the graph of stages as Mermaid, DOT or SVG |

pub mod diff;
pub mod drawing;
pub mod page;
pub mod run_lock;

pub use diff::RunDiff;
pub use page::LivePage;
pub use run_lock::{LockSummary, LockedStage, RunLock};

/// Escapes text for HTML and SVG.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
