//! Floor 1: what a model is worth: the stage kinds `eval-loss` and `eval-completions`, and `sample-code` for the unit tests of
//! [`score`].
//!
//! | module | noun |
//! |---|---|
//! | [`loss`] | `EvalLoss`, the stage kind `eval-loss` |
//! | [`losses`] | the loss of each token of some sequences |
//! | [`tally`] | sums of losses, and the measures that they give |
//! | [`completions`] | `EvalCompletions`, the stage kind `eval-completions` |
//! | [`prompts`] | what is completed by default |
//! | [`sample_code`] | `SampleCode`, the stage kind `sample-code` |
//! | [`completed`] | `completions.json` and `completions.md` |
//! | `cost` | the cost of an evaluation |
//! | [`threads`] | the stage's share of threads |

pub mod completed;
pub mod completions;
mod cost;
pub mod loss;
pub mod losses;
pub mod prompts;
pub mod sample_code;
pub mod tally;
pub mod threads;

pub use completions::EvalCompletions;
pub use loss::EvalLoss;
pub use sample_code::SampleCode;
