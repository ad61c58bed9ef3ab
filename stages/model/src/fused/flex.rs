//! The operations on the CPU: [`super::loops`] over blocks of fixed size, in parallel.

use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape, TensorData, bf16};
use rayon::prelude::*;

use super::loops::{self, Value};
use super::{AdamWStep, Fused, memory, rows_of};

/// The number of elements in one block of an element-wise loop.
const ELEMENTS: usize = 1 << 14;

/// The number of rows in one block of a layer norm.
const ROWS: usize = 16;

type F = FloatTensor<Flex>;

/// Calls a function with the type of `$tensor`'s values as its last type parameter.
macro_rules! by_type {
    ($tensor:expr, $name:ident($($argument:expr),* $(,)?)) => {
        match $tensor {
            DType::F32 => $name::<f32>($($argument),*),
            DType::BF16 => $name::<bf16>($($argument),*),
            other => panic!("fused operations support F32 and BF16, not {other:?}"),
        }
    };
}

impl Fused for Flex {
    fn gelu_new(x: F) -> F {
        by_type!(x.dtype(), gelu_new(x))
    }

    fn gelu_new_backward(x: F, dy: F) -> F {
        by_type!(x.dtype(), gelu_new_backward(x, dy))
    }

    fn layer_norm_statistics(x: F, weight: F, bias: F, epsilon: f32, dtype: DType) -> (F, F, F) {
        by_type!(dtype, layer_norm(x, weight, bias, epsilon))
    }

    fn layer_norm_backward(x: F, dy: F, weight: F, means: F, scales: F) -> (F, F, F) {
        by_type!(dy.dtype(), layer_norm_backward(x, dy, weight, means, scales))
    }

    fn head(logits: F, next: IntTensor<Self>, share: f32) -> (F, F) {
        by_type!(logits.dtype(), head(logits, next, share))
    }

    fn sum_squares(x: F) -> F {
        let x = whole(x);
        let blocks: Vec<f32> = slice(&x).par_chunks(ELEMENTS).map(loops::sum_squares).collect();
        let sum: f64 = blocks.into_iter().map(f64::from).sum();
        f32::tensor(vec![sum as f32], &[1].into())
    }

    fn adamw(parameter: F, gradient: F, mean: F, square: F, scale: F, step: AdamWStep) -> (F, F, F) {
        let [mut parameter, gradient, mut mean, mut square, scale] =
            [parameter, gradient, mean, square, scale].map(whole);
        let scale = slice(&scale)[0];
        parameter
            .storage_mut::<f32>()
            .par_chunks_mut(ELEMENTS)
            .zip(slice(&gradient).par_chunks(ELEMENTS))
            .zip(mean.storage_mut::<f32>().par_chunks_mut(ELEMENTS))
            .zip(square.storage_mut::<f32>().par_chunks_mut(ELEMENTS))
            .for_each(|(((parameter, gradient), mean), square)| {
                loops::adamw(parameter, gradient, mean, square, scale, step);
            });
        (parameter, mean, square)
    }
}

fn gelu_new<T: Stored>(x: F) -> F {
    let x = whole(x);
    let mut y = T::room(x.layout().num_elements());
    match y.len() <= ELEMENTS {
        // One block of work is cheaper than another thread.
        true => loops::gelu(T::values(&x), &mut y),
        false => {
            y.par_chunks_mut(ELEMENTS).zip(T::values(&x).par_chunks(ELEMENTS)).for_each(|(y, x)| loops::gelu(x, y))
        }
    }
    T::tensor(y, x.layout().shape())
}

fn gelu_new_backward<T: Stored>(x: F, dy: F) -> F {
    let (x, mut dy) = (whole(x), whole(dy));
    T::values_mut(&mut dy)
        .par_chunks_mut(ELEMENTS)
        .zip(T::values(&x).par_chunks(ELEMENTS))
        .for_each(|(dy, x)| loops::gelu_backward(x, dy));
    dy
}

fn layer_norm<T: Stored>(x: F, weight: F, bias: F, epsilon: f32) -> (F, F, F) {
    let [x, weight, bias] = [x, weight, bias].map(whole);
    let (rows, width) = (rows_of(x.layout().shape()), weight.layout().num_elements());
    let mut y = T::room(rows * width);
    let (mut means, mut scales) = (vec![0f32; rows], vec![0f32; rows]);
    let (weight, bias) = (slice(&weight), slice(&bias));
    let block = |((y, x), (means, scales)): ((&mut [T], &[f32]), (&mut [f32], &mut [f32]))| {
        let statistics = means.iter_mut().zip(scales);
        for ((y, x), (mean, scale)) in y.chunks_mut(width).zip(x.chunks(width)).zip(statistics) {
            (*mean, *scale) = loops::layer_norm(x, weight, bias, y, epsilon);
        }
    };
    match rows <= ROWS {
        true => block(((&mut y, slice(&x)), (&mut means, &mut scales))),
        false => {
            let statistics = means.par_chunks_mut(ROWS).zip(scales.par_chunks_mut(ROWS));
            let values = y.par_chunks_mut(ROWS * width).zip(slice(&x).par_chunks(ROWS * width));
            values.zip(statistics).for_each(block);
        }
    }
    let [means, scales] = [means, scales].map(|values| f32::tensor(values, &[rows].into()));
    (T::tensor(y, x.layout().shape()), means, scales)
}

fn layer_norm_backward<T: Stored>(x: F, dy: F, weight: F, means: F, scales: F) -> (F, F, F) {
    let [x, dy, weight, means, scales] = [x, dy, weight, means, scales].map(whole);
    let width = weight.layout().num_elements();
    let mut dx = memory::take(x.layout().num_elements());
    let statistics = slice(&means).par_chunks(ROWS).zip(slice(&scales).par_chunks(ROWS));
    let values = slice(&x).par_chunks(ROWS * width).zip(T::values(&dy).par_chunks(ROWS * width));
    let blocks = dx.par_chunks_mut(ROWS * width).zip(values).zip(statistics);
    let partial: Vec<_> = blocks
        .map(|((dx, (x, dy)), (means, scales))| {
            let mut sums = vec![0f32; 2 * width];
            let (by_weight, by_bias) = sums.split_at_mut(width);
            let rows = x.chunks(width).zip(dy.chunks(width)).zip(means.iter().zip(scales));
            for (dx, ((x, dy), (mean, scale))) in dx.chunks_mut(width).zip(rows) {
                loops::layer_norm_backward(x, dy, slice(&weight), (*mean, *scale), dx, by_weight, by_bias);
            }
            sums
        })
        .collect();
    let mut sums = vec![0f32; 2 * width];
    for block in partial {
        sums.iter_mut().zip(block).for_each(|(sum, more)| *sum += more);
    }
    let by_bias = sums.split_off(width);
    let [by_weight, by_bias] = [sums, by_bias].map(|values| f32::tensor(values, weight.layout().shape()));
    (f32::tensor(dx, x.layout().shape()), by_weight, by_bias)
}

fn head<T: Stored>(logits: F, next: IntTensor<Flex>, share: f32) -> (F, F) {
    let mut logits = whole(logits);
    let next = indices(next);
    let (rows, vocabulary) = (rows_of(logits.layout().shape()), logits.layout().shape()[1]);
    let losses: Vec<f32> = T::values_mut(&mut logits)
        .par_chunks_mut(vocabulary)
        .zip(next)
        .map_init(|| vec![0f32; vocabulary], |scratch, (row, next)| loops::head(row, scratch, next, share))
        .collect();
    (f32::tensor(losses, &[rows].into()), logits)
}

/// Returns ids on the host.
pub fn indices(ids: IntTensor<Flex>) -> Vec<usize> {
    let ids = whole(ids);
    match ids.as_slice::<i32>() {
        Some(ids) => ids.iter().map(|id| *id as usize).collect(),
        None => ids
            .as_slice::<i64>()
            .expect("Burn has no other type of ids on the CPU")
            .iter()
            .map(|id| *id as usize)
            .collect(),
    }
}

/// Returns a tensor's elements without gaps, in row-major order. Consumes its argument, so that storage that is not shared stays unique.
pub fn whole(tensor: F) -> F {
    tensor.to_contiguous()
}

pub fn slice(tensor: &F) -> &[f32] {
    f32::values(tensor)
}

/// A [`Value`] that Flex stores.
trait Stored: Value {
    fn values(tensor: &F) -> &[Self];
    fn values_mut(tensor: &mut F) -> &mut [Self];
    /// Returns arbitrary values, to be overwritten.
    fn room(size: usize) -> Vec<Self>;
    fn tensor(values: Vec<Self>, shape: &Shape) -> F;
}

macro_rules! stored {
    ($type:ty, $room:expr, $tensor:expr) => {
        impl Stored for $type {
            fn values(tensor: &F) -> &[Self] {
                tensor.storage::<Self>()
            }

            fn values_mut(tensor: &mut F) -> &mut [Self] {
                tensor.storage_mut::<Self>()
            }

            fn room(size: usize) -> Vec<Self> {
                $room(size)
            }

            fn tensor(values: Vec<Self>, shape: &Shape) -> F {
                $tensor(values, shape.clone())
            }
        }
    };
}

stored!(f32, memory::take, memory::tensor);
stored!(bf16, |size| vec![bf16::ZERO; size], |values, shape| F::from_data(TensorData::new(values, shape)));
