//! The stage kind `pack`: packs documents into sequences of fixed length ([`crate::packed`]), which training reads.
//!
//! Every document is tokenised and followed by the end-of-text token; the documents are joined in an order drawn with the run's seed; the
//! stream is cut into sequences, across documents, and the incomplete sequence at the end of each split is dropped. The bytes depend only
//! on the documents, the tokenizer and the seed, not on parts, their order or threads. Text is always ordinary text: `<|endoftext|>`
//! written in a file becomes the ids of its characters.
//!
//! | file of `train` and `valid` | content |
//! |---|---|
//! | `tokens.bin` | the sequences |
//! | `documents.bin` | the position of each document ([`crate::index`]) |

mod order;
mod split;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use contract::figures::{count, counted};
use contract::{Context, Fact, Facts, Inferred, InputFacts, PortType, Ports, Result, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tables::Table;

use crate::packed::{self, Header, PackedWriter};
use crate::text::{self, TextTokenizer};
use split::Packer;

pub use split::Ledger;

/// Tokenises documents and packs them into sequences of fixed length, joined by the end-of-text token and shuffled with the run's seed;
/// reports the use of every token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Spec {
    /// The number of tokens per sequence: the context of the model. At least 2: one token predicts the next.
    #[schemars(range(min = 2, max = 1 << 20))]
    pub sequence_length: u32,
    /// What to shuffle.
    pub shuffle: Shuffle,
}

/// The items to shuffle, with the run's seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Shuffle {
    /// The documents, before they are joined.
    #[default]
    Documents,
    /// The documents, and then the sequences, so that the sequences of one long document are far apart.
    Sequences,
    /// Nothing: the documents keep the order of the table.
    None,
}

impl Default for Spec {
    fn default() -> Self {
        Self { sequence_length: 1024, shuffle: Shuffle::default() }
    }
}

/// There are no settings that do not change the output.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Exec {}

/// The stage kind `pack`.
#[derive(Debug)]
pub struct Pack;

impl Stage for Pack {
    type Spec = Spec;
    type Exec = Exec;

    const KIND: &'static str = "pack";
    const REVISION: u32 = 1;
    const SEEDED: bool = true;

    fn ports() -> Ports {
        Ports::new()
            .input("train", PortType::Documents, "the documents to train on")
            .input("tokenizer", PortType::Tokenizer, "the tokenizer to encode them with")
            .optional_input("valid", PortType::Documents, "the documents to evaluate on")
            .output("train", PortType::Tokens, "sequences of the documents to train on")
            .output(
                "valid",
                PortType::Tokens,
                "sequences of the documents to evaluate on; empty if there are no documents",
            )
            .output("report", PortType::Report, "counts of all tokens: report.json, report.md")
    }

    fn infer(spec: &Spec, _: &Exec, inputs: &InputFacts) -> Inferred {
        let sequence_length = Some(Fact::own(spec.sequence_length.into(), "sequence_length"));
        let facts = Facts { sequence_length, ..inputs.port("tokenizer") };
        Inferred { outputs: [("train", facts.clone()), ("valid", facts)].into(), ..Inferred::default() }
    }

    fn run(spec: &Spec, _: &Exec, context: &Context) -> Result<()> {
        run(spec, context)
    }
}

/// The content of `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The number of tokens per sequence.
    pub sequence_length: u32,
    /// The setting `shuffle`.
    pub shuffle: Shuffle,
    /// The total number of ids.
    pub vocabulary: u32,
    /// The number of bytes per id in the packed file.
    pub bytes_per_id: usize,
    /// The token counts of each split.
    pub splits: BTreeMap<String, Ledger>,
}

fn run(spec: &Spec, context: &Context) -> Result<()> {
    let tree = context.inputs.tree("tokenizer")?;
    let tokenizer = TextTokenizer::open(tree)?;
    let json = fs::read(&tree.required(text::FILE)?.location)?;
    let mut reference = tokenizers::Tokenizer::from_bytes(json)
        .map_err(|error| StageError::new(format!("{} cannot be loaded by tokenizers: {error}", text::FILE)))?;
    reference.set_encode_special_tokens(true);
    let packer = Packer { spec, context, tokenizer: &tokenizer, reference: &reference };
    let header = Header {
        vocabulary: tokenizer.vocabulary(),
        end_of_text: tokenizer.end_of_text(),
        sequence_length: spec.sequence_length.into(),
        sequences: 0,
        documents: 0,
        text_bytes: 0,
    };
    let mut splits = BTreeMap::new();
    for name in ["train", "valid"] {
        let output = context.outputs.tree(name)?;
        let Some(tree) = context.inputs.get(name) else {
            PackedWriter::new(output.create(packed::FILE)?, header)?.finish()?.finish()?;
            continue;
        };
        let ledger = packer.pack(name, &Table::open(tree)?, output)?;
        if ledger.sequences == 0 {
            context.progress.warn(format!(
                "'{name}' has {}, too few for one sequence of {}",
                counted(ledger.tokens, "token"),
                count(spec.sequence_length as u64)
            ));
        }
        splits.insert(name.to_owned(), ledger);
    }
    let lines = splits.iter().map(|(name, ledger)| {
        format!(
            "{name}: {} of {}, {} dropped",
            counted(ledger.sequences, "sequence"),
            count(spec.sequence_length as u64),
            counted(ledger.dropped, "token")
        )
    });
    context.progress.info(lines.collect::<Vec<_>>().join("; "));
    let report = Report {
        sequence_length: spec.sequence_length,
        shuffle: spec.shuffle,
        vocabulary: tokenizer.vocabulary(),
        bytes_per_id: header.width(),
        splits,
    };
    let output = context.outputs.tree("report")?;
    output.write_json("report.json", &report)?;
    output.write("report.md", markdown(&report).as_bytes())
}

fn markdown(report: &Report) -> String {
    let mut text = format!(
        "# Packed tokens\n\nSequences of {} tokens from a vocabulary of {}, {} bytes an id.\n\n| split | documents | tokens in | end of text | emitted | dropped at the tail | sequences | utilisation | characters a token | bytes a token |\n|---|---|---|---|---|---|---|---|---|---|\n",
        report.sequence_length, report.vocabulary, report.bytes_per_id
    );
    for (name, ledger) in &report.splits {
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} | {:.6} | {:.4} | {:.4} |",
            ledger.documents,
            ledger.tokens,
            ledger.end_of_text_tokens,
            ledger.emitted,
            ledger.dropped,
            ledger.sequences,
            ledger.utilisation,
            ledger.characters_per_token,
            ledger.bytes_per_token
        );
    }
    text
}
