//! Measures how a tokenizer splits code, like "Building a Tokenizer" (Tunstall et al., Natural Language Processing
//! with Transformers, chapter 10).
//!
//! | measure | definition |
//! |---|---|
//! | characters, bytes per token | text divided by its tokens |
//! | fertility | tokens per word of the splitter |
//! | continued words | the share of words that take two tokens or more |
//! | unused tokens | learned ids that no word of the training sample contains at the end: intermediate steps to longer tokens |
//!
//! The measures of `training` are exact over the words that were learned from. The measures of `sample` are computed by encoding whole
//! documents, which belong to the training sample.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;

use contract::figures::{count, counted};
use contract::{Result, StageError};
use serde::Serialize;

use crate::merges::Learned;
use crate::splitter::words;
use crate::text::TextTokenizer;
use crate::word_counts::CountedWords;

/// The reserved words of Python 3.12 (`keyword.kwlist`).
const KEYWORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del",
    "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal",
    "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];
/// The words that are reserved in some places (`keyword.softkwlist`).
const SOFT_KEYWORDS: [&str; 4] = ["_", "case", "match", "type"];
/// The program that the chapter tokenises with each tokenizer.
const PROGRAM: &str = "def say_hello():\n    print(\"Hello, World!\")\n# Print it\nsay_hello()\n";

/// The content of `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The total number of ids.
    pub vocabulary: u32,
    /// The counts of the training sample.
    pub training: Training,
    /// The counts of encoding some of the documents.
    pub sample: Sample,
    /// The reserved words of Python in the vocabulary.
    pub keywords: Keywords,
    /// Runs of whitespace in the vocabulary.
    pub indentation: Indentation,
    /// The longest tokens, in characters (ties: the first learned).
    pub longest_tokens: Vec<String>,
    /// The tokens that were learned first.
    pub first_tokens: Vec<String>,
    /// The tokens that were learned last.
    pub last_tokens: Vec<String>,
    /// The tokens of the chapter's sample program.
    pub program: Vec<String>,
}

/// The exact counts of the training sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Training {
    /// The number of documents in the input.
    pub documents_of_input: u64,
    /// The number of documents that were learned from.
    pub documents: u64,
    /// The number of their bytes.
    pub bytes: u64,
    /// The number of their words, with repetitions.
    pub words: u64,
    /// The number of their distinct words.
    pub distinct_words: u64,
    /// The number of distinct words that were learned from, the most frequent ones.
    pub distinct_words_kept: u64,
    /// The number of tokens of the kept words, with repetitions.
    pub tokens: u64,
    /// The number of bytes per token of the kept words.
    pub bytes_per_token: f64,
    /// The number of learned merges.
    pub merges: u64,
    /// The maximum length of a token, in bytes.
    pub max_token_length: u32,
    /// The length of the longest learned token, in bytes.
    pub longest_token: u64,
    /// Whether pairs were not merged because their token would be longer.
    pub met_max_token_length: bool,
    /// The number of learned ids and bytes that no kept word contains.
    pub unused_tokens: u64,
}

impl Training {
    /// Creates the counts; the ids of the `specials` special tokens come before those of the bytes.
    pub fn new(
        counted: &CountedWords,
        learned: &Learned,
        documents: u64,
        bytes: u64,
        documents_of_input: u64,
        specials: u32,
    ) -> Self {
        let tokens = learned.uses.iter().sum();
        let kept_bytes: u64 = counted.iter().map(|(word, count)| word.len() as u64 * count).sum();
        Self {
            documents_of_input,
            documents,
            bytes,
            words: counted.total,
            distinct_words: counted.distinct,
            distinct_words_kept: counted.len() as u64,
            tokens,
            bytes_per_token: ratio(kept_bytes, tokens),
            merges: learned.merges.len() as u64,
            max_token_length: learned.max_length,
            longest_token: learned.tokens.iter().map(Vec::len).max().unwrap_or(0) as u64,
            met_max_token_length: learned.met_max_length,
            unused_tokens: learned.uses.iter().skip(specials as usize).filter(|uses| **uses == 0).count() as u64,
        }
    }
}

/// The counts of encoding whole documents.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sample {
    /// The number of documents.
    pub documents: u64,
    /// The number of their characters.
    pub characters: u64,
    /// The number of their bytes.
    pub bytes: u64,
    /// The number of their words.
    pub words: u64,
    /// The number of their tokens.
    pub tokens: u64,
    /// The number of characters per token.
    pub characters_per_token: f64,
    /// The number of bytes per token.
    pub bytes_per_token: f64,
    /// The number of tokens per word.
    pub fertility: f64,
    /// The share of words that take two tokens or more.
    pub continued_words: f64,
}

/// The words of Python that are tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Keywords {
    /// The number of reserved words.
    pub count: usize,
    /// The reserved words that are not a token.
    pub missing: Vec<&'static str>,
    /// The reserved words that are not a token with a leading space.
    pub missing_after_space: Vec<&'static str>,
    /// The soft keywords that are not a token.
    pub soft_missing: Vec<&'static str>,
}

/// The runs of whitespace that are tokens: the lengths in spaces or tabs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Indentation {
    /// The lengths of runs of spaces.
    pub spaces: Vec<usize>,
    /// The number of spaces after a newline.
    pub newline_spaces: Vec<usize>,
    /// The lengths of runs of tabs.
    pub tabs: Vec<usize>,
    /// The number of tabs after a newline.
    pub newline_tabs: Vec<usize>,
    /// The lengths of runs of newlines.
    pub newlines: Vec<usize>,
}

impl Report {
    /// Creates the report. `first` is the first learned id; `sample` contains files of texts, each preceded by its length (u64).
    pub fn new(tokenizer: &TextTokenizer, training: Training, first: u32, sample: &[PathBuf]) -> Result<Self> {
        let learned = || (first..tokenizer.vocabulary()).map(|id| tokenizer.token_bytes(id));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let missing = |words: &[&'static str], before: &str| {
            let is_missing = |word: &&&str| tokenizer.id_of(format!("{before}{word}").as_bytes()).is_none();
            words.iter().filter(is_missing).copied().collect()
        };
        let mut longest: Vec<&[u8]> = learned().collect();
        let characters = |bytes: &[u8]| bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
        longest.sort_by_key(|bytes| std::cmp::Reverse(characters(bytes)));
        let last = learned().skip(learned().len().saturating_sub(12));
        let program = tokenizer.encode(PROGRAM)?;
        Ok(Self {
            vocabulary: tokenizer.vocabulary(),
            training,
            sample: encode(tokenizer, sample)?,
            keywords: Keywords {
                count: KEYWORDS.len(),
                missing: missing(&KEYWORDS, ""),
                missing_after_space: missing(&KEYWORDS, " "),
                soft_missing: missing(&SOFT_KEYWORDS, ""),
            },
            indentation: Indentation {
                spaces: runs(tokenizer, b"", b' '),
                newline_spaces: runs(tokenizer, b"\n", b' '),
                tabs: runs(tokenizer, b"", b'\t'),
                newline_tabs: runs(tokenizer, b"\n", b'\t'),
                newlines: runs(tokenizer, b"", b'\n'),
            },
            longest_tokens: longest.into_iter().take(8).map(text).collect(),
            first_tokens: learned().take(24).map(text).collect(),
            last_tokens: last.map(text).collect(),
            program: program.iter().map(|id| text(tokenizer.token_bytes(*id))).collect(),
        })
    }

    /// Formats `report.md`.
    pub fn markdown(&self) -> String {
        let Self { training, sample, keywords, indentation, .. } = self;
        let mut text = String::new();
        let mut line = |content: String| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{content}");
        };
        line(format!("# Tokenizer of {} ids\n", self.vocabulary));
        line("| measure | value |\n|---|---|".to_owned());
        line(format!("| characters a token | {:.4} |", sample.characters_per_token));
        line(format!("| bytes a token | {:.4} |", sample.bytes_per_token));
        line(format!("| fertility (tokens a word) | {:.4} |", sample.fertility));
        line(format!("| continued words | {:.2} % |", 100.0 * sample.continued_words));
        line(format!("| unused tokens | {} |", training.unused_tokens));
        let met = if training.met_max_token_length { ", where longer pairs were left" } else { "" };
        let (longest, bound) = (training.longest_token, training.max_token_length);
        line(format!("| longest token | {longest} bytes (at most {bound}{met}) |"));
        line(format!(
            "\nThe first four from {} ({}, {}).\n",
            counted(sample.documents, "document"),
            counted(sample.characters, "character"),
            counted(sample.tokens, "token")
        ));
        line(format!(
            "Learned from {} of {}: {}, {}, {} of them distinct ({} kept), {}.\n",
            count(training.documents),
            counted(training.documents_of_input, "document"),
            counted(training.bytes, "byte"),
            counted(training.words, "word"),
            count(training.distinct_words),
            count(training.distinct_words_kept),
            counted(training.merges, "merge")
        ));
        line(format!("## Python's {} reserved words\n", keywords.count));
        line(format!("- no token: {}", list(&keywords.missing)));
        line(format!("- no token after a space: {}", list(&keywords.missing_after_space)));
        line(format!("- soft keywords that are no token: {}\n", list(&keywords.soft_missing)));
        line("## Indentation\n".to_owned());
        line(format!("- runs of spaces: {}", list(&indentation.spaces)));
        line(format!("- newline and spaces: {}", list(&indentation.newline_spaces)));
        line(format!("- runs of tabs: {}", list(&indentation.tabs)));
        line(format!("- newline and tabs: {}", list(&indentation.newline_tabs)));
        line(format!("- runs of newlines: {}\n", list(&indentation.newlines)));
        for (title, tokens) in [
            ("Longest tokens", &self.longest_tokens),
            ("First tokens learned", &self.first_tokens),
            ("Last tokens learned", &self.last_tokens),
            ("The sample program", &self.program),
        ] {
            let quoted: Vec<_> = tokens.iter().map(|token| format!("`{}`", token.escape_debug())).collect();
            line(format!("## {title}\n\n{}\n", quoted.join(" ")));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.iter().map(T::to_string).collect::<Vec<_>>().join(", ") }
}

fn ratio(numerator: u64, denominator: u64) -> f64 {
    if denominator == 0 { 0.0 } else { numerator as f64 / denominator as f64 }
}

/// Returns the lengths for which `before` and a run of `unit` are a token.
fn runs(tokenizer: &TextTokenizer, before: &[u8], unit: u8) -> Vec<usize> {
    let length = |token: &[u8]| {
        let run = token.strip_prefix(before)?;
        (!run.is_empty() && run.iter().all(|byte| *byte == unit)).then_some(run.len())
    };
    let mut lengths: Vec<_> = (0..tokenizer.vocabulary()).filter_map(|id| length(tokenizer.token_bytes(id))).collect();
    lengths.sort_unstable();
    lengths
}

fn encode(tokenizer: &TextTokenizer, files: &[PathBuf]) -> Result<Sample> {
    let (mut sample, mut continued) = (Sample::default(), 0);
    for path in files {
        let mut file = BufReader::new(File::open(path)?);
        let mut length = [0; 8];
        while file.read(&mut length[..1])? == 1 {
            file.read_exact(&mut length[1..])?;
            let mut text = String::new();
            file.by_ref().take(u64::from_le_bytes(length)).read_to_string(&mut text)?;
            let ids = tokenizer.encode(&text)?;
            sample.documents += 1;
            sample.characters += text.chars().count() as u64;
            sample.bytes += text.len() as u64;
            sample.tokens += ids.len() as u64;
            let mut ids = ids.into_iter();
            for word in words(&text) {
                let (mut bytes, mut tokens) = (0, 0);
                while bytes < word.len() {
                    let id = ids.next().ok_or_else(|| StageError::new("the tokens of a text end before its words"))?;
                    bytes += tokenizer.token_bytes(id).len();
                    tokens += 1;
                }
                if bytes > word.len() {
                    return Err(StageError::new("a token crosses the end of a word"));
                }
                sample.words += 1;
                continued += u64::from(tokens > 1);
            }
        }
    }
    sample.characters_per_token = ratio(sample.characters, sample.tokens);
    sample.bytes_per_token = ratio(sample.bytes, sample.tokens);
    sample.fertility = ratio(sample.tokens, sample.words);
    sample.continued_words = ratio(continued, sample.words);
    Ok(sample)
}
