//! Reads three public formats of JSON lines with programming problems into [`Problem`]s.
//!
//! | format | candidate | tests |
//! |---|---|---|
//! | `human-eval` | `prompt` + completion | `test`, which defines `check`, and a call `check(entry_point)` |
//! | `mbpp` | the completion alone: the prompt is not code ([`MbppPrompt`]) | the lines of `test_list`, after `test_setup_code` or `test_imports` |
//! | `evalplus` | `prompt` + completion | for each arguments of `base_input` and `plus_input`: the same value as the reference solution's ([`evalplus`]) |
//!
//! [`Fields`] maps the field names of a file to those of one of these formats.
//!
//! Sources: human-eval `data.py` and `evaluation.py`; the data sets `mbpp` and `evalplus/humanevalplus`; evalplus `eval/__init__.py`;
//! bigcode-evaluation-harness `tasks/mbpp.py`. Differences:
//! - human-eval runs candidate and tests in one module. Here the tests' module starts with the prompt alone, for the helpers that the
//!   prompt defines, and takes the entry point from the candidate ([`sandbox::Program`]).
//! - evalplus converts arguments of MBPP+ to tuples and sets, and checks fifteen of its problems with special code; here arguments are those of the file,
//!   and the reference's value decides for these problems.

use contract::{Result, StageError, shortened};
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Problem, Spec, checked_task_id, evalplus};
use crate::raw::RawFields;

/// The format of a file of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// The prompt is the beginning of the program; the tests define `check`.
    #[default]
    HumanEval,
    /// The prompt is a sentence; the tests are a list of assertions.
    Mbpp,
    /// The prompt is the beginning of the program; the tests compare with the reference solution on lists of arguments.
    Evalplus,
}

/// The prompt of a problem in MBPP's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MbppPrompt {
    /// A docstring with the sentence and the first test, as in bigcode-evaluation-harness: for models that complete code.
    #[default]
    Docstring,
    /// An instruction with the sentence and all tests, which ends with `[BEGIN]`, as in Austin et al. 2021 without its examples.
    Instruction,
    /// The text of the field as it is.
    Verbatim,
}

/// Names of fields in a file of problems that differ from those of the format.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Fields {
    /// The identifier, a string or an integer. All formats: `task_id`.
    pub task_id: Option<String>,
    /// The prompt, which the model completes. `mbpp`: `text`; others: `prompt`.
    pub prompt: Option<String>,
    /// The reference solution. `mbpp`: `code`; others: `canonical_solution`.
    pub canonical_solution: Option<String>,
    /// The tests, a string or a list of strings. `human-eval`: `test`; `mbpp`: `test_list`; `evalplus`: no field.
    pub test: Option<String>,
    /// The function under test. `mbpp`: no field, the function that the reference solution defines and the tests call; others: `entry_point`.
    pub entry_point: Option<String>,
    /// Python source that runs before the tests in their module, a string or a list of strings. `mbpp`: `test_setup_code`,
    /// if it exists; others: the prompt itself.
    pub setup: Option<String>,
    /// Lists of argument lists. `evalplus`: `base_input` and `plus_input`; others: no field.
    pub inputs: Option<Vec<String>>,
    /// The absolute tolerance of numbers. `evalplus`: `atol`, if it exists.
    pub tolerance: Option<String>,
}

/// A line of a file.
pub(super) struct Row<'r> {
    /// The fields as they are written: integers may be of any length.
    pub fields: &'r RawFields<'r>,
    pub spec: &'r Spec,
}

impl Row<'_> {
    pub fn problem(&self) -> Result<Problem> {
        let Fields { prompt, canonical_solution, test, .. } = &self.spec.fields;
        let is_mbpp = self.spec.form == Form::Mbpp;
        let task_id = self.task_id()?;
        let mut prompt = self.text(named(prompt, if is_mbpp { "text" } else { "prompt" }))?;
        let solution = named(canonical_solution, if is_mbpp { "code" } else { "canonical_solution" });
        let canonical_solution = self.text(solution)?;
        let beginning = if is_mbpp { String::new() } else { prompt.clone() };
        let (setup, calls, tests) = match self.spec.form {
            Form::HumanEval => {
                let entry_point = self.entry_point("entry_point")?;
                let tests = format!("{}\ncheck({entry_point})\n", self.text(named(test, "test"))?);
                (self.setup()?.unwrap_or_else(|| as_module(&prompt)), vec![entry_point], tests)
            }
            Form::Mbpp => {
                let field = named(test, "test_list");
                let list = self.lines(field)?;
                let tests = list.join("\n") + "\n";
                // A string has a test in each line.
                let first = if list.len() == 1 { tests.lines().next() } else { list.first().map(String::as_str) };
                prompt = mbpp_prompt(self.spec.mbpp_prompt, prompt, first.unwrap_or_default(), &tests);
                let calls = match &self.spec.fields.entry_point {
                    Some(name) => vec![self.entry_point(name)?],
                    None => tested(&canonical_solution, &tests)?,
                };
                (self.setup()?.unwrap_or_default(), calls, tests)
            }
            Form::Evalplus => {
                let entry_point = self.entry_point("entry_point")?;
                let reference = format!("{prompt}{canonical_solution}");
                let setup = self.setup()?.unwrap_or_default() + &evalplus::reference_setup(&reference, &entry_point);
                let tests = self.comparisons(&entry_point)?;
                (setup, vec![entry_point], tests)
            }
        };
        Ok(Problem { task_id, prompt, canonical_solution, beginning, setup, calls, tests })
    }

    fn task_id(&self) -> Result<String> {
        let field = named(&self.spec.fields.task_id, "task_id");
        let written = self.written(field)?;
        let task_id = match serde_json::from_str(written) {
            Ok(Value::Number(number)) if number.is_i64() || number.is_u64() => number.to_string(),
            Ok(Value::String(text)) => text,
            _ => return Err(unexpected(field, "a string or an integer", written)),
        };
        checked_task_id(&task_id).map(|()| task_id)
    }

    fn entry_point(&self, field: &str) -> Result<String> {
        let name = self.text(named(&self.spec.fields.entry_point, field))?;
        match is_identifier(&name) {
            true => Ok(name),
            false => Err(StageError::new(format!("'{}' is not a Python identifier", shortened(&name)))
                .hint("the entry point is the name of the function under test")),
        }
    }

    /// Returns the setup code in the file.
    fn setup(&self) -> Result<Option<String>> {
        match (&self.spec.fields.setup, self.spec.form) {
            (Some(field), _) => self.text(field).map(Some),
            (None, Form::Mbpp) => {
                let given =
                    ["test_setup_code", "test_imports"].into_iter().filter(|field| self.fields.get(field).is_some());
                let parts = given.map(|field| self.text(field)).collect::<Result<Vec<_>>>()?;
                Ok(Some(parts.join("\n")))
            }
            (None, _) => Ok(None),
        }
    }

    fn written(&self, field: &str) -> Result<&str> {
        self.fields.get(field).ok_or_else(|| {
            let there: Vec<_> = self.fields.0.iter().take(16).map(|(name, _)| shortened(name)).collect();
            StageError::new(format!("the field '{}' is missing", shortened(field)))
                .hint(format!("the line has: {}; set `form` or `fields` to match the file", there.join(", ")))
        })
    }

    /// Parses a string, or a list of strings as lines.
    fn text(&self, field: &str) -> Result<String> {
        Ok(self.lines(field)?.join("\n"))
    }

    /// Parses a string, or a list of strings.
    fn lines(&self, field: &str) -> Result<Vec<String>> {
        let written = self.written(field)?;
        let text = serde_json::from_str(written).map(|text| vec![text]);
        text.or_else(|_| serde_json::from_str(written))
            .map_err(|_| unexpected(field, "a string or a list of strings", written))
    }

    /// Returns the tests of a problem in the format of evalplus.
    fn comparisons(&self, entry_point: &str) -> Result<String> {
        let default = ["base_input", "plus_input"].map(str::to_owned);
        let fields = self.spec.fields.inputs.as_deref().unwrap_or(&default);
        let tolerance = self.tolerance()?;
        let mut tests = String::new();
        for field in fields {
            let written = self.written(field)?;
            if serde_json::from_str::<Vec<Vec<IgnoredAny>>>(written).is_err() {
                return Err(unexpected(field, "a list of argument lists", written));
            }
            tests += &evalplus::test(entry_point, written, tolerance);
        }
        Ok(tests)
    }

    fn tolerance(&self) -> Result<f64> {
        let given = &self.spec.fields.tolerance;
        let field = named(given, "atol");
        if given.is_none() && self.fields.get(field).is_none() {
            return Ok(0.0);
        }
        let written = self.written(field)?;
        let tolerance = serde_json::from_str(written).ok().filter(|number| *number >= 0.0);
        tolerance.ok_or_else(|| unexpected(field, "a number that is not negative", written))
    }
}

fn named<'f>(field: &'f Option<String>, default: &'f str) -> &'f str {
    field.as_deref().unwrap_or(default)
}

/// Returns the error of a field whose value is written as `found`.
fn unexpected(field: &str, expected: &str, found: &str) -> StageError {
    let found = match found.as_bytes().first() {
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        Some(b'"') => "a string",
        Some(b'[') => "a list",
        Some(b'{') => "an object",
        _ => "a number",
    };
    StageError::new(format!("the field '{}': expected {expected}, found {found}", shortened(field)))
        .hint("set `form` or `fields` to match the file")
}

/// Returns whether a string is a Python identifier (PEP 3131). Python looks names up in the normal form NFKC: a name in another form is one
/// that no candidate defines, which the self-test reports.
fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first == '_' || unicode_ident::is_xid_start(first))
        && letters.all(unicode_ident::is_xid_continue)
}

/// Returns a prompt as a module that compiles: a function without a docstring needs a body.
pub(crate) fn as_module(prompt: &str) -> String {
    let last = prompt.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("");
    if !last.trim_end().ends_with(':') {
        return prompt.to_owned();
    }
    let indent = &last[..last.len() - last.trim_start().len()];
    let end = if prompt.ends_with('\n') { "" } else { "\n" };
    format!("{prompt}{end}{indent}    pass\n")
}

/// Returns the functions and classes that a solution defines at its top level and the tests use.
///
/// # Errors
/// Returns an error if there are none.
pub fn tested(solution: &str, tests: &str) -> Result<Vec<String>> {
    let is_of_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    let name = |line: &str| {
        let rest = ["def ", "class ", "async def "].into_iter().find_map(|word| line.strip_prefix(word))?;
        let rest = rest.trim_start();
        Some(rest[..rest.find(|letter| !is_of_name(letter)).unwrap_or(rest.len())].to_owned())
    };
    let words: std::collections::BTreeSet<&str> = tests.split(|letter| !is_of_name(letter)).collect();
    let mut names: Vec<_> = solution.lines().filter_map(name).filter(|name| words.contains(name.as_str())).collect();
    names.sort();
    names.dedup();
    match names.is_empty() {
        true => Err(StageError::new("the tests use no function that the reference solution defines")
            .hint("set fields.entry_point to the field that names the function under test")),
        false => Ok(names),
    }
}

/// Returns the prompt of a problem in MBPP's format.
fn mbpp_prompt(form: MbppPrompt, sentence: String, first: &str, tests: &str) -> String {
    match form {
        MbppPrompt::Docstring => format!("\"\"\"\n{sentence}\n{first}\n\"\"\"\n"),
        MbppPrompt::Instruction => format!(
            "You are an expert Python programmer, and here is your task: {sentence} Your code should pass these tests:\n\n{tests}[BEGIN]\n"
        ),
        MbppPrompt::Verbatim => sentence,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::read;
    use super::*;
    use serde_json::json;

    pub(crate) fn read_lines(lines: &[Value], form: Form, fields: &Fields) -> Result<Vec<Problem>> {
        let folder = tempfile::tempdir()?;
        let location = folder.path().join("problems");
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&location, text)?;
        let spec = Spec { form, fields: fields.clone(), ..Spec::default() };
        read(&location, Path::new("problems.jsonl"), &spec)
    }

    fn add() -> Value {
        json!({
            "task_id": "a/0", "prompt": "def add(a, b):\n", "canonical_solution": "    return a + b\n",
            "test": "def check(f):\n    assert f(1, 2) == 3", "entry_point": "add", "extra": [1],
        })
    }

    #[test]
    fn identifiers_are_those_of_python() {
        for name in ["f", "_", "_1", "f_1", "\u{192}", "\u{fc}ber", "\u{540d}\u{524d}", "a\u{301}"] {
            assert!(is_identifier(name), "{name}");
        }
        for name in ["", "1", "a b", "a-b", "a.b", "f()", "\u{301}", "\u{2192}", "a\u{a0}"] {
            assert!(!is_identifier(name), "{name}");
        }
    }

    #[test]
    fn human_eval_s_form() {
        let problem = &read_lines(&[add()], Form::HumanEval, &Fields::default()).unwrap()[0];
        assert_eq!(problem.setup, "def add(a, b):\n    pass\n");
        assert_eq!((problem.beginning.as_str(), &problem.calls[..]), ("def add(a, b):\n", &["add".to_owned()][..]));
        assert_eq!(problem.tests, "def check(f):\n    assert f(1, 2) == 3\ncheck(add)\n");
    }

    #[test]
    fn mbpp_s_form() {
        let row = json!({
            "task_id": 2, "text": "Write a function.", "code": "import re\ndef helper(x):\n  return x\ndef add(a, b):\n  return a",
            "test_list": ["assert add(1, 2) == 1", "assert add(2, 2) == 2"], "test_setup_code": "import math",
            "challenge_test_list": [],
        });
        let problem = &read_lines(std::slice::from_ref(&row), Form::Mbpp, &Fields::default()).unwrap()[0];
        assert_eq!((problem.task_id.as_str(), problem.beginning.as_str()), ("2", ""));
        assert_eq!((problem.setup.as_str(), &problem.calls[..]), ("import math", &["add".to_owned()][..]));
        assert_eq!(problem.tests, "assert add(1, 2) == 1\nassert add(2, 2) == 2\n");
        assert_eq!(problem.prompt, "\"\"\"\nWrite a function.\nassert add(1, 2) == 1\n\"\"\"\n");
        let tests = "assert add(1, 2) == 1\nassert add(2, 2) == 2\n";
        let of = |form| mbpp_prompt(form, "Write a function.".to_owned(), "assert", tests);
        assert_eq!(of(MbppPrompt::Verbatim), "Write a function.");
        assert_eq!(
            of(MbppPrompt::Instruction),
            format!(
                "You are an expert Python programmer, and here is your task: Write a function. Your code should pass these tests:\n\n\
                 {tests}[BEGIN]\n"
            )
        );
        // Its sanitised form calls the text `prompt`.
        let mut sanitised = row;
        let text = sanitised.as_object_mut().unwrap().remove("text").unwrap();
        sanitised["prompt"] = text;
        let fields = Fields { prompt: Some("prompt".to_owned()), ..Fields::default() };
        assert_eq!(&read_lines(&[sanitised], Form::Mbpp, &fields).unwrap()[0], problem);
    }

    #[test]
    fn faults_name_the_line_and_what_to_do() {
        let error = |lines: &[Value], fields: Fields| read_lines(lines, Form::HumanEval, &fields).unwrap_err();
        let with = |field: &str, value: Value| {
            let mut row = add();
            row[field] = value;
            row
        };
        let mut other = with("task_id", json!("a/1"));
        other.as_object_mut().unwrap().remove("test");
        let cases = [
            (error(&[add(), add()], Fields::default()), "problems.jsonl:2: duplicate task 'a/0', first in line 1"),
            (error(&[add(), other], Fields::default()), "problems.jsonl:2: the field 'test' is missing"),
            (
                error(&[with("prompt", json!(3))], Fields::default()),
                "problems.jsonl:1: the field 'prompt': expected a string or a list of strings, found a number",
            ),
            (
                error(&[with("entry_point", json!("f(); import os"))], Fields::default()),
                "problems.jsonl:1: 'f(); import os' is not a Python identifier",
            ),
            (
                error(&[with("task_id", json!("a\n|"))], Fields::default()),
                "problems.jsonl:1: the task's identifier 'a\\n|' has control characters",
            ),
            (
                error(&[with("task_id", json!(""))], Fields::default()),
                "problems.jsonl:1: the task's identifier is empty",
            ),
            (error(&[], Fields::default()), "problems.jsonl: the file has no problems"),
        ];
        for (error, expected) in cases {
            assert_eq!(error.to_string(), expected);
        }
        assert!(error(&[json!([1])], Fields::default()).to_string().starts_with("problems.jsonl:1: "));
        let StageError::Failed(failure) = error(&[json!({"task_id": "x", "text": "y"})], Fields::default()) else {
            panic!()
        };
        assert_eq!(
            failure.hint.as_deref(),
            Some("the line has: task_id, text; set `form` or `fields` to match the file")
        );
    }

    #[test]
    fn identifiers_are_bounded() {
        for (length, fits) in [(256, true), (257, false)] {
            let mut row = add();
            row["task_id"] = json!("x".repeat(length));
            assert_eq!(read_lines(&[row], Form::HumanEval, &Fields::default()).is_ok(), fits);
        }
    }

    #[test]
    fn a_prompt_without_a_body_gets_one() {
        assert_eq!(as_module("def f():"), "def f():\n    pass\n");
        assert_eq!(as_module("class A:\n  def f(self):  \n\n"), "class A:\n  def f(self):  \n\n      pass\n");
        let whole = "def f():\n    \"\"\"Says:\n    it\"\"\"\n";
        assert_eq!(as_module(whole), whole);
        assert_eq!(as_module(""), "");
    }
}
