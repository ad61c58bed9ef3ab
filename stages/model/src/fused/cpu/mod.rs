//! Training operations that exist on the CPU alone, in `f32`: [`product`] instead of Burn's matrix products, and what is best computed with it.
//!
//! | function | computes | keeps for the gradient |
//! |---|---|---|
//! | [`linear`] | `x w + bias` | `x` and `w` |
//! | [`linear_onto`] | `onto + x w + bias` | `x` and `w` |
//! | [`causal_attention`] | causal attention of a joint projection ([`attention`]) | the projection, `y` and one number for each row |
//!
//! Results are written to memory that is not cleared first. Their bits depend on the arguments alone: neither on the processor nor on the
//! number of threads.

pub mod attention;
mod flex;
mod gradient;
pub mod product;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Tensor};

/// The operations of this module on the tensors of a backend; those without `backward` in their name have gradients.
#[backend_extension(Autodiff, Flex)]
pub trait Cpu: Backend {
    /// See [`linear`].
    fn cpu_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`linear_onto`].
    fn cpu_linear_onto(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        onto: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// Returns the gradients by `x`, weight and bias.
    fn cpu_linear_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        dy: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// See [`causal_attention`].
    fn cpu_causal_attention(joined: FloatTensor<Self>, heads: usize) -> FloatTensor<Self>;

    /// [`causal_attention`], and the logarithm of the sum of each row's powers, `[batch, heads, sequence]`.
    fn cpu_causal_attention_sums(joined: FloatTensor<Self>, heads: usize) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Returns the gradient by `joined` from the results of [`Cpu::cpu_causal_attention_sums`] and the gradient `dy`.
    fn cpu_causal_attention_backward(
        joined: FloatTensor<Self>,
        y: FloatTensor<Self>,
        sums: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        heads: usize,
    ) -> FloatTensor<Self>;

    /// See [`add_rows`].
    fn cpu_add_rows(sums: FloatTensor<Self>, ids: IntTensor<Self>, rows: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`matmul`].
    fn cpu_matmul(left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`add_matmul`].
    fn cpu_add_matmul(sums: FloatTensor<Self>, left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// `x` `[.., inputs]` times `weight` `[inputs, outputs]` plus `bias` `[outputs]`.
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<D> {
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Cpu>::cpu_linear(x, weight, bias))
}

/// The sum of [`linear`] and `onto` `[.., outputs]`.
pub fn linear_onto<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Tensor<1>, onto: Tensor<D>) -> Tensor<D> {
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Cpu>::cpu_linear_onto(x, weight, bias, onto.into_dispatch()))
}

/// Causal attention of query, key and value side by side, `[batch, sequence, 3 · width]`, each of `heads` heads, to
/// `[batch, sequence, width]`.
pub fn causal_attention(joined: Tensor<3>, heads: usize) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as Cpu>::cpu_causal_attention(joined.into_dispatch(), heads))
}

/// The product of two matrices, transposed or not, without automatic differentiation.
pub fn matmul(left: Tensor<2>, right: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as Cpu>::cpu_matmul(left.into_dispatch(), right.into_dispatch()))
}

/// The sum of `sums` and a product, in the memory of `sums` if nothing else uses it; without automatic differentiation.
pub fn add_matmul(sums: Tensor<2>, left: Tensor<2>, right: Tensor<2>) -> Tensor<2> {
    let (sums, left, right) = (sums.into_dispatch(), left.into_dispatch(), right.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Cpu>::cpu_add_matmul(sums, left, right))
}

/// `sums` `[size, width]` with each of `rows` `[count, width]` added to the row of its id, in order; in the memory of `sums` if nothing else
/// uses it, and without automatic differentiation. The gradient of an embedding.
pub fn add_rows(sums: Tensor<2>, ids: Tensor<1, Int>, rows: Tensor<2>) -> Tensor<2> {
    let (sums, ids, rows) = (sums.into_dispatch(), ids.into_dispatch(), rows.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Cpu>::cpu_add_rows(sums, ids, rows))
}
