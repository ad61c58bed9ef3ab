//! The output head and the cross-entropy in one, with their gradients, in chunks of rows.
//!
//! For features `h` `[rows, width]`, the tied embedding `w` `[vocabulary, width]` and the next tokens `y`:
//!
//! ```text
//! p = softmax(h wᵀ);   loss = −Σ ln p[y] / rows
//! ∂loss/∂h = (p − 1[y]) w / rows;   ∂loss/∂w = (p − 1[y])ᵀ h / rows
//! ```
//!
//! The gradients are written out because the logits of a whole micro-batch are the largest tensor of training, and
//! automatic differentiation would keep several of that size; a chunk's are gone before the next begins.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, activation};

/// The most logits of one chunk (64 MiB).
const LOGITS: usize = 1 << 24;

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

/// The mean loss times `scale`, and its gradients. All tensors are without automatic differentiation.
pub fn head_loss(features: Tensor<2>, embedding: Tensor<2>, next: Tensor<1, Int>, scale: f64) -> HeadLoss {
    let [rows, width] = features.dims();
    let [vocabulary, _] = embedding.dims();
    let share = scale / rows as f64;
    let chunk = (LOGITS / vocabulary).clamp(1, rows);
    let (mut losses, mut by_features) = (Vec::new(), Vec::new());
    let mut by_embedding: Option<Tensor<2>> = None;
    for start in (0..rows).step_by(chunk) {
        let end = rows.min(start + chunk);
        let features = features.clone().slice([start..end, 0..width]);
        let next = next.clone().slice(start..end).reshape([end - start, 1]);
        let log_shares = activation::log_softmax(features.clone().matmul(embedding.clone().transpose()), 1);
        losses.push(log_shares.clone().gather(1, next.clone()).sum().mul_scalar(-share));
        let minus_one = Tensor::full([end - start, 1], -1.0, &features.device());
        let by_logits = log_shares.exp().scatter(1, next, minus_one, IndexingUpdateOp::Add).mul_scalar(share);
        by_features.push(by_logits.clone().matmul(embedding.clone()));
        let more = by_logits.transpose().matmul(features);
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
