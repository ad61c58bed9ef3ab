//! The files that the stage `eval-completions` writes: `completions.json` and `completions.md`.

use std::collections::BTreeSet;
use std::fmt::Write;

use contract::figures::{count, counted};
use model::generate::stream::completion_text;
use model::generate::{Completion, End, Stops};
use serde::Serialize;
use tokens::text::TextTokenizer;

use crate::prompts::Prompt;

/// The content of `completions.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The temperature.
    pub temperature: f64,
    /// The probability that was kept.
    pub top_p: f64,
    /// The number of tokens that were kept; 0 for all.
    pub top_k: usize,
    /// The run's seed.
    pub seed: u64,
    /// Completions in all.
    pub completions: usize,
    /// Completions that are blank.
    pub blank: usize,
    /// The prompts in order.
    pub prompts: Vec<Completed>,
}

/// A prompt with its completions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Completed {
    /// The prompt.
    pub text: String,
    /// Its tokens.
    pub tokens: usize,
    /// The longest sequence in tokens, including the prompt.
    pub max_length: usize,
    /// How many of its completions differ from one another.
    pub distinct: usize,
    /// Its completions in order.
    pub completions: Vec<CompletionText>,
}

/// One completion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompletionText {
    /// The text before the cut, without trailing white space.
    pub text: String,
    /// Generated tokens, including those that were cut.
    pub tokens: usize,
    /// Why it ended: `end-of-text`, `stop`, `max-length`, `model-length` or `no-room`.
    pub ended: &'static str,
    /// Whether it is white space only.
    pub blank: bool,
}

impl CompletionText {
    /// Creates a completion, cut at the first of the stops.
    pub fn new(completion: &Completion, stops: &Stops, tokenizer: &TextTokenizer) -> Self {
        let text = completion_text(&tokenizer.decode_bytes(&completion.tokens), stops);
        Self { blank: text.trim().is_empty(), text, tokens: completion.tokens.len(), ended: ended(completion.end) }
    }
}

/// The name of why a completion has no more tokens.
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
        Self { text: prompt.text.clone(), tokens, max_length: prompt.max_length, distinct, completions }
    }
}

impl Report {
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
        for (number, prompt) in (1..).zip(&self.prompts) {
            let all = prompt.completions.len() as u64;
            page += &format!(
                "\n## Prompt {number}\n\n{}\n{} of at most {}; {} of {} distinct.\n",
                block(&prompt.text),
                counted(prompt.tokens as u64, "token"),
                count(prompt.max_length as u64),
                count(prompt.distinct as u64),
                counted(all, "completion")
            );
            for (number, completion) in (1..).zip(&prompt.completions) {
                let body = match completion.blank {
                    true => "*White space only.*\n".to_owned(),
                    false => block(&completion.text),
                };
                // Writing to a String cannot fail.
                let _ = write!(
                    page,
                    "\n{number} of {all} ({}, ended by {}):\n\n{body}",
                    counted(completion.tokens as u64, "token"),
                    completion.ended
                );
            }
        }
        page
    }
}

/// Formats a code block whose fence is longer than any in the text.
fn block(text: &str) -> String {
    let longest = text.split(|character| character != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    // The first line of a completion may be indented or empty: it is shown as it is.
    format!("{fence}python\n{text}\n{fence}\n")
}
