//! How much memory the stages of this crate ask for.
//!
//! A stage says what it needs when its inputs may not exist yet: the settings are known, the sizes of the model are not.
//! They are taken to be those of the preset `gpt2` with a vocabulary of [`USUAL_VOCABULARY`] and sequences of
//! [`USUAL_SEQUENCE`] tokens, as `train` takes them where its settings do not say. What is known enters as it is.
//!
//! | what | bytes |
//! |---|---|
//! | parameters | `4 · parameters` |
//! | one block's activations, of [`forward`] | `4 · sequences · sequence · (12 · width + 2 · heads · sequence)` |
//! | keys and values, of [`generation`] | `2 · 8 · layers · rows · tokens · width`: while rows are left out, old and new |
//! | logits and what is made of them | 192 MiB: [`crate::losses`] makes them in pieces of 64 MiB |

use model::config::{USUAL_SEQUENCE, USUAL_VOCABULARY};
use model::{Gpt2Config, Preset};

/// Three tensors of 64 MiB: logits, their logarithmic softmax, and what is taken of it.
const LOGITS: u64 = 192 << 20;

fn usual() -> Gpt2Config {
    Gpt2Config::preset(Preset::Gpt2, USUAL_VOCABULARY, USUAL_SEQUENCE)
}

/// Bytes for measuring the loss of `sequences` sequences at once.
pub fn forward(sequences: usize) -> u64 {
    let config = usual();
    let a_token = 12 * config.width + 2 * config.heads * config.positions;
    let activations = (4 * a_token * config.positions) as u64;
    let activations = activations.saturating_mul(sequences as u64);
    activations.saturating_add(4 * config.parameters() as u64 + LOGITS)
}

/// Bytes for completing `rows` prompts at once, of at most `tokens` tokens with their completions.
pub fn generation(rows: usize, tokens: usize) -> u64 {
    let config = usual();
    let a_token = (2 * 8 * config.layers * config.width) as u64;
    let tokens = tokens.min(config.positions) as u64;
    let cache = a_token.saturating_mul(tokens).saturating_mul(rows as u64);
    cache.saturating_add(4 * config.parameters() as u64 + LOGITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_the_formulas_of_the_table() {
        let parameters = 4 * 111_008_256;
        assert_eq!(forward(8), parameters + 4 * 8 * 1024 * (12 * 768 + 2 * 12 * 1024) + (192 << 20));
        assert_eq!(generation(16, 96), parameters + 2 * 8 * 12 * 16 * 96 * 768 + (192 << 20));
        assert_eq!(generation(2, 9000), generation(2, 1024), "no model reads more than its positions");
    }

    #[test]
    fn settings_without_bounds_overflow_nothing() {
        assert_eq!(forward(usize::MAX), u64::MAX);
        assert_eq!(generation(usize::MAX, usize::MAX), u64::MAX);
    }
}
