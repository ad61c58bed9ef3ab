//! The real binary on small manifests, in temporary folders. Each test reads as a fact about the program.

mod bench;
mod care;
mod commands;
mod failures;
mod fit;
mod generate;
mod hard_times;
mod looking;
mod model_folder;
mod open_files;
mod outlets;
mod places;
mod programs;
mod projects;
mod reproduce;
mod staleness;
mod store;
mod two_runs;
mod unit_tests;
mod why;
