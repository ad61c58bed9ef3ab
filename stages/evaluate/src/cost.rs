//! Estimates the cost of an evaluation from the sizes of its model.
//!
//! | memory | bytes |
//! |---|---|
//! | the model | 4 per parameter |
//! | activations of a layer, at their peak | `4 · tokens · (16 · width + 2 · heads · sequence)` |
//! | logits, their logarithms and temporary values | `12 · rows · vocabulary` |
//! | completions, kept in memory until they are written | 1,024 each and 32 per token |
//! | keys and values of the tokens so far, and a copy while finished rows are removed | `16 · layers · rows · sequence · width` |
//! | two more copies of the token embedding, while it is prepared for generation on the CPU | `8 · vocabulary · width` |
//! | the program, the tokenizer, buffers | 256 MiB |
//!
//! A token takes 2 operations per parameter for the forward pass and `4 · layers · width · sequence` for attention: a third
//! of the cost of training.

use contract::{Cost, Facts, Shape};

/// The memory of a completion until it is written, and of each of its tokens (id, text, and entry in the report), in bytes.
const COMPLETION: f64 = 1024.0;
const TOKEN: f64 = 32.0;
/// The memory that an evaluation uses besides tensors, in bytes.
const FIXED: f64 = (256 << 20) as f64;

/// A model's sizes, as far as they are known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sizes {
    parameters: f64,
    vocabulary: f64,
    width: f64,
    layers: f64,
    heads: f64,
}

impl Sizes {
    /// Returns the sizes of the model with these facts; `None` if some are unknown.
    pub(crate) fn of(model: &Facts) -> Option<Self> {
        let Shape { layers, width, heads } = model.shape.as_ref()?.value;
        let [parameters, vocabulary] =
            [&model.parameters, &model.vocabulary].map(|fact| fact.as_ref().map(|fact| fact.value as f64));
        let [width, layers, heads] = [width, layers, heads].map(|size| size as f64);
        Some(Self { parameters: parameters?, vocabulary: vocabulary?, width, layers, heads })
    }

    fn activations(&self, tokens: f64, sequence: f64) -> f64 {
        4.0 * tokens * (16.0 * self.width + 2.0 * self.heads * sequence)
    }

    fn flops(&self, tokens: f64, sequence: f64) -> f64 {
        tokens * (2.0 * self.parameters + 4.0 * self.layers * self.width * sequence)
    }

    /// Estimates the cost of predicting the tokens of `sequences` sequences of `length`, `batch` of them at a time, with at most `logits`
    /// logits at a time. If the number of sequences is unknown, as usual, tokens and operations are unknown.
    pub(crate) fn predict(&self, batch: u64, sequences: Option<u64>, length: u64, logits: usize) -> Cost {
        let rows = sequences.map_or(batch, |sequences| sequences.min(batch));
        let (length, rows) = (length as f64, rows as f64 * length as f64);
        let logits = (rows * self.vocabulary).min((logits as f64).max(self.vocabulary));
        let memory = 4.0 * self.parameters + self.activations(rows, length) + 12.0 * logits + FIXED;
        let tokens = sequences.map(|sequences| sequences as f64 * length);
        Cost {
            tokens: tokens.map(|tokens| tokens as u64),
            flops: tokens.map(|tokens| self.flops(tokens, length)),
            memory: Some(memory as u64),
            ..Cost::default()
        }
    }

    /// Estimates the cost of `completions` completions of each prompt, `batch` at a time, where `lengths` are the longest
    /// sequences of the prompts. Tokens and operations are upper bounds: a completion may end sooner.
    pub(crate) fn complete(&self, batch: u64, completions: u64, lengths: &[u64]) -> Cost {
        let longest = lengths.iter().copied().max().unwrap_or(0) as f64;
        let rows = (lengths.len() as u64).saturating_mul(completions).min(batch) as f64;
        let cache = 16.0 * self.layers * rows * longest * self.width;
        let logits = 12.0 * rows * self.vocabulary;
        let held = lengths.iter().map(|length| *length as f64 * TOKEN + COMPLETION).sum::<f64>() * completions as f64;
        let model = 4.0 * self.parameters + 8.0 * self.vocabulary * self.width;
        let memory = model + self.activations(longest, longest) + cache + logits + held + FIXED;
        let tokens = lengths.iter().map(|length| *length as f64).sum::<f64>() * completions as f64;
        Cost {
            tokens: Some(tokens as u64),
            flops: Some(self.flops(tokens, longest)),
            memory: Some(memory as u64),
            ..Cost::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Gpt2Config;
    use model::config::Preset;

    #[test]
    fn the_sizes_are_those_of_the_model() {
        let config = Gpt2Config::preset(Preset::Gpt2Xl, 32_768, 1024);
        let sizes = Sizes::of(&config.facts()).unwrap();
        assert_eq!((sizes.layers, sizes.width, sizes.heads), (48.0, 1600.0, 25.0));
        assert_eq!((sizes.parameters, sizes.vocabulary), (config.parameters() as f64, 32_768.0));
    }

    #[test]
    fn without_the_model_s_sizes_nothing_is_known() {
        let known = Gpt2Config::preset(Preset::Gpt2, 32_768, 1024).facts();
        assert_eq!(Sizes::of(&Facts { shape: None, ..known.clone() }), None);
        assert_eq!(Sizes::of(&Facts { vocabulary: None, ..known }), None);
    }

    #[test]
    fn memory_holds_the_model_and_grows_with_the_batch() {
        let small = Sizes::of(&Gpt2Config::preset(Preset::Gpt2, 32_768, 1024).facts()).unwrap();
        let memory = |batch| small.predict(batch, None, 1024, 1 << 24).memory.unwrap();
        assert!(memory(1) > 4 * 111_000_000 && memory(1) < 1 << 30, "{}", memory(1));
        assert!(memory(64) > 4 * memory(1), "{} {}", memory(64), memory(1));
        let memory = |batch| small.complete(batch, 1000, &[64, 1024]).memory.unwrap();
        // With two copies of the embedding, while it is packed.
        assert!(memory(1) > 4 * 111_000_000 && memory(1) < 5 << 28, "{}", memory(1));
        assert!(memory(64) > 4 * memory(1), "{} {}", memory(64), memory(1));
    }
}
