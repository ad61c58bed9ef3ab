//! Sums of losses, and the measures computed from them.
//!
//! | measure | formula |
//! |---|---|
//! | loss | Σ nats / predictions |
//! | perplexity | exp(loss) |
//! | bits per byte | Σ nats of text tokens / (ln 2 · Σ raw bytes of text tokens) |
//! | standard error | deviation of the sequences' mean losses / √sequences |
//!
//! A sequence of `n` tokens gives `n - 1` predictions: its first token is read, never predicted. The end-of-text token
//! is a prediction as any other, but it has no bytes, so neither it nor its nats count in bits per byte. Bytes are those that a token
//! decodes to, before they are decoded as characters. Sums are in `f64`, in order of position, then of sequence: the number of sequences that the model reads
//! at once does not affect them. The standard error assumes that the sequences are independent.

use contract::figures::counted;
use contract::{Result, StageError};
use serde::Serialize;

/// Sums of losses of sequences, one after another.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    sequences: u64,
    predictions: u64,
    nats: f64,
    text_tokens: u64,
    text_nats: f64,
    text_bytes: u64,
    /// Mean and sum of squared deviations of the sequences' mean losses (Welford's update).
    mean: f64,
    deviations: f64,
}

/// The content of `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LossReport {
    /// Sequences that were read.
    pub sequences: u64,
    /// Tokens of a sequence.
    pub sequence_length: u64,
    /// Tokens that were predicted.
    pub tokens: u64,
    /// Mean loss of a predicted token, in nats.
    pub loss: f64,
    /// Standard error of the loss; `null` for a single sequence.
    pub standard_error: Option<f64>,
    /// `exp(loss)`.
    pub perplexity: f64,
    /// Bits per byte of text; `null` where no text was predicted.
    pub bits_per_byte: Option<f64>,
    /// Predicted tokens that are text.
    pub text_tokens: u64,
    /// The bytes that they decode to.
    pub text_bytes: u64,
    /// Sequences in the input: more than `sequences` if the settings limit them.
    pub sequences_in_all: u64,
}

impl Tally {
    /// Adds a sequence: the loss of each predicted token, and its bytes (`None` for a special token).
    ///
    /// # Errors
    /// When a loss is not a finite number.
    pub fn add(&mut self, losses: impl IntoIterator<Item = (f32, Option<u64>)>) -> Result<()> {
        let (mut nats, mut predictions) = (0.0, 0u64);
        for (loss, bytes) in losses {
            let loss = f64::from(loss);
            nats += loss;
            predictions += 1;
            if let Some(bytes) = bytes {
                self.text_tokens += 1;
                self.text_nats += loss;
                self.text_bytes += bytes;
            }
        }
        if !nats.is_finite() {
            return Err(StageError::new(format!("the loss of sequence {} is not a finite number", self.sequences))
                .hint("the model's training has diverged: look at its loss, and lower the learning rate"));
        }
        self.nats += nats;
        self.predictions += predictions;
        self.sequences += 1;
        let mean = nats / predictions as f64;
        let difference = mean - self.mean;
        self.mean += difference / self.sequences as f64;
        self.deviations += difference * (mean - self.mean);
        Ok(())
    }

    /// Returns the measures.
    pub fn report(&self, sequence_length: u64, sequences_in_all: u64) -> LossReport {
        let loss = self.nats / self.predictions as f64;
        let sequences = self.sequences as f64;
        let deviation = (self.deviations / (sequences - 1.0)).sqrt();
        let bits = self.text_nats / (std::f64::consts::LN_2 * self.text_bytes as f64);
        LossReport {
            sequences: self.sequences,
            sequence_length,
            tokens: self.predictions,
            loss,
            standard_error: (self.sequences > 1).then(|| deviation / sequences.sqrt()),
            perplexity: libm::exp(loss),
            bits_per_byte: (self.text_bytes > 0).then_some(bits),
            text_tokens: self.text_tokens,
            text_bytes: self.text_bytes,
            sequences_in_all,
        }
    }
}

impl LossReport {
    /// Formats the report as Markdown.
    pub fn markdown(&self) -> String {
        let optional = |value: Option<f64>| value.map_or("none".to_owned(), |value| format!("{value:.4}"));
        let part = match self.sequences < self.sequences_in_all {
            true => format!("the first {} of {}", self.sequences, self.sequences_in_all),
            false => format!("all {}", self.sequences),
        };
        format!(
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
            self.loss,
            optional(self.standard_error),
            self.perplexity,
            optional(self.bits_per_byte),
            self.sequence_length,
            self.tokens,
            self.text_tokens,
            self.text_bytes,
        )
    }

    /// Formats the report as one line.
    pub fn line(&self) -> String {
        let bits = self.bits_per_byte.map_or(String::new(), |bits| format!(", {bits:.4} bits per byte"));
        format!("loss {:.4}, perplexity {:.2}{bits} over {}", self.loss, self.perplexity, counted(self.tokens, "token"))
    }
}
