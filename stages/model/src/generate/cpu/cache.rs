//! The keys and values of the tokens so far, one row at a time, in the layout that the kernel reads.
//!
//! A [`Segment`] contains consecutive tokens. The tokens of a prompt are one segment, which its completions share; the tokens of a completion are
//! another. Memory: `8 · layers · tokens · width` bytes for each segment, reserved for all of its tokens at once.

use std::sync::Arc;

use super::tile::{COLUMNS, Columns, add_product};
use crate::fused::loops;

/// The sizes that a cache needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The number of layers.
    pub layers: usize,
    /// The number of heads per layer.
    pub heads: usize,
    /// The number of features per head.
    pub head_width: usize,
}

/// Keys and values of consecutive tokens in every layer.
#[derive(Debug)]
pub struct Segment {
    sizes: Sizes,
    tokens: usize,
    layers: Vec<Layer>,
}

/// Keys and values in one layer.
#[derive(Debug)]
struct Layer {
    /// `[heads, blocks of 16 tokens, head width, 16]`.
    keys: Vec<Columns>,
    /// `[heads, panels of 16 features, tokens, 16]`.
    values: Vec<Columns>,
}

impl Segment {
    /// Creates a segment with room for `capacity` tokens.
    pub fn new(sizes: Sizes, capacity: usize) -> Self {
        let Sizes { layers, heads, head_width } = sizes;
        let blocks = capacity.div_ceil(COLUMNS);
        let layer = || Layer {
            keys: vec![[0.0; COLUMNS]; heads * blocks * head_width],
            values: vec![[0.0; COLUMNS]; heads * head_width.div_ceil(COLUMNS) * blocks * COLUMNS],
        };
        Self { sizes, tokens: 0, layers: (0..layers).map(|_| layer()).collect() }
    }

    /// Returns the number of counted tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Counts tokens whose keys and values were written in every layer.
    pub fn advance(&mut self, tokens: usize) {
        self.tokens += tokens;
    }

    /// Writes the key and the value `[heads · head width]` of the token at offset `ahead` after the counted ones.
    pub fn write(&mut self, layer: usize, ahead: usize, key: &[f32], value: &[f32]) {
        let Sizes { heads, head_width, .. } = self.sizes;
        let token = self.tokens + ahead;
        let Layer { keys, values } = &mut self.layers[layer];
        let blocks = keys.len() / (heads * head_width);
        for (head, (key, value)) in key.chunks_exact(head_width).zip(value.chunks_exact(head_width)).enumerate() {
            let block = &mut keys[(head * blocks + token / COLUMNS) * head_width..][..head_width];
            for (place, key) in block.iter_mut().zip(key) {
                place[token % COLUMNS] = *key;
            }
            let panels = head_width.div_ceil(COLUMNS);
            for (panel, value) in value.chunks(COLUMNS).enumerate() {
                let place = (head * panels + panel) * blocks * COLUMNS + token;
                values[place][..value.len()].copy_from_slice(value);
            }
        }
    }

    /// Writes the products of a head's query `[head width]` with the keys of the first `scores.len()` tokens to `scores`.
    fn scores(&self, layer: usize, head: usize, query: &[f32], scores: &mut [f32]) {
        let Sizes { heads, head_width, .. } = self.sizes;
        let keys = &self.layers[layer].keys;
        let keys = &keys[keys.len() / heads * head..];
        for (scores, block) in scores.chunks_mut(COLUMNS).zip(keys.chunks_exact(head_width)) {
            let mut sums = [[0.0; COLUMNS]];
            add_product(query.as_chunks::<1>().0, block, &mut sums);
            scores.copy_from_slice(&sums[0][..scores.len()]);
        }
    }

    /// Adds the values of the first `weights.len()` tokens, each times its weight, to `sums`: 16 features, from the first one of the panel.
    fn add_values(&self, layer: usize, head: usize, panel: usize, weights: &[f32], sums: &mut [Columns; 1]) {
        let values = &self.layers[layer].values;
        let panels = self.sizes.head_width.div_ceil(COLUMNS);
        let size = values.len() / (self.sizes.heads * panels);
        add_product(weights.as_chunks::<1>().0, &values[(head * panels + panel) * size..], sums);
    }
}

/// The tokens of one row: those of its prompt, and its own.
#[derive(Debug)]
pub struct Sequence {
    /// The tokens of the prompt.
    pub prompt: Arc<Segment>,
    /// The tokens after the prompt.
    pub own: Segment,
}

impl Sequence {
    /// Returns the number of tokens of the row: the position of its next token.
    pub fn tokens(&self) -> usize {
        self.prompt.tokens() + self.own.tokens()
    }
}

/// The tokens that a query attends to, in order: the number of leading tokens of each segment.
pub type Visible<'a> = [(&'a Segment, usize); 2];

/// Attention of one query of one head: `softmax(query · keys / √(head width)) · values`, written to `y` `[head width]`.
pub fn attend(layer: usize, head: usize, query: &[f32], visible: Visible<'_>, y: &mut [f32]) {
    let scale = 1.0 / (query.len() as f32).sqrt();
    let query: Vec<f32> = query.iter().map(|value| value * scale).collect();
    let [(first, of_first), (second, of_second)] = visible;
    let mut weights = vec![0.0; of_first + of_second];
    let (first_weights, second_weights) = weights.split_at_mut(of_first);
    first.scores(layer, head, &query, first_weights);
    second.scores(layer, head, &query, second_weights);
    let total = loops::softmax_powers(&mut weights);
    let (first_weights, second_weights) = weights.split_at(of_first);
    for (panel, y) in y.chunks_mut(COLUMNS).enumerate() {
        let mut sums = [[0.0; COLUMNS]];
        first.add_values(layer, head, panel, first_weights, &mut sums);
        second.add_values(layer, head, panel, second_weights, &mut sums);
        for (y, sum) in y.iter_mut().zip(&sums[0]) {
            *y = sum / total;
        }
    }
}
