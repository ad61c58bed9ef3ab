//! The output head and the cross-entropy in one, with their gradients, in chunks of rows.
//!
//! For features `h` `[rows, width]`, the tied embedding `w` `[vocabulary, width]` and the next tokens `y`:
//!
//! ```text
//! p = softmax(h wᵀ);   loss = −Σ ln p[y] / rows
//! ∂loss/∂h = (p − 1[y]) w / rows;   ∂loss/∂w = (p − 1[y])ᵀ h / rows
//! ```
//!
//! The products of matrices are computed in a [`Precision`], all else in `f32`.
//!
//! The gradients are written out because the logits of a whole micro-batch are the largest tensor of training, and
//! automatic differentiation would keep several of that size; a chunk's are gone before the next begins.

use std::ops::Range;

use burn::tensor::{IndexingUpdateOp, Int, Tensor, activation};

use crate::precision::Precision;

/// The most logits of one chunk on a device that states no memory, as the CPU (64 MiB).
const LOGITS: usize = 1 << 24;
/// The share of a GPU's memory that a chunk of logits takes: large products keep it busy.
const SHARE_OF_MEMORY: u64 = 64;

/// A loss and its gradients.
#[derive(Debug)]
pub struct HeadLoss {
    /// The mean loss in nats, times the scale: `[1]`.
    pub loss: Tensor<1>,
    /// Its gradient by the features, `[rows, width]`.
    pub features: Tensor<2>,
    /// Its gradient by the embedding, `[vocabulary, width]`.
    pub embedding: Tensor<2>,
}

/// The mean loss times `scale`, and its gradients. All tensors are `f32` and without automatic differentiation.
pub fn head_loss(
    features: Tensor<2>,
    embedding: Tensor<2>,
    next: Tensor<1, Int>,
    scale: f64,
    precision: Precision,
) -> HeadLoss {
    let [rows, width] = features.dims();
    let share = scale / rows as f64;
    let (features, factor) = (precision.factor(features), precision.factor(embedding.clone()));
    let (mut losses, mut by_features) = (Vec::new(), Vec::new());
    let mut by_embedding: Option<Tensor<2>> = None;
    for range in chunks(&features, &embedding) {
        let count = range.len();
        let features = features.clone().slice([range.clone(), 0..width]);
        let next = next.clone().slice(range).reshape([count, 1]);
        let log_shares = log_shares(features.clone(), &factor, precision);
        losses.push(log_shares.clone().gather(1, next.clone()).sum().mul_scalar(-share));
        let minus_one = Tensor::full([count, 1], -1.0, &features.device());
        let by_logits = log_shares.exp().scatter(1, next, minus_one, IndexingUpdateOp::Add).mul_scalar(share);
        let by_logits = precision.factor(by_logits);
        by_features.push(precision.result(by_logits.clone().matmul(factor.clone())));
        let more = precision.result(by_logits.transpose().matmul(features));
        by_embedding = Some(match by_embedding {
            Some(sum) => sum + more,
            None => more,
        });
    }
    HeadLoss {
        loss: Tensor::cat(losses, 0).sum(),
        features: Tensor::cat(by_features, 0),
        embedding: by_embedding.unwrap_or_else(|| embedding.zeros_like()),
    }
}

/// The mean loss alone, `[1]`.
pub fn mean_loss(features: Tensor<2>, embedding: Tensor<2>, next: Tensor<1, Int>, precision: Precision) -> Tensor<1> {
    let [rows, width] = features.dims();
    let factor = precision.factor(embedding);
    let losses = chunks(&features, &factor).map(|range| {
        let count = range.len();
        let features = precision.factor(features.clone().slice([range.clone(), 0..width]));
        let next = next.clone().slice(range).reshape([count, 1]);
        log_shares(features, &factor, precision).gather(1, next).sum()
    });
    Tensor::cat(losses.collect(), 0).sum().mul_scalar(-1.0 / rows as f64)
}

/// ln p of features and embedding, both factors: `[rows, vocabulary]`, `f32`.
fn log_shares(features: Tensor<2>, embedding: &Tensor<2>, precision: Precision) -> Tensor<2> {
    activation::log_softmax(precision.result(features.matmul(embedding.clone().transpose())), 1)
}

/// The rows of the features in ranges whose logits make a chunk.
fn chunks(features: &Tensor<2>, embedding: &Tensor<2>) -> impl Iterator<Item = Range<usize>> + use<> {
    let ([rows, _], [vocabulary, _]) = (features.dims(), embedding.dims());
    let capacity = features.device().memory_capacity();
    let most = capacity.map_or(LOGITS, |bytes| usize::try_from(bytes / SHARE_OF_MEMORY / 4).unwrap_or(usize::MAX));
    let chunk = (most / vocabulary).clamp(1, rows);
    (0..rows).step_by(chunk).map(move |start| start..rows.min(start + chunk))
}
