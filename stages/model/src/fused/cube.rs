//! The operations on a GPU: the launches of [`super::kernels`].

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{AdamWStep, Fused, kernels, rows_of};

/// The maximum size of a vector in bytes: one load of a GPU.
const VECTOR: usize = 16;

/// The maximum number of units in a cube.
const UNITS: usize = 1024;

/// The number of units in a cube of an element-wise kernel, and for a row of the head.
const ELEMENTWISE: u32 = 256;
const HEAD: u32 = 512;

/// The maximum number of blocks of rows in a layer norm's backward pass: enough to fill a GPU, few enough that summing them is cheap.
const BLOCKS: usize = 1024;

impl Fused for CubeBackend {
    fn gelu_new(x: CubeTensor) -> CubeTensor {
        let x = into_contiguous(x);
        let y = like(&x, x.meta.shape().clone(), x.dtype);
        let (size, vector) = vectors(&x);
        let dtype = dtype_to_storage_type(x.dtype);
        let (client, address) = (x.client.clone(), address(&[&x]));
        let (cubes, units) = elementwise(&client, size);
        // SAFETY: x and y have `size` vectors each, and the kernel checks its position against it.
        unsafe {
            let (x, y) = (x.into_buffer_arg(), y.clone().into_buffer_arg());
            kernels::gelu_new::launch_unchecked(&client, cubes, units, address, vector, x, y, size, dtype);
        }
        y
    }

    fn gelu_new_backward(x: CubeTensor, dy: CubeTensor) -> CubeTensor {
        let (x, dy) = (into_contiguous(x), exclusive(dy));
        let (size, vector) = vectors(&x);
        let dtype = dtype_to_storage_type(x.dtype);
        let (client, address) = (x.client.clone(), address(&[&x]));
        let (cubes, units) = elementwise(&client, size);
        // SAFETY: as above; a gradient has the shape and type of its tensor.
        unsafe {
            let (x, dy) = (x.into_buffer_arg(), dy.clone().into_buffer_arg());
            kernels::gelu_new_backward::launch_unchecked(&client, cubes, units, address, vector, x, dy, size, dtype);
        }
        dy
    }

    fn layer_norm_statistics(
        x: CubeTensor,
        weight: CubeTensor,
        bias: CubeTensor,
        epsilon: f32,
        dtype: DType,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [x, weight, bias] = [x, weight, bias].map(into_contiguous);
        let (rows, width) = (rows_of(x.meta.shape()), weight.meta.num_elements());
        let y = like(&x, x.meta.shape().clone(), dtype);
        let [means, scales] = [(); 2].map(|()| like(&x, [rows].into(), DType::F32));
        let vector = divisor(width, VECTOR / size_of::<f32>());
        let (client, address) = (x.client.clone(), address(&[&x]));
        let plane = plane_size(&client);
        let rows_a_cube = (ELEMENTWISE / plane).max(1);
        let cubes = cube_count(&client, rows.div_ceil(rows_a_cube as usize));
        // SAFETY: x and y have `rows` rows of `width` elements, weight and bias one, the statistics one element a row; the
        // kernel checks row and column.
        unsafe {
            kernels::layer_norm::launch_unchecked(
                &client,
                cubes,
                CubeDim::new_2d(plane, rows_a_cube),
                address,
                vector,
                x.into_buffer_arg(),
                weight.into_buffer_arg(),
                bias.into_buffer_arg(),
                y.clone().into_buffer_arg(),
                means.clone().into_buffer_arg(),
                scales.clone().into_buffer_arg(),
                epsilon,
                rows,
                width / vector,
                plane,
                dtype_to_storage_type(dtype),
            );
        }
        (y, means, scales)
    }

    fn layer_norm_backward(
        x: CubeTensor,
        dy: CubeTensor,
        weight: CubeTensor,
        means: CubeTensor,
        scales: CubeTensor,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [x, dy, weight, means, scales] = [x, dy, weight, means, scales].map(into_contiguous);
        let (rows, width) = (rows_of(x.meta.shape()), weight.meta.num_elements());
        let block = rows.div_ceil(BLOCKS).max(1);
        let blocks = rows.div_ceil(block);
        let dx = like(&x, x.meta.shape().clone(), DType::F32);
        let partial = like(&x, [blocks, 2, width].into(), DType::F32);
        let [by_weight, by_bias] = [(); 2].map(|()| like(&x, weight.meta.shape().clone(), DType::F32));
        let vector = divisor(width, VECTOR / size_of::<f32>());
        let (client, address) = (x.client.clone(), address(&[&x, &partial]));
        let plane = plane_size(&client) as usize;
        let units = (width / vector).next_multiple_of(plane).min(UNITS / plane * plane);
        let steps = (width / vector).div_ceil(units);
        let dtype = dtype_to_storage_type(dy.dtype);
        // SAFETY: x, dy and dx have `rows` rows of `width` elements, weight and its gradients one, the statistics one
        // element a row, `partial` two rows of `width` a block, and there is a cube for each block. The kernels check row
        // and column. The second runs after the first, on the same stream.
        unsafe {
            kernels::layer_norm_backward::launch_unchecked(
                &client,
                cube_count(&client, blocks),
                CubeDim::new_1d(units as u32),
                address,
                vector,
                x.into_buffer_arg(),
                dy.into_buffer_arg(),
                weight.into_buffer_arg(),
                means.into_buffer_arg(),
                scales.into_buffer_arg(),
                dx.clone().into_buffer_arg(),
                partial.clone().into_buffer_arg(),
                rows,
                width / vector,
                block,
                steps,
                plane as u32,
                units / plane,
                dtype,
            );
            kernels::sum_blocks::launch_unchecked(
                &client,
                cube_count(&client, (2 * width).div_ceil(32)),
                CubeDim::new_2d(32, 32),
                address,
                partial.into_buffer_arg(),
                by_weight.clone().into_buffer_arg(),
                by_bias.clone().into_buffer_arg(),
                blocks,
                width,
                UNITS,
            );
        }
        (dx, by_weight, by_bias)
    }

    fn head(logits: CubeTensor, next: CubeTensor, share: f32) -> (CubeTensor, CubeTensor) {
        let (logits, next) = (exclusive(logits), into_contiguous(next));
        let (rows, vocabulary) = (rows_of(logits.meta.shape()), logits.meta.shape()[1]);
        let losses = like(&logits, [rows].into(), DType::F32);
        let vector = divisor(vocabulary, VECTOR / logits.dtype.size());
        let (client, address) = (logits.client.clone(), address(&[&logits]));
        let plane = plane_size(&client);
        let [float, int] = [logits.dtype, next.dtype].map(dtype_to_storage_type);
        // SAFETY: logits have `rows` rows of `vocabulary` elements, `next` and `losses` one element a row, and there is a
        // cube for each row; the kernel checks the column, and the next ids are below the vocabulary (`super::head`).
        unsafe {
            kernels::head::launch_unchecked(
                &client,
                cube_count(&client, rows),
                CubeDim::new_1d(HEAD),
                address,
                vector,
                logits.clone().into_buffer_arg(),
                next.into_buffer_arg(),
                losses.clone().into_buffer_arg(),
                share,
                rows,
                vocabulary / vector,
                plane,
                (HEAD / plane) as usize,
                float,
                int,
            );
        }
        (losses, logits)
    }

    fn adamw(
        parameter: CubeTensor,
        gradient: CubeTensor,
        mean: CubeTensor,
        square: CubeTensor,
        scale: CubeTensor,
        step: AdamWStep,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [mean, square] = [mean, square].map(exclusive);
        let [parameter, gradient, scale] = [parameter, gradient, scale].map(into_contiguous);
        let (size, vector) = vectors(&parameter);
        let (client, address) = (parameter.client.clone(), address(&[&parameter]));
        let (cubes, units) = elementwise(&client, size);
        let (updated, argument) = match parameter.can_mut() {
            true => (parameter.clone(), parameter.as_tensor_alias(0).into_buffer_arg()),
            false => {
                let updated = like(&parameter, parameter.meta.shape().clone(), DType::F32);
                (updated.clone(), updated.into_buffer_arg())
            }
        };
        // SAFETY: parameter, gradient and moments have `size` vectors each, `scale` has one element, and the kernel checks
        // its position against `size`. A unit reads its vector of the parameter before it writes it.
        unsafe {
            kernels::adamw::launch_unchecked(
                &client,
                cubes,
                units,
                address,
                vector,
                parameter.into_buffer_arg(),
                argument,
                gradient.into_buffer_arg(),
                mean.clone().into_buffer_arg(),
                square.clone().into_buffer_arg(),
                scale.into_buffer_arg(),
                step.mean[0],
                step.mean[1],
                step.square[0],
                step.square[1],
                step.epsilon,
                step.keep,
                step.rate,
                step.root,
                size,
            );
        }
        (updated, mean, square)
    }
}

/// Creates a tensor on the device of another.
fn like(tensor: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(tensor.client.clone(), tensor.device.clone(), shape, dtype)
}

/// Returns the tensor without gaps, in memory that nothing else uses: its own memory or a copy.
fn exclusive(tensor: CubeTensor) -> CubeTensor {
    let tensor = into_contiguous(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

/// Returns the greatest power of two up to `most` that divides `size`.
fn divisor(size: usize, most: usize) -> usize {
    let mut divisor = most;
    while !size.is_multiple_of(divisor) {
        divisor /= 2;
    }
    divisor
}

/// Returns the number of vectors of a tensor, and the number of elements in one.
fn vectors(tensor: &CubeTensor) -> (usize, usize) {
    let size = tensor.meta.num_elements();
    let vector = divisor(size, VECTOR / tensor.dtype.size());
    (size / vector, vector)
}

/// Returns the integer type that can index all of the tensors.
fn address(tensors: &[&CubeTensor]) -> AddressType {
    tensors.iter().map(|tensor| tensor.required_address_type()).max().unwrap_or_default()
}

fn plane_size(client: &Client) -> u32 {
    client.properties().hardware.plane_size_max
}

/// Returns the cubes and units of an element-wise kernel over `size` vectors.
fn elementwise(client: &Client, size: usize) -> (CubeCount, CubeDim) {
    (cube_count(client, size.div_ceil(ELEMENTWISE as usize)), CubeDim::new_1d(ELEMENTWISE))
}

/// Returns at least `cubes` cubes, in as many dimensions as the device needs.
fn cube_count(client: &Client, cubes: usize) -> CubeCount {
    cubecl::calculate_cube_count_elemwise(client, cubes, CubeDim::new_1d(1))
}
