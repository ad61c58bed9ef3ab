//! Prompts, the tests of their completions, and the default stop texts, at which a completion is truncated.

use contract::Problem;
use schemars::JsonSchema;
use score::problems::tested;
use score::truncate::Preset;
use serde::{Deserialize, Serialize};

/// A text to complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Prompt {
    /// The text to complete. An empty text starts a new document.
    pub text: String,
    /// The maximum number of tokens, including the prompt.
    #[serde(default = "max_length")]
    #[schemars(range(min = 1, max = 1 << 20))]
    pub max_length: usize,
    /// Python statements that test the program, which consists of text and completion: it passes if they raise no exception. They call its functions
    /// by name, for example `assert area_of_rectangle(2, 3) == 6`. Needs `solution`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub tests: Option<String>,
    /// A completion that passes `tests`. It runs before all completions, to detect mistakes in the tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub solution: Option<String>,
    /// Python source that runs before the text in tests: imports, and replacements of packages, which are not installed in the sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<String>,
    /// For text that defines no function: a completion passes if it is not blank and if text and completion together parse as Python.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parses: bool,
}

fn max_length() -> usize {
    64
}

impl Prompt {
    /// Creates a prompt without tests.
    pub fn new(text: &str, max_length: usize) -> Self {
        Self { text: text.to_owned(), max_length, tests: None, solution: None, setup: None, parses: false }
    }

    /// Returns whether its completions are tested.
    pub fn is_tested(&self) -> bool {
        self.parses || self.tests.is_some()
    }

    /// Returns the program: setup, text and completion.
    pub(crate) fn program(&self, completion: &str) -> String {
        format!("{}{completion}", self.beginning())
    }

    /// Returns the part of the program before the completion.
    pub(crate) fn beginning(&self) -> String {
        match &self.setup {
            Some(setup) => format!("{}\n{}", setup.trim_end(), self.text),
            None => self.text.clone(),
        }
    }

    /// Returns the problems with its tests; `place` is the path of its setting.
    pub(crate) fn check(&self, place: &str) -> Vec<Problem> {
        let of = |setting: &str, message: &str| Problem::new(format!("{place}.{setting}"), message);
        let mut problems = Vec::new();
        match (&self.tests, &self.solution) {
            (Some(_), _) if self.parses => problems.push(of("parses", "cannot be combined with tests")),
            (Some(_), None) => {
                let hint = "give a completion that passes, so that the tests themselves are tested";
                problems.push(of("tests", "requires a solution").hint(hint));
            }
            (Some(tests), Some(solution)) => {
                if tested(&self.program(solution), tests).is_err() {
                    let hint = "call a function that the text or the solution defines";
                    problems.push(of("tests", "names no function of the program").hint(hint));
                }
            }
            (None, Some(_)) => problems.push(of("solution", "requires tests")),
            (None, None) => {}
        }
        if self.tests.is_none() && self.setup.is_some() {
            problems.push(of("setup", "requires tests"));
        }
        problems
    }
}

/// Returns the default stop texts, which start the next block: CodeParrot's.
pub fn default_stops() -> Vec<String> {
    Preset::Codeparrot.truncation().stops
}
