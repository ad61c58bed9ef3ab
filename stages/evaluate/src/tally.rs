//! The losses of sequences, one after another, and the report about them.
//!
//! [`crate::sums`] defines the measures. The standard error is the standard deviation of the sequences' mean losses divided by the square root of their
//! number; it assumes that the sequences are independent. A sequence of `n` tokens has `n - 1` predictions: its first token is read but not
//! predicted.

use std::fmt::Write;

use contract::figures::counted;
use score::escape;
use serde::Serialize;

use crate::slices::SliceTable;
use crate::sums::{Measures, Prediction, Sums};

/// Sums of losses of sequences, one after another.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    sequences: u64,
    sums: Sums,
    /// The mean and the sum of squared deviations of the sequences' mean losses (Welford's update).
    mean: f64,
    deviations: f64,
}

/// The content of `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LossReport {
    /// The number of sequences that were read.
    pub sequences: u64,
    /// The number of tokens in a sequence.
    pub sequence_length: u64,
    /// The measures of all predicted tokens.
    #[serde(flatten)]
    pub measures: Measures,
    /// The standard error of the loss; `null` for a single sequence.
    pub standard_error: Option<f64>,
    /// The number of sequences in the input: more than `sequences` if the settings limit them.
    pub sequences_in_all: u64,
    /// The same tokens, divided in several ways.
    pub slices: Vec<SliceTable>,
}

impl Tally {
    /// Adds the predictions of a sequence.
    pub fn add(&mut self, predictions: &[Prediction]) {
        let mut sums = Sums::default();
        predictions.iter().for_each(|prediction| sums.add(*prediction));
        self.sums += sums;
        self.sequences += 1;
        let mean = sums.measures().loss;
        let difference = mean - self.mean;
        self.mean += difference / self.sequences as f64;
        self.deviations += difference * (mean - self.mean);
    }

    /// Returns the sums of all sequences.
    pub fn sums(&self) -> &Sums {
        &self.sums
    }

    /// Returns the report.
    pub fn report(&self, sequence_length: u64, sequences_in_all: u64, slices: Vec<SliceTable>) -> LossReport {
        let sequences = self.sequences as f64;
        let deviation = (self.deviations / (sequences - 1.0)).sqrt();
        LossReport {
            sequences: self.sequences,
            sequence_length,
            measures: self.sums.measures(),
            standard_error: (self.sequences > 1).then(|| deviation / sequences.sqrt()),
            sequences_in_all,
            slices,
        }
    }
}

impl LossReport {
    /// Formats the report as Markdown.
    pub fn markdown(&self) -> String {
        let part = match self.sequences < self.sequences_in_all {
            true => format!("the first {} of {}", self.sequences, self.sequences_in_all),
            false => format!("all {}", self.sequences),
        };
        let measures = &self.measures;
        let mut page = format!(
            "# Loss\n\n\
             | measure | value |\n\
             |---|---|\n\
             | loss (nats a token) | {:.4} |\n\
             | standard error | {} |\n\
             | perplexity | {:.4} |\n\
             | bits per byte | {} |\n\
             | sequences | {part}, {} tokens each |\n\
             | tokens predicted | {} |\n\
             | of these, text | {}, {} bytes |\n",
            measures.loss,
            optional(self.standard_error),
            measures.perplexity,
            optional(measures.bits_per_byte),
            self.sequence_length,
            measures.tokens,
            measures.text_tokens,
            measures.text_bytes,
        );
        self.slices.iter().for_each(|table| page += &section(table));
        page
    }

    /// Formats the report as one line.
    pub fn line(&self) -> String {
        let Measures { loss, perplexity, bits_per_byte, tokens, .. } = self.measures;
        let bits = bits_per_byte.map_or(String::new(), |bits| format!(", {bits:.4} bits per byte"));
        format!("loss {loss:.4}, perplexity {perplexity:.2}{bits} over {}", counted(tokens, "token"))
    }
}

/// Formats a table of slices as a section of the page.
fn section(table: &SliceTable) -> String {
    let by = table.by;
    let mut text = format!(
        "\n## By {}\n\n| {} | tokens | loss | perplexity | bits per byte |\n|---|---:|---:|---:|---:|\n",
        by.title(),
        by.unit()
    );
    for slice in &table.slices {
        let Measures { tokens, loss, perplexity, bits_per_byte, .. } = slice.measures;
        let (name, bits) = (escape::markdown(&slice.name), optional(bits_per_byte));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {name} | {tokens} | {loss:.4} | {perplexity:.4} | {bits} |");
    }
    text
}

fn optional(value: Option<f64>) -> String {
    value.map_or("none".to_owned(), |value| format!("{value:.4}"))
}
