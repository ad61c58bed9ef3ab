//! The files that the stage `eval-completions` writes: `completions.json` and `completions.md`.

use std::collections::BTreeSet;
use std::fmt::Write;

use contract::figures::{count, counted};
use model::generate::stream::completion_text;
use model::generate::{Completion, End, Sampling, Stops};
use score::escape;
use serde::Serialize;
use tokens::text::TextTokenizer;

use crate::completion_tests::{TO_TEST, TestFacts, TestResult};
use crate::prompts::Prompt;

/// The content of `completions.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The temperature.
    pub temperature: f64,
    /// The setting `top_p`.
    pub top_p: f64,
    /// The setting `top_k`; 0 for all tokens.
    pub top_k: usize,
    /// The run's seed.
    pub seed: u64,
    /// The total number of completions.
    pub completions: usize,
    /// The number of blank completions.
    pub blank: usize,
    /// How completions were tested; `None` if no prompt has tests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tests: Option<TestFacts>,
    /// The prompts in order.
    pub prompts: Vec<Completed>,
}

/// A prompt with its completions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Completed {
    /// The prompt.
    pub text: String,
    /// The number of tokens of the prompt.
    pub tokens: usize,
    /// The maximum number of tokens, including the prompt.
    pub max_length: usize,
    /// The number of different completions.
    pub distinct: usize,
    /// The number of completions that passed the tests; `None` if it was not tested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed: Option<usize>,
    /// The completions in order.
    pub completions: Vec<CompletionText>,
}

/// One completion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompletionText {
    /// The truncated text, without trailing white space.
    pub text: String,
    /// The number of generated tokens, including the truncated ones.
    pub tokens: usize,
    /// The reason that it ended: `end-of-text`, `stop`, `max-length`, `model-length` or `no-room`.
    pub ended: &'static str,
    /// Whether it contains only white space.
    pub blank: bool,
    /// The result of its tests; `None` if it was not tested.
    #[serde(flatten)]
    pub result: Option<TestResult>,
}

impl CompletionText {
    /// Creates a completion, truncated at the first stop.
    pub fn new(completion: &Completion, stops: &Stops, tokenizer: &TextTokenizer) -> Self {
        let text = completion_text(&tokenizer.decode_bytes(&completion.tokens), stops);
        let (tokens, ended) = (completion.tokens.len(), ended(completion.end));
        Self { blank: text.trim().is_empty(), text, tokens, ended, result: None }
    }
}

/// Returns the name of the reason that a completion ended.
pub(crate) fn ended(end: End) -> &'static str {
    match end {
        End::EndOfText => "end-of-text",
        End::Stop => "stop",
        End::Maximum => "max-length",
        End::Positions => "model-length",
        End::NoRoom => "no-room",
    }
}

impl Completed {
    /// Creates a prompt of `tokens` tokens with its completions.
    pub fn new(prompt: &Prompt, tokens: usize, completions: Vec<CompletionText>) -> Self {
        let distinct = completions.iter().map(|completion| completion.text.as_str()).collect::<BTreeSet<_>>().len();
        Self { text: prompt.text.clone(), tokens, max_length: prompt.max_length, distinct, passed: None, completions }
    }
}

impl Report {
    /// Creates a report of untested completions.
    pub fn new(sampling: Sampling, seed: u64, prompts: Vec<Completed>) -> Self {
        let Sampling { temperature, top_p, top_k } = sampling;
        let all = || prompts.iter().flat_map(|prompt| &prompt.completions);
        let (completions, blank) = (all().count(), all().filter(|completion| completion.blank).count());
        Self { temperature, top_p, top_k, seed, completions, blank, tests: None, prompts }
    }

    /// Returns the texts of the completions of each prompt.
    pub fn sources(&self) -> Vec<Vec<&str>> {
        let texts = self.prompts.iter().map(|prompt| prompt.completions.iter());
        texts.map(|texts| texts.map(|completion| completion.text.as_str()).collect()).collect()
    }

    /// Adds how the completions were tested, and the results of each prompt: none, or one for each of its completions.
    pub fn set_tests(&mut self, facts: TestFacts, results: Vec<Vec<TestResult>>) {
        for (prompt, results) in self.prompts.iter_mut().zip(results) {
            prompt.passed = (!results.is_empty()).then(|| results.iter().filter(|result| result.passed).count());
            for (completion, result) in prompt.completions.iter_mut().zip(results) {
                completion.result = Some(result);
            }
        }
        self.tests = Some(facts);
    }

    /// Returns the number of completions that passed and the number that were tested; `None` if none were tested.
    pub fn passed(&self) -> Option<(usize, usize)> {
        let tested = || self.prompts.iter().filter_map(|prompt| Some((prompt.passed?, prompt.completions.len())));
        let sum = |(passed, all), (more, others)| (passed + more, all + others);
        tested().next().map(|_| tested().fold((0, 0), sum))
    }

    /// Formats the report as Markdown.
    pub fn markdown(&self) -> String {
        let mut page = format!(
            "# Completions\n\nTemperature {}, top-p {}, top-k {}, seed {}. {}, {} of them blank.\n",
            self.temperature,
            self.top_p,
            self.top_k,
            self.seed,
            counted(self.completions as u64, "completion"),
            count(self.blank as u64)
        );
        page += &self.tests.as_ref().map_or(String::new(), |tests| self.tests_section(tests));
        for (number, prompt) in (1..).zip(&self.prompts) {
            page += &prompt.section(number);
        }
        page
    }

    fn tests_section(&self, tests: &TestFacts) -> String {
        let (python, without) = match tests {
            TestFacts::Skipped { skipped } => {
                return format!("\nThe completions were not tested: {}; {TO_TEST}.\n", escape::markdown(skipped));
            }
            TestFacts::Run { python, without, .. } => (python, without),
        };
        let mut text = format!("\nTested in a sandbox with Python {}", escape::markdown(python));
        if !without.is_empty() {
            text += &format!(", without its layers {}", without.join(", "));
        }
        text += ".\n\n| prompt | passed |\n|---|---:|\n";
        for (number, prompt) in (1..).zip(&self.prompts) {
            let passed = prompt.passed.map_or("not tested".to_owned(), |passed| {
                format!("{} of {}", count(passed as u64), count(prompt.completions.len() as u64))
            });
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {number} | {passed} |");
        }
        text
    }
}

impl Completed {
    fn section(&self, number: usize) -> String {
        let all = self.completions.len() as u64;
        let mut section = format!(
            "\n## Prompt {number}\n\n{}\n{} of at most {}; {} of {} distinct{}.\n",
            block(&self.text),
            counted(self.tokens as u64, "token"),
            count(self.max_length as u64),
            count(self.distinct as u64),
            counted(all, "completion"),
            self.passed.map_or(String::new(), |passed| format!(", {} passed", count(passed as u64))),
        );
        for (number, completion) in (1..).zip(&self.completions) {
            let body = match completion.blank {
                true => "*White space only.*\n".to_owned(),
                false => block(&completion.text),
            };
            let result = completion.result.as_ref();
            // Writing to a String cannot fail.
            let _ = write!(
                section,
                "\n{number} of {all} ({}, ended by {}{}):\n\n{body}",
                counted(completion.tokens as u64, "token"),
                completion.ended,
                result.map_or(String::new(), |result| format!("; {}", escape::markdown(&result.result))),
            );
        }
        section
    }
}

/// Formats a code block whose fence is longer than any in the text.
fn block(text: &str) -> String {
    let longest = text.split(|character| character != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    // The first line of a completion may be indented or empty: it is shown unchanged.
    format!("{fence}python\n{text}\n{fence}\n")
}
