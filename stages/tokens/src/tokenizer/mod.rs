//! The stage kind `tokenizer`: byte-level byte-pair encoding as in GPT-2, learned from a sample of the documents.
//!
//! The result equals that of `train_new_from_iterator` of transformers for GPT-2's tokenizer on the same documents: ids are the special
//! tokens, then the 256 bytes in the order of their characters ([`crate::alphabet`]), then the merges in the order in which they were
//! learned. Text is not normalised. A leading space is part of a word; no space is added.
//!
//! Words are counted exactly ([`crate::word_counts`]); merges are learned from the most frequent of them, as many as
//! fit into `word_bytes` ([`crate::merges`]). Memory depends on this setting, not on the size of the table.
//!
//! No token is longer than `max_token_length` bytes; transformers' trainer has no such limit by default. Without it, long runs of one
//! character would use many ids, and the encoder's tables grow with the square of a token's length. The report contains the limit and the
//! longest token.
//!
//! | file of `tokenizer` | read by |
//! |---|---|
//! | `tokenizer.json` | `tokenizers`, transformers, fastokens: the whole tokenizer |
//! | `tokenizer_config.json`, `special_tokens_map.json` | transformers |
//! | `vocab.json`, `merges.txt` | programs that read GPT-2's two files |

mod files;
mod report;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use contract::{
    Context, Cost, Fact, Facts, Inferred, InputFacts, Inputs, Needs, PortType, Ports, Problem, Result, Stage,
    StageError, Unit, figures,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tables::{Table, each_part};

use crate::alphabet;
use crate::documents;
use crate::merges::{self, Goal, Learned};
use crate::selection::{Selection, select};
use crate::splitter::words;
use crate::text::{END_OF_TEXT, TextTokenizer};
use crate::word_counts::{CountedWords, Counter, WordCounts};

pub use report::Report;

/// The memory that learning uses per byte of distinct words, in bytes.
const MEMORY_PER_WORD_BYTE: u64 = 32;
/// The number of documents that the report encodes.
const REPORT_DOCUMENTS: u64 = 500;

/// Learns a byte-level BPE tokenizer, like GPT-2's, from a sample of the documents. Writes it in the format of Hugging
/// Face tokenizers and transformers, with a report on the tokens of code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Spec {
    /// The number of ids: special tokens, the 256 bytes and the learned tokens. There are fewer if no pairs remain to merge.
    #[schemars(range(min = 257, max = 1 << 20))]
    pub vocabulary: u32,
    /// The number of documents to learn from, drawn with the run's seed; all if there are fewer.
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub documents: u64,
    /// Special tokens, which take the first ids. The first of them ends each document in training.
    #[schemars(length(min = 1, max = 1000), extend("uniqueItems" = true))]
    pub special_tokens: Vec<String>,
    /// The minimum number of occurrences of a pair of symbols to merge. 0 and 1 both merge every pair that occurs.
    #[schemars(range(max = 1_000_000_000_000u64))]
    pub min_frequency: u64,
    /// The maximum length of a token, in bytes: pairs that would create a longer token are not merged.
    #[schemars(range(min = 2, max = 1024))]
    pub max_token_length: u32,
    /// The total size of the distinct words to learn from, in bytes, the most frequent words first. Learning takes about 32 times that much
    /// memory; 32 MiB suffice for about four million words, more than 200,000 Python files contain.
    #[schemars(range(min = 1, max = 1 << 30))]
    pub word_bytes: u64,
    /// The maximum number of tokens of a model: transformers' `model_max_length`.
    #[schemars(range(min = 1, max = 1 << 30))]
    pub model_max_length: u32,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            vocabulary: 32_768,
            documents: 200_000,
            special_tokens: vec![END_OF_TEXT.to_owned()],
            min_frequency: 0,
            max_token_length: 256,
            word_bytes: 32 << 20,
            model_max_length: 1024,
        }
    }
}

/// All settings change the output.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Exec {}

/// The stage kind `tokenizer`.
#[derive(Debug)]
pub struct Tokenizer;

impl Stage for Tokenizer {
    type Spec = Spec;
    type Exec = Exec;

    const KIND: &'static str = "tokenizer";
    const REVISION: u32 = 2;
    const SEEDED: bool = true;

    fn ports() -> Ports {
        Ports::new()
            .input("documents", PortType::Documents, "the documents to learn from")
            .output("tokenizer", PortType::Tokenizer, "tokenizer.json and its companions")
            .output("report", PortType::Report, "statistics of the tokens of code: report.json, report.md")
    }

    fn check(spec: &Spec, _: &Exec) -> Vec<Problem> {
        check(spec)
    }

    fn infer(spec: &Spec, _: &Exec, _: &InputFacts) -> Inferred {
        let facts = Facts {
            tokenizer: Some(Fact::own((), "")),
            vocabulary: Some(Fact::own(spec.vocabulary.into(), "vocabulary")),
            ..Facts::default()
        };
        // An upper bound: the text may have fewer distinct words.
        let cost = Cost { memory_bound: Some(memory(spec)), ..Cost::default() };
        Inferred { outputs: [("tokenizer", facts)].into(), cost, ..Inferred::default() }
    }

    fn compare(before: &Inputs, after: &Inputs) -> Option<String> {
        let merges = |inputs: &Inputs| files::merges(inputs.get("tokenizer")?);
        let (old, new) = (merges(before)?, merges(after)?);
        let known: HashSet<_> = old.iter().collect();
        let changed = new.iter().filter(|merge| !known.contains(merge)).count();
        let moved =
            if changed == 0 && old.len() == new.len() && old != new { ", their order is different" } else { "" };
        Some(format!(
            "{} of {} changed{moved}",
            figures::count(changed as u64),
            figures::counted(new.len() as u64, "merge")
        ))
    }

    fn needs(spec: &Spec, _: &Exec) -> Needs {
        Needs { memory: Needs::default().memory.max(memory(spec)), ..Needs::default() }
    }

    fn run(spec: &Spec, _: &Exec, context: &Context) -> Result<()> {
        run(spec, context)
    }
}

/// Returns the memory that learning uses, in bytes, if the text has at least as many words as are kept.
fn memory(spec: &Spec) -> u64 {
    spec.word_bytes.saturating_mul(MEMORY_PER_WORD_BYTE)
}

fn check(spec: &Spec) -> Vec<Problem> {
    let mut problems = Vec::new();
    let least = 256 + spec.special_tokens.len() as u64;
    if u64::from(spec.vocabulary) < least {
        let message =
            format!("must be at least {least}, the 256 bytes and the special tokens, not {}", spec.vocabulary);
        problems.push(Problem::new("vocabulary", message).depends_on("special_tokens").hint("32768 is usual for code"));
    }
    for (index, token) in spec.special_tokens.iter().enumerate() {
        if words(token).nth(1).is_none() {
            // A string that is a single word could be learned as an ordinary token, and text could then contain the special id.
            let message = format!("text could spell '{token}' as an ordinary token");
            let problem = Problem::new(format!("special_tokens[{index}]"), message);
            problems.push(problem.hint("write it with brackets around a name, as <|name|>"));
        }
    }
    problems
}

/// Describes the reason that learning ended before the vocabulary was full.
fn why_fewer(spec: &Spec, counted: &CountedWords, learned: &Learned) -> String {
    if (counted.len() as u64) < counted.distinct {
        let (kept, distinct, bytes) = (counted.len(), counted.distinct, spec.word_bytes);
        format!("word_bytes = {bytes} keeps only {kept} of {distinct} distinct words: raise it")
    } else if spec.min_frequency > 1 {
        format!("no remaining pair occurs min_frequency = {} times", spec.min_frequency)
    } else if learned.met_max_length {
        format!("every remaining pair makes a token longer than max_token_length = {} bytes", spec.max_token_length)
    } else {
        "no pairs remain to merge".to_owned()
    }
}

/// Counts of the documents that were read.
#[derive(Debug, Clone, Copy, Default)]
struct ReadCounts {
    /// The number of documents that were read.
    rows: u64,
    /// The number of documents that are learned from, and their bytes.
    documents: u64,
    bytes: u64,
}

fn run(spec: &Spec, context: &Context) -> Result<()> {
    let table = Table::open(context.inputs.tree("documents")?)?;
    if table.rows() == 0 {
        return Err(StageError::new("there are no documents to learn a tokenizer from")
            .hint("the reports of the upstream stages show where documents were dropped"));
    }
    let sizes = [spec.documents, spec.documents.min(REPORT_DOCUMENTS)];
    context.progress.start("choose documents", Unit::Rows, None);
    let selections = select(context, &table, "tokenizer documents", &sizes)?;
    let sample = context.scratch.join("sample");
    fs::create_dir_all(&sample)?;
    let (counted, read) = count(context, &table, &selections, &sample, spec.word_bytes)?;

    let first = 256 + spec.special_tokens.len() as u32;
    let specials = spec.special_tokens.len() as u32;
    let mut ids = [0; 256];
    for (id, byte) in (specials..).zip(alphabet::bytes()) {
        ids[usize::from(*byte)] = id;
    }
    // The first merges change many positions, the last ones few.
    context.progress.start_uneven("learn merges", Unit::Merges, Some(spec.vocabulary.into()));
    let goal =
        Goal { vocabulary: spec.vocabulary, min_frequency: spec.min_frequency, max_length: spec.max_token_length };
    let learned = merges::learn(&counted, &ids, first, goal, &context.progress, &context.cancel)?;
    if learned.uses.len() < spec.vocabulary as usize {
        context.progress.warn(format!(
            "learned {}, fewer than the {} requested: {}",
            figures::counted(learned.uses.len() as u64, "id"),
            figures::count(spec.vocabulary.into()),
            why_fewer(spec, &counted, &learned)
        ));
    }

    let json = files::write(spec, &learned, context.outputs.tree("tokenizer")?)?;
    let tokenizer = TextTokenizer::from_json(json, &spec.special_tokens[0])?;
    context.progress.start("report", Unit::Rows, None);
    let training = report::Training::new(&counted, &learned, read.documents, read.bytes, table.rows(), specials);
    let report = Report::new(&tokenizer, training, first, &sample_texts(&sample)?)?;
    let output = context.outputs.tree("report")?;
    output.write_json("report.json", &report)?;
    output.write("report.md", report.markdown().as_bytes())?;
    fs::remove_dir_all(&sample)?;
    context.progress.info(format!(
        "{} learned from {}",
        figures::counted(learned.uses.len() as u64, "id"),
        figures::counted(read.documents, "document")
    ));
    Ok(())
}

/// Counts the words of the first selection, and writes the texts of the second to `sample`, one file for each part.
fn count(
    context: &Context,
    table: &Table,
    selections: &[Selection],
    sample: &Path,
    word_bytes: u64,
) -> Result<(CountedWords, ReadCounts)> {
    let memory = usize::try_from(context.resources.memory).unwrap_or(usize::MAX);
    let own_budget = memory / 4 / context.resources.threads.max(1);
    let shared = Mutex::new(WordCounts::new(&context.scratch, memory / 4));
    let absorb = |counter: &mut Counter| shared.lock().unwrap_or_else(PoisonError::into_inner).absorb(counter);
    context.progress.start("count words", Unit::Rows, Some(table.rows()));
    let parts = each_part(context, table.parts(), |part| {
        let (mut counter, mut read) = (Counter::default(), ReadCounts::default());
        let mut kept: Option<BufWriter<File>> = None;
        for batch in documents::texts(part)? {
            let (ids, texts) = batch?;
            for (id, text) in ids.iter().zip(texts.iter()) {
                context.cancel.check()?;
                if !selections[0].takes(id) {
                    continue;
                }
                counter.count(text);
                read.documents += 1;
                read.bytes += text.len() as u64;
                if counter.memory() > own_budget {
                    absorb(&mut counter)?;
                }
                if selections[1].takes(id) {
                    let file = match &mut kept {
                        Some(file) => file,
                        none => none.insert(BufWriter::new(File::create(sample.join(&part.name))?)),
                    };
                    file.write_all(&(text.len() as u64).to_le_bytes())?;
                    file.write_all(text.as_bytes())?;
                }
            }
            read.rows += ids.iter().len() as u64;
            context.progress.add(ids.iter().len() as u64);
        }
        absorb(&mut counter)?;
        if let Some(mut file) = kept {
            file.flush()?;
        }
        Ok(read)
    })?;
    let read = parts.iter().fold(ReadCounts::default(), |sum, read| ReadCounts {
        rows: sum.rows + read.rows,
        documents: sum.documents + read.documents,
        bytes: sum.bytes + read.bytes,
    });
    if read.rows != table.rows() {
        return Err(StageError::new(format!("read {} of {} documents", read.rows, table.rows())));
    }
    let counts = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((counts.finish(word_bytes)?, read))
}

/// Returns the files with the texts that the report encodes, sorted by the parts' names.
fn sample_texts(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files = entries.collect::<std::io::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}
