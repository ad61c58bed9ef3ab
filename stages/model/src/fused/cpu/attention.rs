//! Causal attention on the CPU, in `f32`, that keeps one number for each row and reads query, key and value where they are.
//!
//! `joined` `[sequences, tokens, 3 · width]` holds query, key and value side by side, each `heads` times `head width` wide. For each
//! sequence and head:
//!
//! ```text
//! s = q kᵀ / √(head width) up to the diagonal;   l = ln Σ exp s;   p = exp(s − l);   y = p v
//! ∂v = pᵀ ∂y;   ∂p = ∂y vᵀ;   ∂s = p (∂p − Σ y ∂y) / √(head width);   ∂q = ∂s k;   ∂k = ∂sᵀ q
//! ```
//!
//! `s` is computed for 48 rows at a time, and again for the gradient (Dao et al., "FlashAttention", 2022). The places after the last
//! of the rows are left out, so half of the pairs are. Each head of each sequence is computed by one thread, in fixed order: the bits do not depend
//! on the number of threads. A thread uses about `4 · tokens · (4 · head width + 2 · 48)` bytes.

use rayon::prelude::*;

use super::product::{Matrix, Panels, Target};
use crate::fused::loops;

/// The rows whose scores are computed at a time.
const ROWS: usize = 48;

/// The sizes of an attention.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Sequences.
    pub sequences: usize,
    /// Tokens of a sequence.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Features of a head.
    pub head_width: usize,
}

impl Sizes {
    fn width(self) -> usize {
        self.heads * self.head_width
    }

    /// The head's part of a matrix `[tokens, parts · width]` of one sequence: the columns from `part · width`.
    fn head(self, values: &[f32], parts: usize, part: usize, head: usize) -> Matrix<'_> {
        let stride = parts * self.width();
        let start = part * self.width() + head * self.head_width;
        Matrix::spaced(&values[start..], self.tokens, self.head_width, stride)
    }

    /// The ranges of rows, from the last.
    fn tiles(self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let tokens = self.tokens;
        (0..tokens).step_by(ROWS).rev().map(move |start| start..tokens.min(start + ROWS))
    }

    /// The values between the rows of scores: a row more than there are, so that equal places of rows do not share lines of the cache.
    fn stride(self) -> usize {
        self.tokens + 16
    }

    fn scale(self) -> f32 {
        1.0 / (self.head_width as f32).sqrt()
    }
}

/// What a thread uses again for each head.
#[derive(Default)]
struct Scratch {
    keys: Panels,
    values: Panels,
    queries: Panels,
    slopes: Panels,
    scores: Vec<f32>,
    by_scores: Vec<f32>,
    rows: Vec<f32>,
}

/// Writes `y` `[sequences, tokens, width]` and `l` `[sequences, heads, tokens]`.
pub fn forward(sizes: Sizes, joined: &[f32], y: &mut [f32], sums: &mut [f32]) {
    let Sizes { sequences, tokens, heads, head_width } = sizes;
    let y = Target::new(y, sequences * tokens, sizes.width(), sizes.width());
    let whole = tokens * sizes.width();
    sums.par_chunks_mut(tokens).enumerate().for_each_init(Scratch::default, |scratch, (number, sums)| {
        let (sequence, head) = (number / heads, number % heads);
        let joined = &joined[sequence * 3 * whole..][..3 * whole];
        let [query, key, value] = [0, 1, 2].map(|part| sizes.head(joined, 3, part, head));
        scratch.keys.pack(key.transposed());
        scratch.values.pack(value);
        scratch.scores.resize(ROWS * sizes.stride(), 0.0);
        for tile in sizes.tiles() {
            let places = tile.end;
            scores(sizes, query.part(tile.clone(), 0..head_width), places, scratch);
            for (row, sum) in tile.clone().zip(&mut sums[tile.clone()]) {
                let scores = &mut scratch.scores[(row - tile.start) * sizes.stride()..][..places];
                *sum = loops::softmax(scores, row + 1, sizes.scale());
            }
            let shares = Matrix::spaced(&scratch.scores, tile.len(), places, sizes.stride());
            // SAFETY: the rows of a sequence and the columns of a head belong to this task alone.
            let mut y = unsafe {
                let rows = sequence * tokens + tile.start..sequence * tokens + tile.end;
                y.part(rows, head * head_width..(head + 1) * head_width)
            };
            scratch.values.multiply(shares, &mut y, false, &mut scratch.rows);
        }
    });
}

/// Writes the gradient by `joined` from `y`, the gradient `dy` by it, and the sums of [`forward`].
pub fn backward(sizes: Sizes, joined: &[f32], [y, dy]: [&[f32]; 2], sums: &[f32], out: &mut [f32]) {
    let Sizes { sequences, tokens, heads, head_width } = sizes;
    let width = sizes.width();
    let out = Target::new(out, sequences * tokens, 3 * width, 3 * width);
    let whole = tokens * width;
    sums.par_chunks(tokens).enumerate().for_each_init(Scratch::default, |scratch, (number, sums)| {
        let (sequence, head) = (number / heads, number % heads);
        let joined = &joined[sequence * 3 * whole..][..3 * whole];
        let [query, key, value] = [0, 1, 2].map(|part| sizes.head(joined, 3, part, head));
        let [y, dy] = [y, dy].map(|values| sizes.head(&values[sequence * whole..][..whole], 1, 0, head));
        let by = |part: usize, rows: std::ops::Range<usize>| {
            let column = part * width + head * head_width;
            let rows = sequence * tokens + rows.start..sequence * tokens + rows.end;
            // SAFETY: the rows of a sequence and the columns of a head belong to this task alone, which uses one part at a time.
            unsafe { out.part(rows, column..column + head_width) }
        };
        scratch.scores.resize(ROWS * sizes.stride(), 0.0);
        scratch.by_scores.resize(ROWS * sizes.stride(), 0.0);
        let mut keys = Panels::default();
        keys.pack(key);
        scratch.values.pack(value.transposed());
        scratch.keys.pack(key.transposed());
        for tile in sizes.tiles() {
            let places = tile.end;
            // The first tile covers all places; later ones add to it.
            let add = places < tokens;
            let [query, y, dy] = [query, y, dy].map(|matrix| matrix.part(tile.clone(), 0..head_width));
            scores(sizes, query, places, scratch);
            target(&mut scratch.by_scores, sizes, tile.len(), places, |out| {
                scratch.values.multiply(dy, out, false, &mut scratch.rows);
            });
            for (number, row) in tile.clone().enumerate() {
                let start = number * sizes.stride();
                let shares = &mut scratch.scores[start..][..places];
                let by_shares = &mut scratch.by_scores[start..][..places];
                let mean = loops::dot(y.row(number), dy.row(number));
                loops::softmax_backward(shares, by_shares, row + 1, sizes.scale(), sums[row], mean);
            }
            let shares = Matrix::spaced(&scratch.scores, tile.len(), places, sizes.stride());
            let by_scores = Matrix::spaced(&scratch.by_scores, tile.len(), places, sizes.stride());
            scratch.slopes.pack(dy);
            scratch.queries.pack(query);
            keys.multiply(by_scores, &mut by(0, tile.clone()), false, &mut scratch.rows);
            scratch.queries.multiply(by_scores.transposed(), &mut by(1, 0..places), add, &mut scratch.rows);
            scratch.slopes.multiply(shares.transposed(), &mut by(2, 0..places), add, &mut scratch.rows);
        }
    });
}

/// Computes `q kᵀ` of a tile's rows and the places before `places`.
fn scores(sizes: Sizes, query: Matrix<'_>, places: usize, scratch: &mut Scratch) {
    let Scratch { scores, keys, rows, .. } = scratch;
    target(scores, sizes, query.rows(), places, |out| keys.multiply(query, out, false, rows));
}

/// Calls a function with the rows of scores as a target.
fn target(scores: &mut [f32], sizes: Sizes, rows: usize, places: usize, write: impl FnOnce(&mut Target<'_>)) {
    write(&mut Target::new(scores, rows, places, sizes.stride()));
}
