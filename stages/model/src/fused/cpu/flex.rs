//! The operations on Flex's tensors.

use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::Shape;
use rayon::prelude::*;

use super::Cpu;
use super::attention::{self, Sizes};
use super::product::{Matrix, Start, add_product, product};
use crate::fused::flex::{indices, slice, whole};
use crate::fused::memory::{take, tensor};
use crate::fused::rows_of;

type F = FloatTensor<Flex>;

/// The number of rows in one block of a sum over rows.
const ROWS: usize = 64;

impl Cpu for Flex {
    fn cpu_linear(x: F, weight: F, bias: F) -> F {
        let [x, weight, bias] = [x, weight, bias].map(whole);
        let (left, right) = (rows(&x), rows(&weight));
        tensor(product(left, right, Start::Bias(slice(&bias))), result_shape(&x, &bias))
    }

    fn cpu_linear_onto(x: F, weight: F, bias: F, onto: F) -> F {
        let [x, weight, bias, onto] = [x, weight, bias, onto].map(whole);
        let start = Start::Sum(slice(&bias), rows(&onto));
        tensor(product(rows(&x), rows(&weight), start), result_shape(&x, &bias))
    }

    fn cpu_linear_backward(x: F, weight: F, dy: F) -> (F, F, F) {
        let [x, weight, dy] = [x, weight, dy].map(whole);
        let (left, right, slopes) = (rows(&x), rows(&weight), rows(&dy));
        let by_x = product(slopes, right.transposed(), Start::Zero);
        let by_weight = product(left.transposed(), slopes, Start::Zero);
        let by_bias = column_sums(slice(&dy), *weight.layout().shape().last().unwrap_or(&0));
        let outputs = by_bias.len();
        (
            tensor(by_x, x.layout().shape().clone()),
            tensor(by_weight, weight.layout().shape().clone()),
            tensor(by_bias, [outputs].into()),
        )
    }

    fn cpu_causal_attention(joined: F, heads: usize) -> F {
        Self::cpu_causal_attention_sums(joined, heads).0
    }

    fn cpu_causal_attention_sums(joined: F, heads: usize) -> (F, F) {
        let joined = whole(joined);
        let (sizes, shape) = attention_sizes(&joined, heads);
        let mut sums = vec![0f32; sizes.sequences * heads * sizes.tokens];
        let size = sizes.sequences * sizes.tokens * heads * sizes.head_width;
        let mut y = take(size);
        attention::forward(sizes, slice(&joined), &mut y, &mut sums);
        (tensor(y, shape), tensor(sums, [sizes.sequences, heads, sizes.tokens].into()))
    }

    fn cpu_causal_attention_backward(joined: F, y: F, sums: F, dy: F, heads: usize) -> F {
        let [joined, y, sums, dy] = [joined, y, sums, dy].map(whole);
        let (sizes, _) = attention_sizes(&joined, heads);
        let mut by_joined = take(joined.layout().num_elements());
        attention::backward(sizes, slice(&joined), [slice(&y), slice(&dy)], slice(&sums), &mut by_joined);
        tensor(by_joined, joined.layout().shape().clone())
    }

    fn cpu_add_rows(sums: F, ids: IntTensor<Self>, rows: F) -> F {
        let (mut sums, rows) = (whole(sums), whole(rows));
        let width = rows.layout().shape()[1];
        let values = sums.storage_mut::<f32>();
        for (id, row) in indices(ids).into_iter().zip(slice(&rows).chunks_exact(width)) {
            values[id * width..][..width].iter_mut().zip(row).for_each(|(sum, more)| *sum += more);
        }
        sums
    }

    fn cpu_matmul(left: F, right: F) -> F {
        let (one, other) = (matrix(&left), matrix(&right));
        let shape = [left.layout().shape()[0], right.layout().shape()[1]];
        tensor(product(one, other, Start::Zero), shape.into())
    }

    fn cpu_add_matmul(sums: F, left: F, right: F) -> F {
        let mut sums = whole(sums);
        add_product(matrix(&left), matrix(&right), sums.storage_mut::<f32>());
        sums
    }
}

/// The sums of the columns of rows, by blocks of rows that are added in order.
fn column_sums(values: &[f32], columns: usize) -> Vec<f32> {
    let block = |rows: &[f32]| {
        let mut sums = vec![0f32; columns];
        for row in rows.chunks_exact(columns) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        sums
    };
    let blocks: Vec<_> = values.par_chunks(ROWS * columns.max(1)).map(block).collect();
    let mut sums = vec![0f32; columns];
    for block in blocks {
        sums.iter_mut().zip(block).for_each(|(sum, more)| *sum += more);
    }
    sums
}

/// The sizes of an attention, and the shape of its result.
fn attention_sizes(joined: &F, heads: usize) -> (Sizes, Shape) {
    let shape = joined.layout().shape();
    let (sequences, tokens, width) = (shape[0], shape[1], shape[2] / 3);
    (Sizes { sequences, tokens, heads, head_width: width / heads }, [sequences, tokens, width].into())
}

/// The shape of `x` with the columns of `bias`.
fn result_shape(x: &F, bias: &F) -> Shape {
    let mut shape = x.layout().shape().clone();
    let last = shape.num_dims() - 1;
    shape[last] = bias.layout().num_elements();
    shape
}

/// A tensor `[.., columns]` without gaps as a matrix of rows.
fn rows(tensor: &F) -> Matrix<'_> {
    let shape = tensor.layout().shape();
    Matrix::new(slice(tensor), rows_of(shape), shape[shape.num_dims() - 1])
}

/// A tensor of two dimensions as a matrix, in its memory if it is transposed.
fn matrix(tensor: &F) -> Matrix<'_> {
    let (shape, strides) = (tensor.layout().shape(), tensor.layout().strides());
    let values = &tensor.storage::<f32>()[tensor.layout().start_offset()..];
    match strides {
        [row, 1] => Matrix::spaced(values, shape[0], shape[1], row.unsigned_abs()),
        [1, column] => Matrix::spaced(values, shape[1], shape[0], column.unsigned_abs()).transposed(),
        _ => panic!("a matrix has rows or columns without gaps"),
    }
}
