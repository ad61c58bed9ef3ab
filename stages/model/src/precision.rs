//! The number format of matrix products.

use burn::nn::Linear;
use burn::tensor::{FloatDType, Tensor, module};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::is_gpu;
use crate::fused;

/// The number format of the matrix products in training. Weights, moments, layer norms, softmax and the loss are `f32` in either case, and
/// sums accumulate in `f32`; in `bf16`, the results of products and their gradients are rounded to `bf16` (mixed precision: Micikevicius et
/// al., "Mixed Precision Training", 2018; bf16 needs no loss scale).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    F32,
    /// bfloat16 factors and results (8 bits of mantissa), with sums in `f32`: several times as fast on a GPU's matrix units, with
    /// half the memory for activations. On the CPU it is emulated, which is slow.
    Bf16,
}

impl Precision {
    /// Returns the type of factors.
    pub fn dtype(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::Bf16 => FloatDType::BF16,
        }
    }

    /// Returns the factor of a product.
    pub fn factor<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::F32 => x,
            Self::Bf16 => x.cast(FloatDType::BF16),
        }
    }

    /// Returns the result of a product, in `f32`.
    pub fn result<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::F32 => x,
            Self::Bf16 => x.cast(FloatDType::F32),
        }
    }

    /// The product of two matrices, transposed or not, which are factors; without automatic differentiation.
    pub fn matmul(self, left: Tensor<2>, right: Tensor<2>) -> Tensor<2> {
        match self {
            Self::F32 if !is_gpu(&left.device()) => fused::cpu::matmul(left, right),
            _ => left.matmul(right),
        }
    }

    /// Returns `x` `[.., inputs]` times the weight plus the bias, `[.., outputs]`, as a factor of the next product.
    pub fn linear<const D: usize>(self, linear: &Linear, x: Tensor<D>) -> Tensor<D> {
        let bias = linear.bias.as_ref().map(|bias| self.factor(bias.val()));
        module::linear(self.factor(x), self.factor(linear.weight.val()), bias)
    }
}
