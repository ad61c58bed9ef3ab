//! What an evaluation will take, from what is known of its model before there is one.
//!
//! Known are a model's parameters, vocabulary and positions, not its shape. The shape is taken to be that of GPT-2, which
//! has 64 features a head and a layer for each 64 features, at the width that gives as many parameters:
//!
//! ```text
//! parameters = (vocabulary + positions) · width + 12 · layers · width²        layers = heads = width / 64
//! ```
//!
//! | memory | bytes |
//! |---|---|
//! | the model | 4 a parameter |
//! | activations of a layer, the most that live at once | `4 · tokens · (16 · width + 2 · heads · sequence)` |
//! | logits, their logarithms and what lies between | `12 · rows · vocabulary` |
//! | completions, held until they are written | 1,024 each and 32 a token |
//! | keys and values of the tokens so far, and a copy while rows leave | `16 · layers · rows · sequence · width` |
//! | the program, the tokenizer, buffers | 256 MiB |
//!
//! A token takes 2 operations a parameter for the forward pass and `4 · layers · width · sequence` for attention: a third
//! of what training takes.

use contract::{Cost, Facts};

/// Features of a head, and features that a layer comes with.
const HEAD_WIDTH: f64 = 64.0;
/// Bytes that a completion takes until it is written, and each of its tokens: its id, its text, and its place in the report.
const COMPLETION: f64 = 1024.0;
const TOKEN: f64 = 32.0;
/// Bytes that an evaluation takes beside tensors.
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
    /// Of the model with these facts; `None` where too little is known.
    pub(crate) fn of(model: &Facts) -> Option<Self> {
        let [parameters, vocabulary, positions] =
            [&model.parameters, &model.vocabulary, &model.positions].map(|fact| fact.as_ref().map(|fact| fact.value));
        let (parameters, vocabulary) = (parameters? as f64, vocabulary? as f64);
        let width = width(parameters, vocabulary + positions? as f64);
        let layers = (width / HEAD_WIDTH).round().max(1.0);
        Some(Self { parameters, vocabulary, width, layers, heads: layers })
    }

    fn activations(&self, tokens: f64, sequence: f64) -> f64 {
        4.0 * tokens * (16.0 * self.width + 2.0 * self.heads * sequence)
    }

    fn flops(&self, tokens: f64, sequence: f64) -> f64 {
        tokens * (2.0 * self.parameters + 4.0 * self.layers * self.width * sequence)
    }

    /// What it takes to predict the tokens of `sequences` sequences of `length`, `batch` of them at a time, with at most
    /// `logits` logits at a time. How many sequences there are is seldom known: tokens and operations follow only then.
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
            disk: None,
        }
    }

    /// What it takes to write `completions` completions of each prompt, `batch` at a time, where `lengths` are the longest
    /// sequences of the prompts. Tokens and operations are the most that it can be: a completion may end sooner.
    pub(crate) fn complete(&self, batch: u64, completions: u64, lengths: &[u64]) -> Cost {
        let longest = lengths.iter().copied().max().unwrap_or(0) as f64;
        let rows = (lengths.len() as u64).saturating_mul(completions).min(batch) as f64;
        let cache = 16.0 * self.layers * rows * longest * self.width;
        let logits = 12.0 * rows * self.vocabulary;
        let held = lengths.iter().map(|length| *length as f64 * TOKEN + COMPLETION).sum::<f64>() * completions as f64;
        let memory = 4.0 * self.parameters + self.activations(longest, longest) + cache + logits + held + FIXED;
        let tokens = lengths.iter().map(|length| *length as f64).sum::<f64>() * completions as f64;
        Cost {
            tokens: Some(tokens as u64),
            flops: Some(self.flops(tokens, longest)),
            memory: Some(memory as u64),
            disk: None,
        }
    }
}

/// The width `w` at which `embedded · w + 12 / 64 · w³` is `parameters`: the sum grows with `w`, so halving finds it.
fn width(parameters: f64, embedded: f64) -> f64 {
    let (mut low, mut high) = (1.0, parameters.max(1.0));
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if embedded * middle + 12.0 / HEAD_WIDTH * middle * middle * middle < parameters {
            low = middle;
        } else {
            high = middle;
        }
    }
    high.round()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::Fact;
    use model::Gpt2Config;
    use model::config::Preset;

    fn sizes(config: &Gpt2Config) -> Sizes {
        let fact = |value: usize| Some(Fact::own(value as u64, ""));
        let (parameters, vocabulary) = (fact(config.parameters()), fact(config.vocabulary));
        let facts = Facts { parameters, vocabulary, positions: fact(config.positions), ..Facts::default() };
        Sizes::of(&facts).unwrap()
    }

    #[test]
    fn the_shape_of_the_published_models_is_found_again() {
        let small = sizes(&Gpt2Config::preset(Preset::Gpt2, 32_768, 1024));
        assert_eq!((small.layers, small.heads), (12.0, 12.0));
        assert!((small.width - 768.0).abs() < 2.0, "{small:?}");
        let large = sizes(&Gpt2Config::preset(Preset::Gpt2Xl, 32_768, 1024));
        assert!((1600.0..2100.0).contains(&large.width), "{large:?}");
    }

    #[test]
    fn without_the_model_s_sizes_nothing_is_known() {
        assert_eq!(Sizes::of(&Facts::default()), None);
    }

    #[test]
    fn memory_holds_the_model_and_grows_with_the_batch() {
        let small = sizes(&Gpt2Config::preset(Preset::Gpt2, 32_768, 1024));
        let memory = |batch| small.predict(batch, None, 1024, 1 << 24).memory.unwrap();
        assert!(memory(1) > 4 * 111_000_000 && memory(1) < 1 << 30, "{}", memory(1));
        assert!(memory(64) > 4 * memory(1), "{} {}", memory(64), memory(1));
        let memory = |batch| small.complete(batch, 1000, &[64, 1024]).memory.unwrap();
        assert!(memory(1) > 4 * 111_000_000 && memory(1) < 1 << 30, "{}", memory(1));
        assert!(memory(64) > 4 * memory(1), "{} {}", memory(64), memory(1));
    }
}
