//! The keys and values of the tokens so far.
//!
//! One tensor `[rows, heads, capacity, head width]` for each layer, allocated once; a step writes one column. Rows are aligned at their
//! last token, so that all rows write the same column, and a shorter row has `padding` empty columns before its first token:
//!
//! ```text
//! column    0 1 2 3 4 5 6 7       used = 5
//! row 0     a b c d e · · ·       padding 0, positions 0..5
//! row 1     _ _ f g h · · ·       padding 2, positions 0..3
//! ```
//!
//! Memory: `8 · layers · rows · capacity · width` bytes.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData, s};

/// The cached tokens of a batch's rows.
#[derive(Debug, Clone)]
pub struct Cache {
    layers: Vec<Layer>,
    padding: Vec<usize>,
    used: usize,
}

/// One layer's keys and values, each `[rows, heads, capacity, head width]`.
#[derive(Debug, Clone)]
struct Layer {
    keys: Tensor<4>,
    values: Tensor<4>,
}

impl Cache {
    /// Returns the cache of one row: the keys and values of its tokens, each `[1, heads, tokens, head width]`, one pair per layer.
    pub fn of_prompt(layers: Vec<(Tensor<4>, Tensor<4>)>) -> Self {
        let used = layers.first().map_or(0, |(keys, _)| keys.dims()[2]);
        let layers = layers.into_iter().map(|(keys, values)| Layer { keys, values }).collect();
        Self { layers, padding: vec![0], used }
    }

    /// Returns one batch of the caches of several prompts, with each prompt's row repeated, and room for `more` tokens per row.
    pub fn join(prompts: &[(Self, usize)], more: usize) -> Self {
        let used = prompts.iter().map(|(prompt, _)| prompt.used).max().unwrap_or(0);
        let layers = prompts.first().map_or(0, |(prompt, _)| prompt.layers.len());
        let aligned = |part: fn(&Layer) -> &Tensor<4>, layer: usize| {
            let rows = prompts.iter().map(|(prompt, repeats)| {
                let row = part(&prompt.layers[layer]);
                let [_, heads, tokens, head_width] = row.dims();
                let first = used - tokens;
                Tensor::<4>::zeros([1, heads, used + more, head_width], &row.device())
                    .slice_assign(s![.., .., first..used, ..], row.clone())
                    .repeat_dim(0, *repeats)
            });
            Tensor::cat(rows.collect(), 0)
        };
        Self {
            layers: (0..layers)
                .map(|layer| Layer { keys: aligned(|l| &l.keys, layer), values: aligned(|l| &l.values, layer) })
                .collect(),
            padding: prompts.iter().flat_map(|(prompt, repeats)| vec![used - prompt.used; *repeats]).collect(),
            used,
        }
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.padding.len()
    }

    /// Returns the number of tokens of a row: the position of its next token.
    pub fn tokens(&self, row: usize) -> usize {
        self.used - self.padding[row]
    }

    /// Keeps only the given rows, in the given order.
    pub fn keep(&mut self, rows: &[usize]) {
        let Some(layer) = self.layers.first() else { return };
        let indices: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
        let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [rows.len()]), &layer.keys.device());
        for Layer { keys, values } in &mut self.layers {
            *keys = keys.clone().select(0, indices.clone());
            *values = values.clone().select(0, indices.clone());
        }
        self.padding = rows.iter().map(|&row| self.padding[row]).collect();
        // The columns that are empty in every remaining row are removed.
        let spare = self.padding.iter().copied().min().unwrap_or(0);
        if spare > 0 {
            for Layer { keys, values } in &mut self.layers {
                *keys = keys.clone().slice(s![.., .., spare.., ..]);
                *values = values.clone().slice(s![.., .., spare.., ..]);
            }
            self.padding.iter_mut().for_each(|padding| *padding -= spare);
            self.used -= spare;
        }
    }

    /// Returns the columns, up to that of the next token, that a row must not attend to: `[rows, heads, 1, columns]`, where `true` masks a
    /// column; `None` if no row has padding.
    pub(super) fn mask(&self, heads: usize, device: &Device) -> Option<Tensor<4, Bool>> {
        if self.padding.iter().all(|&padding| padding == 0) {
            return None;
        }
        let (rows, columns) = (self.rows(), self.used + 1);
        let masked = self.padding.iter().flat_map(|&padding| (0..columns).map(move |column| column < padding));
        let masked = TensorData::new(masked.collect::<Vec<bool>>(), [rows, 1, 1, columns]);
        Some(Tensor::<4, Bool>::from_data(masked, device).expand([rows, heads, 1, columns]))
    }

    /// Writes the new token's key and value of every row, each `[rows, heads, 1, head width]`. Returns all keys and values of the layer so
    /// far, `[rows, heads, used + 1, head width]`.
    pub(super) fn push(&mut self, layer: usize, key: Tensor<4>, value: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let (column, next) = (self.used, self.used + 1);
        let write = |all: &mut Tensor<4>, new: Tensor<4>| {
            // The tensor is moved out, so that nothing else references it and the column is written in place.
            *all = std::mem::replace(all, new.clone()).slice_assign(s![.., .., column..next, ..], new);
            all.clone().slice(s![.., .., 0..next, ..])
        };
        let Layer { keys, values } = &mut self.layers[layer];
        (write(keys, key), write(values, value))
    }

    /// Counts the token that was written to every layer.
    pub(super) fn advance(&mut self) {
        self.used += 1;
    }
}
