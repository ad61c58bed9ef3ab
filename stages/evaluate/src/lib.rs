//! The stage kinds that evaluate a model: `eval-loss`, `eval-completions`, and `sample-code`, whose samples [`score`] tests.
//!
//! | module | contents |
//! |---|---|
//! | [`loss`] | `EvalLoss`, the stage kind `eval-loss` |
//! | [`losses`] | the loss of each token of some sequences |
//! | [`sums`] | exact sums of losses, and the measures computed from them |
//! | [`tally`] | the losses of sequences, and `report.json` and `report.md` |
//! | [`slices`] | the tokens divided by license, repository size, file length, position and contamination |
//! | [`document_slices`] | the slices of the documents in packed tokens |
//! | [`completions`] | `EvalCompletions`, the stage kind `eval-completions` |
//! | [`prompts`] | prompts with their tests |
//! | [`default_prompts`](mod@default_prompts) | the default prompts |
//! | [`completion_tests`] | tests of completions in a sandbox |
//! | [`sample_code`] | `SampleCode`, the stage kind `sample-code` |
//! | [`completed`] | `completions.json` and `completions.md` |
//! | `cost` | the cost of an evaluation |
//! | [`threads`] | the stage's thread pool |

pub mod completed;
pub mod completion_tests;
pub mod completions;
mod cost;
pub mod default_prompts;
pub mod document_slices;
pub mod loss;
pub mod losses;
pub mod prompts;
pub mod sample_code;
pub mod slices;
pub mod sums;
pub mod tally;
pub mod threads;

pub use completions::EvalCompletions;
pub use loss::EvalLoss;
pub use sample_code::SampleCode;
