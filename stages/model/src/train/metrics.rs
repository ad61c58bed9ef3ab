//! The metrics of training, step by step.
//!
//! `metrics.jsonl` contains one JSON object per line, in the order of the steps: an update
//! (`step`, `tokens` read so far, `loss` before the update, `learning_rate`, `gradient_norm` before clipping) or a validation
//! (`step`, `validation_loss`, `validation_perplexity`), or an update that was skipped because its loss or gradients were not
//! finite (`step`, `tokens`, `skipped`: true). `step` counts finished updates. The file has no times, so that
//! equal runs write equal bytes; how fast a training is, [`super::speed`] reports.

use std::io::Write;

use contract::{Result, StageError};
use serde::Serialize;

use crate::train::event_file::EventFile;

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Metric {
    /// An update.
    Update {
        /// The number of updates so far, including this one.
        step: u64,
        /// The number of tokens read so far.
        tokens: u64,
        /// The mean loss of the step's sequences in nats, before the update.
        loss: f64,
        /// The learning rate used.
        learning_rate: f64,
        /// The global norm before clipping.
        gradient_norm: f64,
    },
    /// An update whose loss or gradients are not finite: the model was left as it was.
    Skipped {
        /// The number of updates so far, including this one.
        step: u64,
        /// The number of tokens read so far.
        tokens: u64,
        /// Always true.
        skipped: bool,
    },
    /// A validation.
    Validation {
        /// The number of updates so far.
        step: u64,
        /// The mean loss of the validation sequences in nats.
        validation_loss: f64,
        /// The exponential of the loss.
        validation_perplexity: f64,
    },
}

impl Metric {
    /// Returns whether it is an update that changed the model.
    pub fn is_update(&self) -> bool {
        matches!(self, Self::Update { .. })
    }

    /// Returns the step and its series by name.
    pub fn series(&self) -> (u64, Vec<(&'static str, f64)>) {
        match *self {
            Self::Update { step, loss, learning_rate, gradient_norm, .. } => {
                (step, vec![("loss/train", loss), ("learning_rate", learning_rate), ("gradient_norm", gradient_norm)])
            }
            Self::Skipped { step, .. } => (step, Vec::new()),
            Self::Validation { step, validation_loss, validation_perplexity } => {
                (step, vec![("loss/validation", validation_loss), ("perplexity/validation", validation_perplexity)])
            }
        }
    }
}

/// Writes metrics bit for bit, for a checkpoint: six little-endian words each.
///
/// # Errors
/// Returns an error if `writer` fails.
pub fn write_words(metrics: &[Metric], writer: &mut impl Write) -> Result<()> {
    for metric in metrics {
        let words = match *metric {
            Metric::Update { step, tokens, loss, learning_rate, gradient_norm } => {
                [0, step, tokens, loss.to_bits(), learning_rate.to_bits(), gradient_norm.to_bits()]
            }
            Metric::Skipped { step, tokens, .. } => [2, step, tokens, 0, 0, 0],
            Metric::Validation { step, validation_loss, validation_perplexity } => {
                [1, step, validation_loss.to_bits(), validation_perplexity.to_bits(), 0, 0]
            }
        };
        for word in words {
            writer.write_all(&word.to_le_bytes())?;
        }
    }
    Ok(())
}

/// Reads the metrics that [`write_words`] wrote.
///
/// # Errors
/// Returns an error if the bytes do not have that format.
pub fn read_words(bytes: &[u8]) -> Result<Vec<Metric>> {
    let malformed = || StageError::new("not a list of metrics");
    let (words, rest) = bytes.as_chunks::<8>();
    let words: Vec<_> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let (metrics, left) = words.as_chunks::<6>();
    if !rest.is_empty() || !left.is_empty() {
        return Err(malformed());
    }
    let metric = |words: &[u64; 6]| match *words {
        [0, step, tokens, loss, rate, norm] => Ok(Metric::Update {
            step,
            tokens,
            loss: f64::from_bits(loss),
            learning_rate: f64::from_bits(rate),
            gradient_norm: f64::from_bits(norm),
        }),
        [2, step, tokens, ..] => Ok(Metric::Skipped { step, tokens, skipped: true }),
        [1, step, loss, perplexity, ..] => Ok(Metric::Validation {
            step,
            validation_loss: f64::from_bits(loss),
            validation_perplexity: f64::from_bits(perplexity),
        }),
        _ => Err(malformed()),
    };
    metrics.iter().map(metric).collect()
}

/// Writes all series as a TensorBoard event file.
///
/// # Errors
/// Returns an error if `writer` fails.
pub fn write_events(metrics: &[Metric], writer: &mut impl Write) -> Result<()> {
    let mut file = EventFile::start(writer)?;
    for metric in metrics {
        let (step, series) = metric.series();
        for (name, value) in series {
            file.scalar(step, name, value as f32)?;
        }
    }
    Ok(())
}
