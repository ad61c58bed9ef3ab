//! Programming problems with unit tests.
//!
//! The stage kind `problems` ([`Problems`]) reads them from a file of a public format ([`forms`]) and writes `problems.jsonl`, one [`Problem`] per line,
//! which every other kind reads ([`read_tree`]).

pub mod evalplus;
pub mod forms;
mod stage;

use std::collections::BTreeMap;
use std::path::Path;

use contract::figures::count;
use contract::{Digest, Fact, Facts, InputTree, Result, StageError, shortened};
use serde::{Deserialize, Serialize};

use self::forms::Row;
pub(crate) use self::forms::as_module;
pub use self::forms::{Fields, Form, MbppPrompt, tested};
pub use self::stage::{Problems, Spec};
use crate::framed::Framed;
use crate::lines::{JsonLines, MOST_BYTES, parsed, unparsed};
use crate::raw::RawFields;

/// The file of a tree of problems.
pub const FILE: &str = "problems.jsonl";
/// The maximum number of problems in a file.
pub const MOST_PROBLEMS: usize = 100_000;
/// The maximum length of a problem's line, in bytes: evalplus' inputs are long.
const MOST_LINE: u64 = 64 << 20;
/// The maximum size of a file whose lines [`facts`] counts, in bytes; that of HumanEval has 0.3 million.
const MOST_LOOKED_THROUGH: u64 = 16 << 20;
/// The maximum length of a task's identifier, in bytes: it is shown in tables.
const MOST_TASK_ID: usize = 256;

/// A problem: a prompt, and the tests of its completions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// The identifier.
    pub task_id: String,
    /// The prompt, which the model completes.
    pub prompt: String,
    /// The reference solution: a completion that passes.
    pub canonical_solution: String,
    /// The beginning of a candidate before the completion: the prompt, or nothing.
    pub beginning: String,
    /// Python source that runs before the tests in their module.
    pub setup: String,
    /// Names that the tests take from the candidate.
    pub calls: Vec<String>,
    /// Python source of the tests.
    pub tests: String,
}

impl Problem {
    /// Returns the digest of the prompt and the tests: results are compared only for problems with equal digests.
    pub fn digest(&self) -> Digest {
        let mut framed = Framed::default();
        for part in [&self.task_id, &self.prompt, &self.beginning, &self.setup, &self.tests] {
            framed.text(part);
        }
        framed.texts(&self.calls);
        framed.digest("pipeline 2026 problem v1")
    }
}

/// Reads a file of problems in a public format; messages use `name` for the file.
///
/// # Errors
/// Returns an error if the file cannot be read, is empty, has more than [`MOST_PROBLEMS`] problems or a duplicate
/// identifier, or a line lacks a field; each with file, line and hint.
pub fn read(location: &Path, name: &Path, spec: &Spec) -> Result<Vec<Problem>> {
    let file = JsonLines { location, name, most_line: MOST_LINE, most_bytes: MOST_BYTES };
    distinct(&file, |text| {
        let fields = RawFields::parse(text).map_err(|error| unparsed(&error))?;
        Row { fields: &fields, spec }.problem()
    })
}

/// Reads the problems that the stage kind `problems` wrote.
///
/// # Errors
/// See [`read`].
pub fn read_tree(tree: &InputTree) -> Result<Vec<Problem>> {
    // Text in JSON takes at most six times its bytes, evalplus' arguments are JSON in a string, and the prompt is in three fields.
    let (most_line, most_bytes) = (18 * MOST_LINE, 18 * MOST_BYTES);
    let file = JsonLines { location: &tree.required(FILE)?.location, name: Path::new(FILE), most_line, most_bytes };
    distinct(&file, parsed)
}

/// Returns what is known of the problems of a tree before they are read: their number, unless the file is too long to be looked through.
pub fn facts(tree: &InputTree) -> Facts {
    Facts { problems: lines(tree, FILE), ..sizes(tree) }
}

/// Returns the number of lines of a file, unless it is too long to be looked through.
pub(crate) fn lines(tree: &InputTree, name: &str) -> Option<Fact<u64>> {
    let file = tree.file(name).filter(|file| file.size <= MOST_LOOKED_THROUGH)?;
    let content = std::fs::read(&file.location).ok()?;
    Some(Fact::own(content.iter().filter(|byte| **byte == b'\n').count() as u64, ""))
}

/// Returns the size of the files of a tree.
pub(crate) fn sizes(tree: &InputTree) -> Facts {
    let bytes = tree.files.iter().map(|file| file.size).sum();
    Facts { bytes: Some(Fact::own(bytes, "")), ..Facts::default() }
}

/// Reads a problem from each line; identifiers must be unique.
fn distinct(file: &JsonLines<'_>, problem: impl Fn(&str) -> Result<Problem>) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    let mut seen = BTreeMap::new();
    file.read_texts(|line, text| {
        let problem = problem(text)?;
        if let Some(first) = seen.insert(problem.task_id.clone(), line) {
            let message = format!("duplicate task '{}', first in line {first}", shortened(&problem.task_id));
            return Err(StageError::new(message).hint("give each problem its own identifier"));
        }
        if problems.len() == MOST_PROBLEMS {
            return Err(StageError::new(format!("there are more than {} problems", count(MOST_PROBLEMS as u64)))
                .hint("split the file"));
        }
        problems.push(problem);
        Ok(())
    })?;
    if problems.is_empty() {
        return Err(StageError::new("the file has no problems").in_file(file.name));
    }
    Ok(problems)
}

/// Checks the identifier of a task.
///
/// # Errors
/// Returns an error if it is empty, longer than 256 bytes, or has control characters.
pub(crate) fn checked_task_id(task_id: &str) -> Result<()> {
    match task_id {
        "" => Err(StageError::new("the task's identifier is empty")),
        text if text.len() > MOST_TASK_ID => {
            Err(StageError::new(format!("the task's identifier is longer than {MOST_TASK_ID} bytes")))
        }
        text if text.chars().any(char::is_control) => {
            Err(StageError::new(format!("the task's identifier '{}' has control characters", text.escape_debug())))
        }
        _ => Ok(()),
    }
}
