//! AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019), as `torch.optim.AdamW` computes it, after
//! clipping by the global norm as `torch.nn.utils.clip_grad_norm_` does.
//!
//! ```text
//! c = min(1, clip / (‖g‖ + 1e-6))                        g: all gradients as one vector
//! m = β₁ m + (1 − β₁) c g;   v = β₂ v + (1 − β₂) (c g)²
//! p = p (1 − rate · decay) − rate / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
//! ```
//!
//! Decay applies to matrices and embeddings. Norm and clipping are computed on the device: a step reads nothing back to the host.

use burn::tensor::Tensor;

use crate::fused::{self, AdamWStep};

/// The settings of AdamW.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWSettings {
    /// β₁, the decay rate of the mean.
    pub beta1: f64,
    /// β₂, the decay rate of the mean of squares.
    pub beta2: f64,
    /// ε, which is added to the square root.
    pub epsilon: f64,
    /// The decay of matrices and embeddings, per step and unit of the learning rate.
    pub weight_decay: f64,
    /// The maximum global norm of the gradients.
    pub clip: f64,
}

/// The moments of every tensor and the number of updates.
#[derive(Debug, Clone)]
pub struct AdamW {
    settings: AdamWSettings,
    /// Whether decay applies, by tensor.
    decays: Vec<bool>,
    /// The mean and the mean of squares of each tensor's gradients.
    pub moments: Vec<(Tensor<1>, Tensor<1>)>,
    /// The number of updates so far (t).
    pub updates: u64,
}

impl AdamW {
    /// Creates the optimiser; all moments are 0.
    pub fn new(settings: AdamWSettings, decays: Vec<bool>, parameters: &[Tensor<1>]) -> Self {
        let zeros = |parameter: &Tensor<1>| (parameter.zeros_like(), parameter.zeros_like());
        Self { settings, decays, moments: parameters.iter().map(zeros).collect(), updates: 0 }
    }

    /// Makes one update at a learning rate. `norm` is the [`global_norm`] of `gradients`. Returns the new parameters.
    pub fn update(
        &mut self,
        rate: f64,
        parameters: Vec<Tensor<1>>,
        gradients: Vec<Tensor<1>>,
        norm: Tensor<1>,
    ) -> Vec<Tensor<1>> {
        let AdamWSettings { beta1, beta2, epsilon, weight_decay, clip } = self.settings;
        let factor = (norm.add_scalar(1e-6).recip().mul_scalar(clip)).clamp_max(1.0);
        self.updates += 1;
        let correction1 = 1.0 - power(beta1, self.updates);
        let correction2 = (1.0 - power(beta2, self.updates)).sqrt();
        let step = |decays: bool| AdamWStep {
            mean: [beta1, 1.0 - beta1].map(|share| share as f32),
            square: [beta2, 1.0 - beta2].map(|share| share as f32),
            epsilon: epsilon as f32,
            keep: if decays { 1.0 - rate * weight_decay } else { 1.0 } as f32,
            rate: (rate / correction1) as f32,
            root: (1.0 / correction2) as f32,
        };
        // The moments are moved out and back, so that nothing else references them and they are updated in place.
        let moments = std::mem::take(&mut self.moments);
        let mut updated = Vec::with_capacity(parameters.len());
        for ((parameter, gradient), (moments, &decays)) in
            parameters.into_iter().zip(gradients).zip(moments.into_iter().zip(&self.decays))
        {
            let (parameter, moments) = fused::adamw(parameter, gradient, moments.into(), factor.clone(), step(decays));
            updated.push(parameter);
            self.moments.push(moments.into());
        }
        updated
    }
}

/// Returns the 2-norm of all tensors as one vector, `[1]`.
pub fn global_norm(tensors: &[Tensor<1>]) -> Tensor<1> {
    let squares = tensors.iter().map(|tensor| fused::sum_squares(tensor.clone())).collect();
    Tensor::cat(squares, 0).sum().sqrt()
}

/// Returns `base` to the power of an integer by repeated squaring: the same bits on every machine.
fn power(base: f64, exponent: u64) -> f64 {
    let (mut result, mut square, mut rest) = (1.0, base, exponent);
    while rest > 0 {
        if rest & 1 == 1 {
            result *= square;
        }
        square *= square;
        rest >>= 1;
    }
    result
}
