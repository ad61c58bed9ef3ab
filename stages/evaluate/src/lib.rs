//! The stage kinds that evaluate a model: `eval-loss` and `eval-completions`.
//!
//! | module | contents |
//! |---|---|
//! | [`loss`] | `EvalLoss`, the stage kind `eval-loss` |
//! | [`losses`] | the loss of each token of some sequences |
//! | [`tally`] | sums of losses, and the measures computed from them |
//! | [`completions`] | `EvalCompletions`, the stage kind `eval-completions` |
//! | [`prompts`] | the default prompts |
//! | [`completed`] | `completions.json` and `completions.md` |
//! | `cost` | the cost of an evaluation |
//! | [`threads`] | the stage's thread pool |

pub mod completed;
pub mod completions;
mod cost;
pub mod loss;
pub mod losses;
pub mod prompts;
pub mod tally;
pub mod threads;

pub use completions::EvalCompletions;
pub use loss::EvalLoss;
