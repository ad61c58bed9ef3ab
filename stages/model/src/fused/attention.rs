//! Causal attention composed of plain operations of any backend. Its gradient stores no value for each pair of tokens.
//!
//! With `q`, `k` and `v` `[batch, heads, sequence, head width]`, and a mask `m` that is −∞ above the diagonal and 0 elsewhere:
//!
//! ```text
//! p = softmax(q kᵀ / √(head width) + m);   y = p v
//! ∂v = pᵀ ∂y;   ∂p = ∂y vᵀ;   ∂s = p (∂p − Σ y ∂y) / √(head width);   ∂q = ∂s k;   ∂k = ∂sᵀ q
//! ```
//!
//! `p` is recomputed for the gradient (Dao et al., "FlashAttention", 2022, section 3.1), some sequences at a time, so the memory of a model
//! grows with the number of tokens and not with the number of pairs. `p` and `∂p` are computed in `f32`, even from `bf16` inputs; the other
//! products are in the format of the inputs.

use std::ops::Range;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, FloatDType, Slice};

/// The maximum number of pairs of tokens computed at a time, over all heads: 1 GiB for each tensor of pairs in `f32`; the gradient needs up
/// to 5 such tensors.
pub const PAIRS: usize = 1 << 28;

/// Returns `y`, computing at most `pairs` pairs of tokens at a time, or one sequence.
pub fn forward<B: Backend>([query, key, value, mask]: [FloatTensor<B>; 4], pairs: usize) -> FloatTensor<B> {
    let parts = chunks(&query, pairs).map(|range| {
        let [query, key, value] = [&query, &key, &value].map(|tensor| sequences::<B>(tensor, &range));
        let format = query.dtype();
        narrow::<B>(cast::<B>(shares::<B>(query, key, mask.clone()), format), value)
    });
    joined::<B>(parts.collect())
}

/// Returns `∂q`, `∂k` and `∂v` from the result `y` and its gradient `dy`, with the same limit.
pub fn backward<B: Backend>(
    [query, key, value, mask]: [FloatTensor<B>; 4],
    [y, dy]: [FloatTensor<B>; 2],
    pairs: usize,
) -> [FloatTensor<B>; 3] {
    let scale = scale(&query);
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    for range in chunks(&query, pairs) {
        let [query, key, value, y, dy] = [&query, &key, &value, &y, &dy].map(|tensor| sequences::<B>(tensor, &range));
        let format = query.dtype();
        let p = shares::<B>(query.clone(), key.clone(), mask.clone());
        let by_value = B::float_matmul(B::float_transpose(cast::<B>(p.clone(), format)), dy.clone());
        let [y, dy, value] = [y, dy, value].map(|tensor| cast::<B>(tensor, DType::F32));
        let products = B::float_mul(y, dy.clone());
        let by_share = B::float_matmul(dy, B::float_transpose(value));
        let by_score = B::float_mul(p, B::float_sub(by_share, B::float_sum_dim(products, 3)));
        let by_score = cast::<B>(B::float_mul_scalar(by_score, scale.into()), format);
        parts[0].push(narrow::<B>(by_score.clone(), key));
        parts[1].push(B::float_matmul(B::float_transpose(by_score), query));
        parts[2].push(by_value);
    }
    parts.map(joined::<B>)
}

/// Returns `p`, in `f32`.
fn shares<B: Backend>(query: FloatTensor<B>, key: FloatTensor<B>, mask: FloatTensor<B>) -> FloatTensor<B> {
    let scale = scale(&query);
    let [query, key] = [query, key].map(|tensor| cast::<B>(tensor, DType::F32));
    let scores = B::float_matmul(query, B::float_transpose(key));
    let scores = B::float_add(B::float_mul_scalar(scores, scale.into()), mask);
    let highest = B::float_max_dim(scores.clone(), 3);
    let powers = B::float_exp(B::float_sub(scores, highest));
    let sums = B::float_sum_dim(powers.clone(), 3);
    B::float_div(powers, sums)
}

/// Returns a product of many rows and few columns, computed as the transpose of its transpose.
///
/// In `bf16`, if there are at least four times as many rows as columns, a candidate in CubeK's tuning fails to launch (a tile of 512 rows),
/// and CubeCL then treats the factors as unwritten and skips the operations that read them (cubek-matmul 0.4.0-pre.1).
fn narrow<B: Backend>(left: FloatTensor<B>, right: FloatTensor<B>) -> FloatTensor<B> {
    B::float_transpose(B::float_matmul(B::float_transpose(right), B::float_transpose(left)))
}

/// Returns one over the square root of the head width.
fn scale(query: &impl TensorMetadata) -> f32 {
    1.0 / (query.shape()[3] as f32).sqrt()
}

/// Splits the sequences into ranges of at most `pairs` pairs of tokens over all heads.
fn chunks<T: TensorMetadata>(query: &T, pairs: usize) -> impl Iterator<Item = Range<usize>> + use<T> {
    let shape = query.shape();
    let (batch, chunk) = (shape[0], chunk([shape[0], shape[1], shape[2]], pairs));
    (0..batch).step_by(chunk).map(move |start| start..batch.min(start + chunk))
}

/// Returns the number of sequences computed at a time, for the sizes `[batch, heads, sequence]`.
pub fn chunk([batch, heads, sequence]: [usize; 3], pairs: usize) -> usize {
    let each = heads.saturating_mul(sequence).saturating_mul(sequence);
    (pairs / each.max(1)).clamp(1, batch.max(1))
}

/// Returns the sequences of a range.
fn sequences<B: Backend>(tensor: &FloatTensor<B>, range: &Range<usize>) -> FloatTensor<B> {
    let shape = tensor.shape();
    if *range == (0..shape[0]) {
        return tensor.clone();
    }
    let slices = [range.clone(), 0..shape[1], 0..shape[2], 0..shape[3]].map(Slice::from);
    B::float_slice(tensor.clone(), &slices)
}

fn joined<B: Backend>(mut parts: Vec<FloatTensor<B>>) -> FloatTensor<B> {
    match parts.len() {
        1 => parts.remove(0),
        _ => B::float_cat(parts, 0),
    }
}

fn cast<B: Backend>(tensor: FloatTensor<B>, format: DType) -> FloatTensor<B> {
    if tensor.dtype() == format { tensor } else { B::float_cast(tensor, FloatDType::from(format)) }
}
