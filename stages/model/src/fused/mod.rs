//! Training operations that Burn computes in several passes over memory, each fused into one: a loop on the CPU (Flex), a
//! kernel on a GPU (CubeCL, feature `cuda`).
//!
//! | function | computes | gradient |
//! |---|---|---|
//! | [`gelu_new`] | GPT-2's GELU | automatic; keeps `x` |
//! | [`layer_norm`] | layer norm from `f32` to any float type | automatic; keeps `x`, mean and deviation of each row |
//! | [`causal_attention`] | causal attention, of plain operations | automatic; keeps `q`, `k`, `v` and the result |
//! | [`head`] | softmax and cross-entropy of logits, with the gradient | explicit, see [`crate::train::head`] |
//! | [`sum_squares`] | the sum of squares, on the CPU | automatic |
//! | [`adamw`] | one step of AdamW for one tensor | none |
//!
//! Training on the CPU in `f32` also uses [`cpu`]: linear maps and causal attention with products of our own.
//!
//! Values are `f32` or `bf16`; statistics and sums are `f32`. On one device the results depend on the arguments alone: CPU
//! loops work in blocks of fixed size, whatever the number of threads, and kernels use no float atomics. On the CPU the
//! bits are also the same on every processor, because each loop fixes the order of its sums and uses fused
//! multiply-adds. Different devices differ by rounding.
//!
//! | module | contents |
//! |---|---|
//! | `flex`, `loops` | the CPU |
//! | [`cpu`] | operations that exist on the CPU alone |
//! | [`memory`] | the memory of results on the CPU |
//! | `cube`, `kernels` | the GPU |
//! | `gradient` | automatic differentiation |

pub mod attention;
pub mod cpu;
#[cfg(feature = "cuda")]
mod cube;
mod flex;
mod gradient;
#[cfg(feature = "cuda")]
pub mod kernels;
pub(crate) mod loops;
pub mod memory;

#[cfg(feature = "cuda")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Bool, DType, Device, FloatDType, Int, Tensor};

/// The numbers of one AdamW step, for [`adamw`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// β₁ and `1 − β₁`.
    pub mean: [f32; 2],
    /// β₂ and `1 − β₂`.
    pub square: [f32; 2],
    /// ε.
    pub epsilon: f32,
    /// The factor of weight decay: `1 − rate · decay`.
    pub keep: f32,
    /// `rate / (1 − β₁ᵗ)`.
    pub rate: f32,
    /// `1 / √(1 − β₂ᵗ)`.
    pub root: f32,
}

/// The operations of this module on the tensors of a backend. `gelu_new`, `layer_norm`
/// and `causal_attention` have gradients; the others panic on a backend with automatic differentiation.
#[backend_extension(Autodiff, Flex, Cube: cfg(feature = "cuda"), Fusion: cfg(feature = "cuda"))]
pub trait Fused: Backend {
    /// See [`gelu_new`].
    #[fusion(dtype = x, shape = x)]
    fn gelu_new(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Returns `dy` times the slope of [`Fused::gelu_new`] at `x`.
    #[fusion(dtype = x, shape = x)]
    fn gelu_new_backward(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`layer_norm`].
    #[fusion(default)]
    fn layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
        dtype: DType,
    ) -> FloatTensor<Self> {
        Self::layer_norm_statistics(x, weight, bias, epsilon, dtype).0
    }

    /// Returns [`layer_norm`] and, for each row, its mean and one over its deviation, `[rows]`.
    #[fusion(meta = |x, _weight, _bias, _epsilon, dtype| {
        let rows = TensorSpec::new([rows_of(&x.shape)].into(), DType::F32);
        (TensorSpec::new(x.shape.clone(), *dtype), rows.clone(), rows)
    })]
    fn layer_norm_statistics(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
        dtype: DType,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Returns the gradients with respect to `x`, weight and bias, all `f32`, from the gradient `dy` with respect to the result and the
    /// statistics of [`Fused::layer_norm_statistics`].
    #[fusion(meta = |x, _dy, weight, _means, _scales| (x.clone(), weight.clone(), weight.clone()))]
    fn layer_norm_backward(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        means: FloatTensor<Self>,
        scales: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// See [`causal_attention`].
    #[fusion(default)]
    fn causal_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        mask: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        attention::forward::<Self>([query, key, value, mask], attention::PAIRS)
    }

    /// Returns the gradients with respect to query, key and value from the result `y` and its gradient `dy`.
    #[fusion(default)]
    fn causal_attention_backward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        y: FloatTensor<Self>,
        dy: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        attention::backward::<Self>([query, key, value, mask], [y, dy], attention::PAIRS).into()
    }

    /// See [`head`].
    #[fusion(meta = |logits, _next, _share| {
        (TensorSpec::new([rows_of(&logits.shape)].into(), DType::F32), logits.clone())
    })]
    fn head(logits: FloatTensor<Self>, next: IntTensor<Self>, share: f32) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`sum_squares`].
    #[fusion(default)]
    fn sum_squares(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_sum(Self::float_mul(x.clone(), x))
    }

    /// See [`adamw`].
    #[fusion(meta = |parameter, _gradient, mean, square, _scale, _step| {
        (parameter.clone(), mean.clone(), square.clone())
    })]
    fn adamw(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        square: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// Computes GPT-2's GELU, `½ x (1 + tanh u)` with `u = √(2/π) (x + 0.044715 x³)`, as the equivalent `x · sigmoid(2u)`. `x` is `f32` or
/// `bf16`, and the result has the same type.
pub fn gelu_new<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as Fused>::gelu_new(x.into_dispatch()))
}

/// Computes layer norm over the last dimension, `(x − mean) / √(variance + epsilon) · weight + bias`: `x` `[.., width]`, `weight` and
/// `bias` `[width]`, all `f32`, to `[.., width]` of type `dtype` (`F32` or `BF16`).
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
    dtype: FloatDType,
) -> Tensor<D> {
    let [weight, bias] = [weight, bias].map(Tensor::into_dispatch);
    Tensor::from_dispatch(<Dispatch as Fused>::layer_norm(
        x.into_dispatch(),
        weight,
        bias,
        epsilon as f32,
        dtype.into(),
    ))
}

/// Computes causal attention ([`attention`]): query, key and value `[batch, heads, sequence, head width]`, all `f32` or all `bf16`, to a
/// result of the same shape and type, with the [`causal_mask`] of their sequence length. The scores and their softmax are `f32`.
pub fn causal_attention(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, mask: Tensor<4>) -> Tensor<4> {
    let [query, key, value, mask] = [query, key, value, mask].map(Tensor::into_dispatch);
    Tensor::from_dispatch(<Dispatch as Fused>::causal_attention(query, key, value, mask))
}

/// Returns the mask that [`causal_attention`] adds to scores: `[1, 1, sequence, sequence]`, −∞ above the diagonal and 0 elsewhere. All
/// layers share one mask.
pub fn causal_mask(sequence: usize, device: &Device) -> Tensor<4> {
    let later = Tensor::<2, Bool>::tril_mask([sequence, sequence], 0, device);
    Tensor::<2>::zeros([sequence, sequence], device).mask_fill(later, f32::NEG_INFINITY).unsqueeze::<4>()
}

/// Returns the cross-entropy of logits `[rows, vocabulary]` (`f32` or `bf16`) against the ids `next` `[rows]`, in nats, times `share`:
/// `f32` `[rows]`. Also returns the gradient of its sum with respect to the logits, `(softmax(logits) − 1[next]) · share`, of the type of
/// the logits, and in their memory if nothing else uses it. An id must be below the vocabulary. Neither supports automatic differentiation.
pub fn head(logits: Tensor<2>, next: Tensor<1, Int>, share: f64) -> (Tensor<1>, Tensor<2>) {
    let (losses, gradient) = <Dispatch as Fused>::head(logits.into_dispatch(), next.into_dispatch(), share as f32);
    (Tensor::from_dispatch(losses), Tensor::from_dispatch(gradient))
}

/// Returns the sum of the squares of an `f32` tensor, `[1]`. On a GPU, it is computed by Burn's own operations.
pub fn sum_squares<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as Fused>::sum_squares(x.into_dispatch()))
}

/// Makes one step of AdamW for one tensor, with the gradient times `scale` `[1]`:
///
/// ```text
/// g = scale · gradient;   m = β₁ mean + (1 − β₁) g;   v = β₂ square + (1 − β₂) g²
/// parameter = keep · parameter − rate · m / (root · √v + ε)
/// ```
///
/// Returns the new parameter, `m` and `v`, in the memory of the old ones if nothing else uses it. All tensors are
/// `f32`, without automatic differentiation.
pub fn adamw<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    [mean, square]: [Tensor<D>; 2],
    scale: Tensor<1>,
    step: AdamWStep,
) -> (Tensor<D>, [Tensor<D>; 2]) {
    let (parameter, mean, square) = <Dispatch as Fused>::adamw(
        parameter.into_dispatch(),
        gradient.into_dispatch(),
        mean.into_dispatch(),
        square.into_dispatch(),
        scale.into_dispatch(),
        step,
    );
    (Tensor::from_dispatch(parameter), [mean, square].map(Tensor::from_dispatch))
}

/// Returns the product of all dimensions but the last.
fn rows_of(shape: &burn::tensor::Shape) -> usize {
    shape.iter().rev().skip(1).product()
}
