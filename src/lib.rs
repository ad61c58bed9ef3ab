//! `pipeline` as a library: from a manifest to a store of outputs that are rebuilt only when they are stale.
//!
//! Data flows one way: manifest, plan, run, store, report. The layers of the architecture, from the top; a module imports only from layers
//! below it:
//!
//! | layer | module | contents |
//! |---|---|---|
//! | 5 | [`commands`], [`kinds`] | the subcommands; the table of stage kinds (feature `stages`) |
//! | 4 | [`reproduce`] | runs a locked manifest again and compares every stage |
//! | 4 | [`run`] | executes a plan and records the run: scheduler, resources, execution of a stage |
//! | 4 | [`report`] | documents about runs: lock, page, diff |
//! | 3 | [`plan`] | decides which stages are stale, and why |
//! | 2 | [`store`] | stores outputs by content |
//! | 1 | [`manifest`] above [`graph`], [`key`], [`events`] | typed stages with positions; their graph; the hash of what determines an output, and its explanation; the stream of events |
//! | 0 | [`clock`], `parallel` | the system clock, which may jump; the limit on threads, and a parallel map |
//! | 0 | [`exit`], `stage_name`, `stderr` | exit codes; the name of a stage; escaped lines on standard error |
//! | 0 | [`contract`] | the interface between the engine and a stage kind |

pub mod clock;
#[cfg(feature = "stages")]
pub mod commands;
pub mod events;
pub mod exit;
pub mod graph;
pub mod key;
#[cfg(feature = "stages")]
pub mod kinds;
pub mod manifest;
mod parallel;
pub mod plan;
pub mod report;
pub mod reproduce;
pub mod run;
mod stage_name;
mod stderr;
pub mod store;
