//! Architecture layer 3: decides which stages are stale, and why. Only this module decides; `run` executes.
//!
//! A plan visits the stages in the order of the graph. A stage whose inputs are all cached is decided by [`Decider::decide`], the function
//! that `run` calls too. If an upstream stage will or may run, the inputs of a stage are not known yet:
//!
//! | recorded | state |
//! |---|---|
//! | no build with its kind, revision, settings and seed | `will run`: no build can match, whatever its inputs contain |
//! | such a build | `may run`: only if an upstream stage changes its output |
//!
//! Stages with equal keys are built once, so each of the stages that may have equal keys may run. A stage whose key another process builds
//! now is `waiting`, and the stages downstream of it may run: that process may build them too.
//!
//! So a plan agrees with a run that follows without changes: `cached` stays cached, `will run` runs, `may run` does either, `waiting` runs
//! only if the other process fails. A plan writes nothing, not even the digests that it computed.

mod baseline;
mod build_name;
mod decide;
mod estimate;
pub mod fit;
mod history;
pub mod lint;
pub mod machine;
mod planned;
mod reason;
mod recipe;
mod size;
mod sources;
mod state;
mod walk;

pub use baseline::{Baseline, reason_lines};
pub use build_name::BuildName;
pub use decide::{Decider, Decision, FastPath, SourceProblem, StageKey, patterns, source_setting};
pub use estimate::{Basis, Estimate, NoEstimate, range};
pub use planned::{PlannedStage, StageOutputs, input_trees};
pub use reason::{Reason, change};
pub use size::{stage_task, tasks_if_all_run};
pub use state::State;
pub use walk::Plan;
