//! The loops of [`super::flex`] over slices.
//!
//! Each is written once, portably, and compiled three times on x86-64: for AVX-512, for AVX2 with FMA, and for any processor;
//! [`std::arch::is_x86_feature_detected`] chooses at run time. Sums use 64 partial sums by position, which are added in order, and products
//! are added by fused multiply-adds, so all variants produce the same bits.

use burn::tensor::bf16;

use super::AdamWStep;

/// The number of partial sums in a sum over a row.
const LANES: usize = 64;

/// A float type in memory.
pub trait Value: Copy + Send + Sync + 'static {
    fn get(self) -> f32;
    fn put(value: f32) -> Self;
}

impl Value for f32 {
    #[inline(always)]
    fn get(self) -> f32 {
        self
    }

    #[inline(always)]
    fn put(value: f32) -> Self {
        value
    }
}

impl Value for bf16 {
    #[inline(always)]
    fn get(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    /// Rounds to the nearest, ties to even, like `bf16::from_f32`, without its branch.
    #[inline(always)]
    fn put(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
        bf16::from_bits(if value.is_nan() { bits >> 16 | 0x40 } else { rounded >> 16 } as u16)
    }
}

/// Defines a function, and a module of its name with the variants of the module documentation.
macro_rules! loops {
    ($(
        $(#[$doc:meta])*
        pub fn $name:ident<$($t:ident),*>($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block
    )*) => {$(
        mod $name {
            use super::*;

            #[inline(always)]
            pub fn portable<$($t: Value),*>($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma")]
            pub fn avx512<$($t: Value),*>($($arg: $type),*) $(-> $result)? {
                portable::<$($t),*>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            pub fn avx2<$($t: Value),*>($($arg: $type),*) $(-> $result)? {
                portable::<$($t),*>($($arg),*)
            }
        }

        $(#[$doc])*
        pub fn $name<$($t: Value),*>($($arg: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the only condition of the variants is that the processor has the features that they name, and
                // each is called only where the standard library reports its features.
                return unsafe {
                    match is_x86_feature_detected!("avx512f") {
                        true => $name::avx512::<$($t),*>($($arg),*),
                        false => $name::avx2::<$($t),*>($($arg),*),
                    }
                };
            }
            $name::portable::<$($t),*>($($arg),*)
        }
    )*};
}

loops! {
    /// Computes [`super::gelu_new`] of each `x`.
    pub fn gelu<T>(x: &[T], y: &mut [T]) {
        for (x, y) in x.iter().zip(y) {
            let x = x.get();
            let twice = x * (x * x).mul_add(CUBIC, TWICE);
            *y = T::put(x / (1.0 + exp(-twice)));
        }
    }

    /// Computes [`gelu`] in place.
    pub fn gelu_in_place<>(x: &mut [f32]) {
        for x in x {
            let twice = *x * (*x * *x).mul_add(CUBIC, TWICE);
            *x /= 1.0 + exp(-twice);
        }
    }

    /// Replaces each `x` by `e^(x − greatest)` and returns their sum: the softmax without the division.
    pub fn softmax_powers<>(x: &mut [f32]) -> f32 {
        let mut tops = [f32::MIN; LANES];
        let mut raise = |x: &[f32]| {
            for (x, top) in x.iter().zip(&mut tops) {
                *top = if *x > *top { *x } else { *top };
            }
        };
        let (whole, rest) = x.as_chunks::<LANES>();
        whole.iter().for_each(|x| raise(x));
        raise(rest);
        let top = tops.iter().fold(f32::MIN, |top, more| if *more > top { *more } else { top });
        for x in x.iter_mut() {
            *x = exp(*x - top);
        }
        sum(x, |x| x)
    }

    /// Replaces the first `count` scores by their shares after a multiplication by `scale`, and the others by 0. Returns the logarithm of
    /// the sum of the powers.
    pub fn softmax<>(scores: &mut [f32], count: usize, scale: f32) -> f32 {
        let (scores, later) = scores.split_at_mut(count);
        let mut tops = [f32::MIN; LANES];
        let mut raise = |scores: &mut [f32]| {
            for (score, top) in scores.iter_mut().zip(&mut tops) {
                *score *= scale;
                *top = if *score > *top { *score } else { *top };
            }
        };
        let (whole, rest) = scores.as_chunks_mut::<LANES>();
        whole.iter_mut().for_each(|scores| raise(scores));
        raise(rest);
        let top = tops.iter().fold(f32::MIN, |top, more| if *more > top { *more } else { top });
        for score in scores.iter_mut() {
            *score = exp(*score - top);
        }
        let sum = sum(scores, |power| power);
        let share = 1.0 / sum;
        scores.iter_mut().for_each(|power| *power *= share);
        later.fill(0.0);
        top + libm::logf(sum)
    }

    /// Replaces the first `count` scores by their shares, from the logarithm of [`softmax`], and the gradients by shares by those by scores,
    /// where `mean` is the mean of the gradients by shares; the others by 0.
    pub fn softmax_backward<>(
        scores: &mut [f32],
        by_shares: &mut [f32],
        count: usize,
        scale: f32,
        sum: f32,
        mean: f32,
    ) {
        let ((scores, later), (by_shares, by_later)) = (scores.split_at_mut(count), by_shares.split_at_mut(count));
        for (score, by_share) in scores.iter_mut().zip(by_shares) {
            *score = exp(score.mul_add(scale, -sum));
            *by_share = *score * (*by_share - mean) * scale;
        }
        later.fill(0.0);
        by_later.fill(0.0);
    }

    /// Returns the sum of the products.
    pub fn dot<>(x: &[f32], y: &[f32]) -> f32 {
        let mut sums = [0f32; LANES];
        let mut add = |x: &[f32], y: &[f32]| {
            for ((x, y), sum) in x.iter().zip(y).zip(&mut sums) {
                *sum = x.mul_add(*y, *sum);
            }
        };
        let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
        xs.iter().zip(ys).for_each(|(x, y)| add(x, y));
        add(x_rest, y_rest);
        sums.iter().sum()
    }

    /// Multiplies each `dy` by the slope of [`super::gelu_new`] at `x`.
    pub fn gelu_backward<T>(x: &[T], dy: &mut [T]) {
        for (x, dy) in x.iter().zip(dy) {
            let x = x.get();
            let square = x * x;
            let sigmoid = 1.0 / (1.0 + exp(-(x * square.mul_add(CUBIC, TWICE))));
            let slope = square.mul_add(3.0 * CUBIC, TWICE);
            let slope = (x * sigmoid * (1.0 - sigmoid)).mul_add(slope, sigmoid);
            *dy = T::put(dy.get() * slope);
        }
    }

    /// Computes the layer norm of one row; returns the mean, and one over the deviation.
    pub fn layer_norm<T>(x: &[f32], weight: &[f32], bias: &[f32], y: &mut [T], epsilon: f32) -> (f32, f32) {
        let size = x.len() as f32;
        let mean = sum(x, |x| x) / size;
        let variance = sum(x, |x| (x - mean) * (x - mean)) / size;
        let scale = 1.0 / (variance + epsilon).sqrt();
        for ((x, y), (weight, bias)) in x.iter().zip(y).zip(weight.iter().zip(bias)) {
            *y = T::put(((x - mean) * scale).mul_add(*weight, *bias));
        }
        (mean, scale)
    }

    /// Computes the gradient of one row of a layer norm with respect to `x`; adds those with respect to weight and bias to `by_weight` and
    /// `by_bias`.
    pub fn layer_norm_backward<T>(
        x: &[f32],
        dy: &[T],
        weight: &[f32],
        statistics: (f32, f32),
        dx: &mut [f32],
        by_weight: &mut [f32],
        by_bias: &mut [f32],
    ) {
        let (mean, scale) = statistics;
        let size = x.len() as f32;
        let (mut slopes, mut products) = ([0f32; LANES], [0f32; LANES]);
        let mut add = |x: &[f32], dy: &[T], weight: &[f32], by_weight: &mut [f32], by_bias: &mut [f32]| {
            let columns = x.iter().zip(dy).zip(weight).zip(by_weight.iter_mut().zip(by_bias));
            let sums = slopes.iter_mut().zip(&mut products);
            for ((((x, dy), weight), (by_weight, by_bias)), (slopes, products)) in columns.zip(sums) {
                let (normal, dy) = ((x - mean) * scale, dy.get());
                let slope = dy * weight;
                *by_weight = dy.mul_add(normal, *by_weight);
                *by_bias += dy;
                *slopes += slope;
                *products = slope.mul_add(normal, *products);
            }
        };
        let (xs, x_rest) = x.as_chunks::<LANES>();
        let (dys, dy_rest) = dy.as_chunks::<LANES>();
        let (weights, weight_rest) = weight.as_chunks::<LANES>();
        let (by_weights, by_weight_rest) = by_weight.as_chunks_mut::<LANES>();
        let (by_biases, by_bias_rest) = by_bias.as_chunks_mut::<LANES>();
        for (((x, dy), weight), (by_weight, by_bias)) in
            xs.iter().zip(dys).zip(weights).zip(by_weights.iter_mut().zip(by_biases))
        {
            add(x, dy, weight, by_weight, by_bias);
        }
        add(x_rest, dy_rest, weight_rest, by_weight_rest, by_bias_rest);
        let slope_mean = slopes.iter().sum::<f32>() / size;
        let product_mean = products.iter().sum::<f32>() / size;
        for (((x, dy), weight), dx) in x.iter().zip(dy).zip(weight).zip(dx) {
            let normal = (x - mean) * scale;
            *dx = normal.mul_add(-product_mean, dy.get() * weight - slope_mean) * scale;
        }
    }

    /// Computes [`super::head`] for one row: returns the loss, and replaces the logits by the gradient. `scratch` is as long as a row.
    pub fn head<T>(row: &mut [T], scratch: &mut [f32], next: usize, share: f32) -> f32 {
        let mut tops = [f32::MIN; LANES];
        let mut widen = |row: &[T], scratch: &mut [f32]| {
            for ((logit, scratch), top) in row.iter().zip(scratch).zip(&mut tops) {
                *scratch = logit.get();
                *top = if *scratch > *top { *scratch } else { *top };
            }
        };
        let ((rows, rest), (scratches, scratch_rest)) = (row.as_chunks::<LANES>(), scratch.as_chunks_mut::<LANES>());
        rows.iter().zip(scratches).for_each(|(row, scratch)| widen(row, scratch));
        widen(rest, scratch_rest);
        let top = tops.iter().fold(f32::MIN, |top, more| if *more > top { *more } else { top });
        let target = scratch[next];
        let mut sums = [0f32; LANES];
        let mut raise = |scratch: &mut [f32]| {
            for (value, sum) in scratch.iter_mut().zip(&mut sums) {
                *value = exp(*value - top);
                *sum += *value;
            }
        };
        let (scratches, scratch_rest) = scratch.as_chunks_mut::<LANES>();
        scratches.iter_mut().for_each(|scratch| raise(scratch));
        raise(scratch_rest);
        let sum = sums.iter().sum::<f32>();
        let scale = share / sum;
        for (value, scratch) in row.iter_mut().zip(scratch.iter()) {
            *value = T::put(scratch * scale);
        }
        row[next] = T::put(scratch[next].mul_add(scale, -share));
        share * (libm::logf(sum) + (top - target))
    }

    /// Returns the sum of squares.
    pub fn sum_squares<>(x: &[f32]) -> f32 {
        sum(x, |x| x * x)
    }

    /// Computes [`super::adamw`].
    pub fn adamw<>(
        parameter: &mut [f32],
        gradient: &[f32],
        mean: &mut [f32],
        square: &mut [f32],
        scale: f32,
        step: AdamWStep,
    ) {
        for (((p, g), m), v) in parameter.iter_mut().zip(gradient).zip(mean).zip(square) {
            let g = g * scale;
            *m = m.mul_add(step.mean[0], g * step.mean[1]);
            *v = v.mul_add(step.square[0], g * g * step.square[1]);
            *p = p.mul_add(step.keep, -step.rate * (*m / v.sqrt().mul_add(step.root, step.epsilon)));
        }
    }
}

/// Twice √(2/π); the other constant is this times the coefficient of the cube.
const TWICE: f32 = 1.595_769;
const CUBIC: f32 = 0.071_354_814;

/// Returns `e^x` with a relative error below 2.5e-7, clamped to `e^-87` and `e^88`. NaN stays NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    // The nearest integer to x / ln 2, in the low bits of the mantissa of 1.5 · 2^23.
    let shifted = x.mul_add(std::f32::consts::LOG2_E, 12_582_912.0);
    let n = shifted - 12_582_912.0;
    let r = n.mul_add(-0.693_145_75, x);
    let r = n.mul_add(-1.428_606_8e-6, r);
    let p = 1.388_888_9e-3_f32.mul_add(r, 8.333_333e-3);
    let p = p.mul_add(r, 4.166_666_7e-2);
    let p = p.mul_add(r, 0.166_666_67);
    let p = p.mul_add(r, 0.5);
    let p = p.mul_add(r, 1.0);
    let p = p.mul_add(r, 1.0);
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3F80_0000))
}

/// Returns the sum of `f` over a row.
#[inline(always)]
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let mut add = |x: &[f32]| x.iter().zip(&mut sums).for_each(|(x, sum)| *sum += f(*x));
    let (whole, rest) = x.as_chunks::<LANES>();
    whole.iter().for_each(|x| add(x));
    add(rest);
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from -10 to 10, the same in each run.
    fn values(size: usize, seed: u32) -> Vec<f32> {
        crate::test_values::values(size, seed).into_iter().map(|value| 10.0 * value).collect()
    }

    #[test]
    fn the_exponential_is_that_of_libm() {
        for x in (-8700..8800).map(|x| x as f32 / 100.0) {
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() < 2.5e-7 * exact, "{x}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 2e-38 && exp(f32::INFINITY) > 1e38);
    }

    #[test]
    fn bf16_is_rounded_to_the_nearest() {
        for bits in (0..=u32::MAX).step_by(65_521) {
            let value = f32::from_bits(bits);
            assert_eq!(bf16::put(value).to_bits(), bf16::from_f32(value).to_bits(), "{value}");
            assert_eq!(bf16::put(value).get().to_bits(), bf16::from_f32(value).to_f32().to_bits(), "{value}");
        }
    }

    /// Runs the variants of a loop that the processor has, each after `setup`, and asserts that they return and write the
    /// same bits.
    macro_rules! agree {
        ({ $($setup:tt)* } $name:ident::<$($t:ty),*>($($arg:expr),*) => $written:expr) => {{
            let bits = |written: &[&[f32]]| written.concat().iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            let expected = {
                $($setup)*
                ($name::portable::<$($t),*>($($arg),*), bits(&$written))
            };
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                let found = {
                    $($setup)*
                    // SAFETY: the processor has the features of the variant.
                    (unsafe { $name::avx2::<$($t),*>($($arg),*) }, bits(&$written))
                };
                assert_eq!(found, expected, "{} with AVX2", stringify!($name));
                if is_x86_feature_detected!("avx512f") {
                    let found = {
                        $($setup)*
                        // SAFETY: as above.
                        (unsafe { $name::avx512::<$($t),*>($($arg),*) }, bits(&$written))
                    };
                    assert_eq!(found, expected, "{} with AVX-512", stringify!($name));
                }
            }
        }};
    }

    #[test]
    fn all_variants_have_the_same_bits() {
        let step =
            AdamWStep { mean: [0.9, 0.1], square: [0.999, 0.001], epsilon: 1e-8, keep: 0.99, rate: 0.003, root: 2.0 };
        for size in [1, 63, 64, 65, 1000] {
            let [x, w, b, dy] = [1, 2, 3, 4].map(|seed| values(size, seed));
            let zeros = vec![0f32; size];
            agree!({ let mut y = zeros.clone(); } gelu::<f32>(&x, &mut y) => [&y[..]]);
            agree!({ let mut x = x.clone(); } gelu_in_place::<>(&mut x) => [&x[..]]);
            agree!({ let mut x = x.clone(); } softmax_powers::<>(&mut x) => [&x[..]]);
            agree!({ let mut dy = dy.clone(); } gelu_backward::<f32>(&x, &mut dy) => [&dy[..]]);
            agree!({ let mut y = zeros.clone(); } layer_norm::<f32>(&x, &w, &b, &mut y, 1e-5) => [&y[..]]);
            agree!(
                { let (mut dx, mut dw, mut db) = (zeros.clone(), w.clone(), b.clone()); }
                layer_norm_backward::<f32>(&x, &dy, &w, (0.1, 0.2), &mut dx, &mut dw, &mut db) => [&dx[..], &dw, &db]
            );
            agree!(
                { let (mut row, mut scratch) = (x.clone(), zeros.clone()); }
                head::<f32>(&mut row, &mut scratch, size / 2, 0.5) => [&row[..]]
            );
            agree!({} sum_squares::<>(&x) => [&[][..]]);
            let squares: Vec<f32> = b.iter().map(|value| value * value).collect();
            agree!(
                { let (mut p, mut m, mut v) = (x.clone(), w.clone(), squares.clone()); }
                adamw::<>(&mut p, &dy, &mut m, &mut v, 0.5, step) => [&p[..], &m, &v]
            );
        }
    }
}
