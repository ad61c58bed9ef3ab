//! The output head and the cross-entropy, fused, with their gradients, in chunks of rows.
//!
//! For features `h` `[rows, width]`, the tied embedding `w` `[vocabulary, width]` and the next tokens `y`:
//!
//! ```text
//! p = softmax(h wᵀ);   loss = −Σ ln p[y] / rows
//! ∂loss/∂h = (p − 1[y]) w / rows;   ∂loss/∂w = (p − 1[y])ᵀ h / rows
//! ```
//!
//! With a z-loss `z` (Chowdhery et al., "PaLM", 2022, section 5: 10⁻⁴), `z · Σ s² / rows` is added to what is minimised, where
//! `s = ln Σ exp(h wᵀ)`: the gradient by the logits is `(p (1 + 2 z s) − 1[y]) / rows`. The reported loss is without it.
//!
//! The products of matrices are computed in a [`Precision`], everything else in `f32`.
//!
//! The gradients are computed explicitly because the logits of a whole micro-batch are the largest tensor of training,
//! and automatic differentiation would keep several of that size. Here the logits of a chunk are freed before the next
//! chunk.

use std::ops::Range;

use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor};

use crate::device::{gpu_memory, is_gpu};
use crate::fused;
use crate::precision::Precision;

/// The maximum number of logits in one chunk on the CPU: 64 MiB.
pub const LOGITS: usize = 1 << 24;
/// The part of a GPU's memory that a chunk of logits uses; only large products keep a GPU busy.
const PART_OF_GPU_MEMORY: u64 = 64;

/// A loss and its gradients.
#[derive(Debug)]
pub struct HeadLoss {
    /// The mean loss in nats, times the scale: `[1]`.
    pub loss: Tensor<1>,
    /// The gradient with respect to the features, `[rows, width]`.
    pub features: Tensor<2>,
    /// The gradient with respect to the embedding, `[vocabulary, width]`.
    pub embedding: Tensor<2>,
}

/// Returns the mean loss times `scale`, and its gradients with the z-loss. All tensors are `f32` and without automatic differentiation.
pub fn head_loss(
    features: Tensor<2>,
    embedding: Tensor<2>,
    next: Tensor<1, Int>,
    scale: f64,
    z_loss: f64,
    precision: Precision,
) -> HeadLoss {
    let [rows, width] = features.dims();
    let share = scale / rows as f64;
    let (features, factor) = (precision.factor(features), precision.factor(embedding.clone()));
    let on_cpu = !is_gpu(&embedding.device());
    let (mut losses, mut by_features) = (Vec::new(), Vec::new());
    let mut by_embedding: Option<Tensor<2>> = None;
    for range in chunks(&features, &embedding) {
        let features = features.clone().slice([range.clone(), 0..width]);
        let logits = precision.matmul(features.clone(), factor.clone().transpose());
        let (loss, by_logits) = match z_loss {
            0.0 => fused::head(logits, next.clone().slice(range), share),
            _ => head_with_z_loss(logits, next.clone().slice(range), share, z_loss),
        };
        losses.push(loss);
        by_features.push(precision.result(precision.matmul(by_logits.clone(), factor.clone())));
        let by_logits = by_logits.transpose();
        by_embedding = Some(match by_embedding {
            Some(sum) if on_cpu && precision == Precision::F32 => fused::cpu::add_matmul(sum, by_logits, features),
            Some(sum) => sum + precision.result(by_logits.matmul(features)),
            None => precision.result(precision.matmul(by_logits, features)),
        });
    }
    HeadLoss {
        loss: Tensor::cat(losses, 0).sum(),
        features: Tensor::cat(by_features, 0),
        embedding: by_embedding.unwrap_or_else(|| embedding.zeros_like()),
    }
}

/// Does the same as [`fused::head`], with the gradient of the z-loss too.
fn head_with_z_loss(logits: Tensor<2>, next: Tensor<1, Int>, share: f64, z_loss: f64) -> (Tensor<1>, Tensor<2>) {
    let columns = next.clone().unsqueeze_dim::<2>(1);
    let format = logits.dtype();
    let target = logits.clone().gather(1, columns.clone()).cast(DType::F32);
    let (losses, gradient) = fused::head(logits, next, share);
    // The loss of a row is (s − logit of the next token) · share; p is the gradient over share, plus 1[y].
    let twice = (losses.clone().unsqueeze_dim::<2>(1).div_scalar(share) + target).mul_scalar(2.0 * z_loss);
    let gradient = gradient.cast(DType::F32) * twice.clone().add_scalar(1.0);
    let gradient = gradient.scatter(1, columns, twice.mul_scalar(share), IndexingUpdateOp::Add);
    (losses, gradient.cast(format))
}

/// Returns only the mean loss, `[1]`.
pub fn mean_loss(features: Tensor<2>, embedding: Tensor<2>, next: Tensor<1, Int>, precision: Precision) -> Tensor<1> {
    let [rows, _] = features.dims();
    row_losses(features, embedding, next, 1.0 / rows as f64, precision).sum()
}

/// Returns only the loss of each row in nats, times `share`: `[rows]`.
pub fn row_losses(
    features: Tensor<2>,
    embedding: Tensor<2>,
    next: Tensor<1, Int>,
    share: f64,
    precision: Precision,
) -> Tensor<1> {
    let [_, width] = features.dims();
    let factor = precision.factor(embedding);
    let losses = chunks(&features, &factor).map(|range| {
        let features = precision.factor(features.clone().slice([range.clone(), 0..width]));
        fused::head(precision.matmul(features, factor.clone().transpose()), next.clone().slice(range), share).0
    });
    Tensor::cat(losses.collect(), 0)
}

/// Splits the rows of `features` into ranges whose logits fit in one chunk.
fn chunks(features: &Tensor<2>, embedding: &Tensor<2>) -> impl Iterator<Item = Range<usize>> + use<> {
    let ([rows, _], [vocabulary, _]) = (features.dims(), embedding.dims());
    let chunk = chunk(rows, vocabulary, &features.device());
    (0..rows).step_by(chunk).map(move |start| start..rows.min(start + chunk))
}

/// Returns the rows of a chunk. On the CPU it depends only on `rows` and `vocabulary`.
pub fn chunk(rows: usize, vocabulary: usize, device: &Device) -> usize {
    chunk_of(rows, vocabulary, gpu_memory(device))
}

/// Does the same as [`chunk`] for a GPU with this many bytes of memory, or for the CPU.
pub fn chunk_of(rows: usize, vocabulary: usize, gpu_memory: Option<u64>) -> usize {
    let part = |bytes: u64| usize::try_from(bytes / PART_OF_GPU_MEMORY / 4).unwrap_or(usize::MAX);
    let most = gpu_memory.map_or(LOGITS, part);
    (most / vocabulary).clamp(1, rows.max(1))
}
