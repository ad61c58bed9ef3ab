//! The CubeCL kernels of [`crate::fused`].
//!
//! All read and write row-major buffers without gaps, in vectors of `N` elements (`N` divides the row, or the whole buffer if there are no
//! rows), and compute in `f32`. No kernel uses a float atomic, and the order of every sum depends on shapes alone, so results are
//! reproducible bit for bit. Exponential and logarithm are implemented here, so that no kernel links the device library of a CUDA toolkit.

// The macro's types have no documentation.
#![allow(missing_docs)]

use cubecl::prelude::*;

/// Returns `e^x` with a relative error below 2.5e-7, clamped to `e^-87` and `e^88`. NaN stays NaN.
#[cube]
fn exp<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let least = Vector::new(-87.0f32);
    let greatest = Vector::new(88.0f32);
    let x = select_many(x.less_than(&least), least, x);
    let x = select_many(x.greater_than(&greatest), greatest, x);
    // The nearest integer to x / ln 2, in the low bits of the mantissa of 1.5 · 2^23.
    let shifted = fma(x, Vector::new(1.442_695_f32), Vector::new(12_582_912.0f32));
    let n = shifted - Vector::new(12_582_912.0f32);
    let r = fma(n, Vector::new(-0.693_145_75f32), x);
    let r = fma(n, Vector::new(-1.428_606_8e-6f32), r);
    let p = fma(Vector::new(1.388_888_9e-3f32), r, Vector::new(8.333_333e-3f32));
    let p = fma(p, r, Vector::new(4.166_666_7e-2f32));
    let p = fma(p, r, Vector::new(0.166_666_67f32));
    let p = fma(p, r, Vector::new(0.5f32));
    let p = fma(p, r, Vector::new(1.0f32));
    let p = fma(p, r, Vector::new(1.0f32));
    let exponent = Vector::<u32, N>::reinterpret(shifted) << Vector::new(23u32);
    p * Vector::<f32, N>::reinterpret(exponent + Vector::new(0x3F80_0000u32))
}

#[cube]
fn exp_scalar(x: f32) -> f32 {
    exp::<Const<1>>(Vector::new(x)).extract(0usize)
}

/// Returns the natural logarithm of a positive finite `x`.
#[cube]
fn ln(x: f32) -> f32 {
    // x = 2^n · m with m from √½ to √2; ln m = 2 artanh((m − 1) / (m + 1)).
    let bits = u32::reinterpret(x) - 0x3F35_04F3u32;
    let n = f32::cast_from(i32::reinterpret(bits) >> 23i32);
    let m = f32::reinterpret((bits & 0x007F_FFFFu32) + 0x3F35_04F3u32);
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let p = fma(0.222_222_22f32, square, 0.285_714_3f32);
    let p = fma(p, square, 0.4f32);
    let p = fma(p, square, 0.666_666_7f32);
    let p = fma(p, square, 2.0f32);
    fma(n, 0.693_147_2f32, s * p)
}

#[cube]
fn sum_of_lanes<N: Size>(vector: Vector<f32, N>) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for lane in 0..N::value() {
        sum += vector.extract(lane);
    }
    sum
}

#[cube]
fn greatest_lane<N: Size>(vector: Vector<f32, N>) -> f32 {
    let mut greatest = vector.extract(0usize);
    #[unroll]
    for lane in 1..N::value() {
        greatest = max(greatest, vector.extract(lane));
    }
    greatest
}

/// Returns the sum of `x` over a plane of `plane` units, which is `x` itself on a device without planes. Units synchronise first, because
/// the shuffles of a plane operation work only among units that execute it together.
#[cube]
fn sum_of_plane(x: f32, #[comptime] plane: u32) -> f32 {
    if comptime!(plane == 1) {
        x
    } else {
        sync_plane();
        plane_sum(x)
    }
}

/// Returns the greatest `x` of a plane, like [`sum_of_plane`].
#[cube]
fn greatest_of_plane(x: f32, #[comptime] plane: u32) -> f32 {
    if comptime!(plane == 1) {
        x
    } else {
        sync_plane();
        plane_max(x)
    }
}

/// Computes softmax, cross-entropy and gradient of one row per cube: `values` contains the logits `[rows, width · N]` and is overwritten
/// with their gradient. A cube has `planes` planes of `plane` units.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn head<F: Float, I: Int, N: Size>(
    values: &mut [Vector<F, N>],
    next: &[I],
    losses: &mut [f32],
    share: f32,
    rows: usize,
    width: usize,
    #[comptime] plane: u32,
    #[comptime] planes: usize,
    #[define(F)] _float: ElemType,
    #[define(I)] _int: ElemType,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let start = row * width;
    let unit = UNIT_POS as usize;
    let units = CUBE_DIM as usize;

    // Not minus infinity: the difference between two of them is NaN.
    let mut top = f32::min_value();
    let mut sums = Vector::<f32, N>::new(0.0f32);
    let mut column = unit;
    while column < width {
        let logits = Vector::<f32, N>::cast_from(values[start + column]);
        let above = greatest_lane::<N>(logits);
        if above > top {
            sums *= Vector::new(exp_scalar(top - above));
            top = above;
        }
        sums += exp::<N>(logits - Vector::new(top));
        column += units;
    }
    let mut sum = sum_of_lanes::<N>(sums);

    // One plane, then the planes in order.
    let plane_top = greatest_of_plane(top, plane);
    sum *= exp_scalar(top - plane_top);
    let plane_sum = sum_of_plane(sum, plane);
    let mut tops = Shared::<[f32]>::new_slice(planes);
    let mut plane_sums = Shared::<[f32]>::new_slice(planes);
    if UNIT_POS_PLANE == 0 {
        tops[PLANE_POS as usize] = plane_top;
        plane_sums[PLANE_POS as usize] = plane_sum;
    }
    // The logit of the next token is read before any unit overwrites the row.
    let next = usize::cast_from(next[row]);
    let mut target = 0.0f32;
    if unit == 0 {
        let vector = Vector::<f32, N>::cast_from(values[start + next / N::value()]);
        #[unroll]
        for lane in 0..N::value() {
            if lane == next % N::value() {
                target = vector.extract(lane);
            }
        }
    }
    sync_cube();
    let mut top = f32::min_value();
    for plane in 0..planes {
        top = max(top, tops[plane]);
    }
    let mut sum = 0.0f32;
    for plane in 0..planes {
        sum += plane_sums[plane] * exp_scalar(tops[plane] - top);
    }
    if unit == 0 {
        // If the sum is not finite, it is returned itself: its logarithm might be finite.
        let log = select(sum <= f32::MAX, ln(sum), sum);
        losses[row] = share * (log + (top - target));
    }

    let scale = Vector::new(share / sum);
    let mut column = unit;
    while column < width {
        let logits = Vector::<f32, N>::cast_from(values[start + column]);
        let mut gradient = exp::<N>(logits - Vector::new(top)) * scale;
        if column == next / N::value() {
            #[unroll]
            for lane in 0..N::value() {
                if lane == next % N::value() {
                    gradient.insert(lane, gradient.extract(lane) - share);
                }
            }
        }
        values[start + column] = Vector::cast_from(gradient);
        column += units;
    }
}

/// Computes layer norm, one row per plane (`CUBE_DIM_X`, `plane` units): `x`, `y` `[rows, width · N]`, `weight`, `bias` `[width · N]`,
/// `mean`, `deviation` (one over it) `[rows]`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn layer_norm<F: Float, N: Size>(
    x: &[Vector<f32, N>],
    weight: &[Vector<f32, N>],
    bias: &[Vector<f32, N>],
    y: &mut [Vector<F, N>],
    means: &mut [f32],
    scales: &mut [f32],
    epsilon: f32,
    rows: usize,
    width: usize,
    #[comptime] plane: u32,
    #[define(F)] _float: ElemType,
) {
    let row = CUBE_POS * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    if row < rows {
        let start = row * width;
        let lane = UNIT_POS_X as usize;
        let lanes = CUBE_DIM_X as usize;
        let size = f32::cast_from(width * N::value());

        let mut sums = Vector::<f32, N>::new(0.0f32);
        let mut column = lane;
        while column < width {
            sums += x[start + column];
            column += lanes;
        }
        let mean = sum_of_plane(sum_of_lanes::<N>(sums), plane) / size;

        let mut squares = Vector::<f32, N>::new(0.0f32);
        let mut column = lane;
        while column < width {
            let difference = x[start + column] - Vector::new(mean);
            squares = fma(difference, difference, squares);
            column += lanes;
        }
        let variance = sum_of_plane(sum_of_lanes::<N>(squares), plane) / size;
        let scale = 1.0 / (variance + epsilon).sqrt();
        if lane == 0 {
            means[row] = mean;
            scales[row] = scale;
        }

        let mut column = lane;
        while column < width {
            let normal = (x[start + column] - Vector::new(mean)) * Vector::new(scale);
            y[start + column] = Vector::cast_from(fma(normal, weight[column], bias[column]));
            column += lanes;
        }
    }
}

/// Computes the gradients of [`layer_norm`], a block of `block` rows per cube: `dx` `[rows, width · N]`, and the sums over the block's rows
/// for weight and bias, `partial` `[blocks, 2, width · N]`. A unit computes the columns `unit + step · CUBE_DIM` for each of `steps` steps.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn layer_norm_backward<F: Float, N: Size>(
    x: &[Vector<f32, N>],
    dy: &[Vector<F, N>],
    weight: &[Vector<f32, N>],
    means: &[f32],
    scales: &[f32],
    dx: &mut [Vector<f32, N>],
    partial: &mut [Vector<f32, N>],
    rows: usize,
    width: usize,
    block: usize,
    #[comptime] steps: usize,
    #[comptime] plane: u32,
    #[comptime] planes: usize,
    #[define(F)] _float: ElemType,
) {
    let unit = UNIT_POS as usize;
    let units = CUBE_DIM as usize;
    let size = f32::cast_from(width * N::value());
    let zero = Vector::<f32, N>::new(0.0f32);

    let mut by_weight = Array::<Vector<f32, N>>::new(steps);
    let mut by_bias = Array::<Vector<f32, N>>::new(steps);
    let mut normals = Array::<Vector<f32, N>>::new(steps);
    let mut slopes = Array::<Vector<f32, N>>::new(steps);
    #[unroll]
    for step in 0..steps {
        by_weight[step] = zero;
        by_bias[step] = zero;
    }
    // Two halves are used alternately, so that one barrier per row is enough.
    let mut sums = Shared::<[f32]>::new_slice(4 * planes);
    let mut half = 0usize;

    let first = CUBE_POS * block;
    if first >= rows {
        terminate!();
    }
    let last = min(first + block, rows);
    for row in first..last {
        let start = row * width;
        let mean = Vector::new(means[row]);
        let scale = Vector::new(scales[row]);
        let mut slope_sums = zero;
        let mut product_sums = zero;
        #[unroll]
        for step in 0..steps {
            let column = unit + step * units;
            normals[step] = zero;
            slopes[step] = zero;
            if column < width {
                let gradient = Vector::<f32, N>::cast_from(dy[start + column]);
                let normal = (x[start + column] - mean) * scale;
                let slope = gradient * weight[column];
                by_weight[step] = fma(gradient, normal, by_weight[step]);
                by_bias[step] += gradient;
                slope_sums += slope;
                product_sums = fma(slope, normal, product_sums);
                normals[step] = normal;
                slopes[step] = slope;
            }
        }
        let slope_sum = sum_of_plane(sum_of_lanes::<N>(slope_sums), plane);
        let product_sum = sum_of_plane(sum_of_lanes::<N>(product_sums), plane);
        let base = half * 2 * planes;
        if UNIT_POS_PLANE == 0 {
            sums[base + PLANE_POS as usize] = slope_sum;
            sums[base + planes + PLANE_POS as usize] = product_sum;
        }
        sync_cube();
        let mut slope_sum = 0.0f32;
        let mut product_sum = 0.0f32;
        for plane in 0..planes {
            slope_sum += sums[base + plane];
            product_sum += sums[base + planes + plane];
        }
        let slope_mean = Vector::new(slope_sum / size);
        let product_mean = Vector::new(product_sum / size);
        #[unroll]
        for step in 0..steps {
            let column = unit + step * units;
            if column < width {
                dx[start + column] = (slopes[step] - slope_mean - normals[step] * product_mean) * scale;
            }
        }
        half = 1 - half;
    }
    let start = CUBE_POS * 2 * width;
    #[unroll]
    for step in 0..steps {
        let column = unit + step * units;
        if column < width {
            partial[start + column] = by_weight[step];
            partial[start + width + column] = by_bias[step];
        }
    }
}

/// Computes the second stage of [`layer_norm_backward`]: sums `partial` `[blocks, 2, width]` over the blocks. A unit of a cube `[x, y]`
/// adds every `CUBE_DIM_Y`th block of one column, and the first row of units adds these sums, in order.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn sum_blocks(
    partial: &[f32],
    by_weight: &mut [f32],
    by_bias: &mut [f32],
    blocks: usize,
    width: usize,
    #[comptime] units: usize,
) {
    let column = CUBE_POS * CUBE_DIM_X as usize + UNIT_POS_X as usize;
    let mut sums = Shared::<[f32]>::new_slice(units);
    let mut sum = 0.0f32;
    if column < 2 * width {
        let mut block = UNIT_POS_Y as usize;
        while block < blocks {
            sum += partial[block * 2 * width + column];
            block += CUBE_DIM_Y as usize;
        }
    }
    sums[UNIT_POS as usize] = sum;
    sync_cube();
    if UNIT_POS_Y == 0 && column < 2 * width {
        let mut sum = 0.0f32;
        for y in 0..CUBE_DIM_Y {
            sum += sums[(y * CUBE_DIM_X + UNIT_POS_X) as usize];
        }
        if column < width {
            by_weight[column] = sum;
        } else {
            by_bias[column - width] = sum;
        }
    }
}

/// Twice √(2/π); the other constant is this times the coefficient of the cube.
const TWICE: f32 = 1.595_769;
const CUBIC: f32 = 0.071_354_814;

/// Computes `x · sigmoid(2u)`, one vector per unit.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn gelu_new<F: Float, N: Size>(
    x: &[Vector<F, N>],
    y: &mut [Vector<F, N>],
    size: usize,
    #[define(F)] _float: ElemType,
) {
    if ABSOLUTE_POS < size {
        let x = Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]);
        let twice = x * fma(x * x, Vector::new(CUBIC), Vector::new(TWICE));
        y[ABSOLUTE_POS] = Vector::cast_from(x / (Vector::new(1.0f32) + exp::<N>(-twice)));
    }
}

/// Computes the gradient of [`gelu_new`] with respect to `x`, one vector per unit; overwrites `dy` with it.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn gelu_new_backward<F: Float, N: Size>(
    x: &[Vector<F, N>],
    dy: &mut [Vector<F, N>],
    size: usize,
    #[define(F)] _float: ElemType,
) {
    if ABSOLUTE_POS < size {
        let x = Vector::<f32, N>::cast_from(x[ABSOLUTE_POS]);
        let gradient = Vector::<f32, N>::cast_from(dy[ABSOLUTE_POS]);
        let one = Vector::new(1.0f32);
        let square = x * x;
        let twice = x * fma(square, Vector::new(CUBIC), Vector::new(TWICE));
        let sigmoid = one / (one + exp::<N>(-twice));
        let slope = fma(square, Vector::new(3.0 * CUBIC), Vector::new(TWICE));
        let slope = fma(x * sigmoid * (one - sigmoid), slope, sigmoid);
        dy[ABSOLUTE_POS] = Vector::cast_from(gradient * slope);
    }
}

/// Computes one step of AdamW, one vector per unit: `updated` may be `parameter`, and the moments are overwritten; `scale` `[1]` multiplies
/// the gradient. The numbers are those of [`super::AdamWStep`].
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn adamw<N: Size>(
    parameter: &[Vector<f32, N>],
    updated: &mut [Vector<f32, N>],
    gradient: &[Vector<f32, N>],
    mean: &mut [Vector<f32, N>],
    square: &mut [Vector<f32, N>],
    scale: &[f32],
    mean_kept: f32,
    mean_added: f32,
    square_kept: f32,
    square_added: f32,
    epsilon: f32,
    keep: f32,
    rate: f32,
    root: f32,
    size: usize,
) {
    if ABSOLUTE_POS < size {
        let g = gradient[ABSOLUTE_POS] * Vector::new(scale[0]);
        let m = fma(mean[ABSOLUTE_POS], Vector::new(mean_kept), g * Vector::new(mean_added));
        let v = fma(square[ABSOLUTE_POS], Vector::new(square_kept), g * g * Vector::new(square_added));
        let divisor = fma(v.sqrt(), Vector::new(root), Vector::new(epsilon));
        let change = m / divisor * Vector::new(-rate);
        mean[ABSOLUTE_POS] = m;
        square[ABSOLUTE_POS] = v;
        updated[ABSOLUTE_POS] = fma(parameter[ABSOLUTE_POS], Vector::new(keep), change);
    }
}
