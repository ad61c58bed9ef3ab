//! The fused operations against the formulas in `f64` and slopes by central differences, on the CPU, and on the first GPU
//! where the program has CUDA and the machine a GPU.

use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use model::fused::{self, AdamWStep};
use model::parameters::host_values;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

fn devices() -> Vec<Device> {
    let gpu = model::device::resolve(contract::Device::Cuda(0));
    if let Err(why) = &gpu {
        eprintln!("on the CPU only: {why:?}");
    }
    std::iter::once(Device::flex()).chain(gpu).collect()
}

/// Types with the relative error that a result of the type has.
const TYPES: [(FloatDType, f64); 2] = [(FloatDType::F32, 2e-6), (FloatDType::BF16, 4e-3)];

/// Sizes of rows and columns around those of vectors, partial sums, blocks and cubes.
const SHAPES: [[usize; 2]; 8] = [[1, 1], [2, 3], [15, 64], [16, 63], [17, 65], [40, 96], [5, 768], [3, 1600]];

fn random(size: usize, scale: f32, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..size).map(|_| (random.next_u32() as f32 / u32::MAX as f32 - 0.5) * 2.0 * scale).collect()
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], dtype: FloatDType, device: &Device) -> Tensor<D> {
    Tensor::<D>::from_data(TensorData::new(values.to_vec(), shape), device).cast(dtype)
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let size = tensor.shape().num_elements();
    host_values(tensor.cast(FloatDType::F32).reshape([size])).unwrap()
}

/// The values as a tensor of the type holds them.
fn held(values: &[f32], dtype: FloatDType) -> Vec<f64> {
    let rounded = tensor(values, [values.len()], dtype, &Device::flex());
    floats(rounded).into_iter().map(f64::from).collect()
}

/// Asserts that values are near: `tolerance` times their size, or times `scale` where they are smaller.
fn near(what: &str, ours: &[f32], theirs: &[f64], tolerance: f64, scale: f64) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let difference = (f64::from(*ours) - theirs).abs();
        assert!(difference <= tolerance * theirs.abs().max(scale), "{what} at {at}: {ours}, expected {theirs}");
    }
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

#[test]
fn gelu_and_its_gradient_are_those_of_the_formula() {
    for device in devices() {
        for (dtype, tolerance) in TYPES {
            for size in [1, 7, 64, 100_000] {
                let (x, dy) = (random(size, 6.0, 1), random(size, 1.0, 2));
                let input = tensor(&x, [size], dtype, &device.clone().autodiff()).require_grad();
                let y = fused::gelu_new(input.clone());
                let (x, held_dy) = (held(&x, dtype), held(&dy, dtype));
                near(
                    "gelu",
                    &floats(y.clone().inner()),
                    &x.iter().map(|x| gelu(*x)).collect::<Vec<_>>(),
                    tolerance,
                    0.1,
                );
                let weighted = y * Tensor::from_inner(tensor(&dy, [size], dtype, &device));
                let gradient = input.grad(&weighted.sum().backward()).unwrap();
                let slopes = x.iter().map(|x| (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5).zip(&held_dy);
                let expected: Vec<f64> = slopes.map(|(slope, dy)| slope * dy).collect();
                near("slope of gelu", &floats(gradient), &expected, 2.0 * tolerance, 0.3);
            }
        }
    }
}

fn layer_norm(x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
    let rows = x.chunks(w.len()).flat_map(|x| {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let normal = move |x: &f64| (x - mean) / (variance + 1e-5).sqrt();
        x.iter().zip(w.iter().zip(b)).map(move |(x, (w, b))| normal(x) * w + b).collect::<Vec<_>>()
    });
    rows.collect()
}

#[test]
fn layer_norm_and_its_gradients_are_those_of_the_formula() {
    for device in devices() {
        for ((dtype, tolerance), [rows, width]) in
            TYPES.into_iter().flat_map(|dtype| SHAPES.map(|shape| (dtype, shape)))
        {
            let (x, dy) = (random(rows * width, 3.0, 3), random(rows * width, 1.0, 4));
            let (w, b) = (random(width, 1.0, 5), random(width, 1.0, 6));
            let leaf = |values: &[f32]| {
                tensor(values, [values.len()], FloatDType::F32, &device.clone().autodiff()).require_grad()
            };
            let inputs = [&x, &w, &b].map(|values| leaf(values));
            let [input, weight, bias] = inputs.clone();
            let y = fused::layer_norm(input.reshape([rows, width]), weight, bias, 1e-5, dtype);
            let output = floats(y.clone().inner());
            let weighted = y * Tensor::from_inner(tensor(&dy, [rows, width], dtype, &device));
            let gradients = weighted.sum().backward();
            let gradients = inputs.map(|input| floats(input.grad(&gradients).unwrap()));

            let dy = held(&dy, dtype);
            let [x, w, b] = [x, w, b].map(|values| held(&values, FloatDType::F32));
            near("layer norm", &output, &layer_norm(&x, &w, &b), 4.0 * tolerance, 1.0);
            let normal = layer_norm(&x, &vec![1.0; width], &vec![0.0; width]);
            let column_sums = |values: Vec<f64>| -> Vec<f64> {
                (0..width).map(|column| values.iter().skip(column).step_by(width).sum()).collect()
            };
            let by_weight = column_sums(dy.iter().zip(&normal).map(|(dy, normal)| dy * normal).collect());
            // Slopes by x: of the sum of dy · y, a row at a time.
            let slopes = (0..rows * width).map(|at| {
                let (row, mut moved) = (at / width, x[at / width * width..][..width].to_vec());
                let mut value = |step: f64| {
                    moved[at % width] = x[at] + step;
                    layer_norm(&moved, &w, &b).iter().zip(&dy[row * width..]).map(|(y, dy)| y * dy).sum::<f64>()
                };
                (value(1e-5) - value(-1e-5)) / 2e-5
            });
            // The gradient reaches the layer norm in the type of its result, exactly here.
            let scale = (rows as f64).sqrt();
            near("by x", &gradients[0], &slopes.collect::<Vec<_>>(), 1e-5, 1.0);
            near("by weight", &gradients[1], &by_weight, 1e-5, scale);
            near("by bias", &gradients[2], &column_sums(dy), 1e-5, scale);
        }
    }
}

#[test]
fn the_head_has_the_loss_and_gradient_of_the_formula() {
    for device in devices() {
        for (dtype, tolerance) in TYPES {
            for [rows, vocabulary] in [[1, 2], [3, 63], [5, 65], [2, 4096], [3, 50_257]] {
                let logits = random(rows * vocabulary, 9.0, 7);
                let next: Vec<i32> = (0..rows).map(|row| ((row * 31 + vocabulary - 1) % vocabulary) as i32).collect();
                let ids = Tensor::<1, Int>::from_data(TensorData::new(next.clone(), [rows]), &device);
                let input = tensor(&logits, [rows, vocabulary], dtype, &device);
                let kept = input.clone();
                let (losses, gradient) = fused::head(input, ids, 0.25);
                let logits = held(&logits, dtype);
                assert_eq!(floats(kept).len(), logits.len(), "the logits are still those of their other owner");
                let (mut expected_losses, mut expected) = (Vec::new(), Vec::new());
                for (row, next) in logits.chunks(vocabulary).zip(&next) {
                    let sum = row.iter().map(|logit| logit.exp()).sum::<f64>();
                    expected_losses.push(0.25 * (sum.ln() - row[*next as usize]));
                    let label = |at: usize| f64::from(u8::from(at == *next as usize));
                    expected.extend(row.iter().enumerate().map(|(at, logit)| 0.25 * (logit.exp() / sum - label(at))));
                }
                near("losses", &floats(losses), &expected_losses, 2e-6, 0.25);
                near("gradient", &floats(gradient), &expected, 2.0 * tolerance, 1e-3);
            }
        }
    }
}

#[test]
fn the_head_works_in_the_memory_of_the_logits_and_leaves_a_copy_alone() {
    for device in devices() {
        let logits = tensor(&[1.0, 2.0, 3.0, 4.0], [2, 2], FloatDType::F32, &device);
        let next = Tensor::<1, Int>::from_data(TensorData::new(vec![0, 1], [2]), &device);
        let (_, gradient) = fused::head(logits.clone(), next, 1.0);
        assert_eq!(floats(logits), [1.0, 2.0, 3.0, 4.0]);
        let share = 1.0 / (1.0 + 1f64.exp());
        near("gradient", &floats(gradient), &[share - 1.0, 1.0 - share, share, -share], 1e-6, 1.0);
    }
}

#[test]
fn extreme_logits_have_finite_losses_and_a_value_that_is_not_a_number_spreads() {
    for device in devices() {
        let next = || Tensor::<1, Int>::from_data(TensorData::new(vec![0, 1, 2], [3]), &device);
        let mut logits = vec![-1e30, 1e4, -1e4, 0.0, 0.0, 0.0, 3e38, -3e38, f32::NEG_INFINITY];
        let (losses, gradient) = fused::head(tensor(&logits, [3, 3], FloatDType::F32, &device), next(), 1.0);
        let losses = floats(losses);
        assert!(losses[0] > 9.9e29 && losses[2] == f32::INFINITY, "{losses:?}");
        assert!((losses[1] - 3f32.ln()).abs() < 1e-6, "{losses:?}");
        near("gradient", &floats(gradient)[..3], &[-1.0, 1.0, 0.0], 1e-6, 1.0);
        logits[4] = f32::NAN;
        let (losses, gradient) = fused::head(tensor(&logits, [3, 3], FloatDType::F32, &device), next(), 1.0);
        assert!(floats(losses)[1].is_nan());
        assert!(floats(gradient)[3..6].iter().all(|value| value.is_nan()));
        let nan = tensor(&[f32::NAN, 1.0], [2], FloatDType::F32, &device);
        let y = floats(fused::gelu_new(nan));
        assert!(y[0].is_nan() && (f64::from(y[1]) - gelu(1.0)).abs() < 1e-6, "{y:?}");
    }
}

#[test]
fn adamw_is_the_formula_and_leaves_other_owners_alone() {
    let step = AdamWStep { mean: [0.9, 0.1], square: [0.999, 0.001], epsilon: 1e-3, keep: 0.97, rate: 0.05, root: 1.5 };
    for device in devices() {
        for size in [1, 5, 64, 100_001] {
            let [p, g, m] = [8, 9, 10].map(|seed| random(size, 1.0, seed));
            let v: Vec<f32> = random(size, 1.0, 11).iter().map(|value| value * value).collect();
            let [parameter, gradient, mean, square] =
                [&p, &g, &m, &v].map(|values| tensor(values, [size], FloatDType::F32, &device));
            let scale = tensor(&[0.5], [1], FloatDType::F32, &device);
            let shared = parameter.clone();
            let (parameter, moments) = fused::adamw(parameter, gradient.clone(), [mean, square], scale, step);
            assert_eq!(floats(shared), p);
            assert_eq!(floats(gradient), g);
            let [p, g, m, v] = [p, g, m, v].map(|values| held(&values, FloatDType::F32));
            let g: Vec<f64> = g.iter().map(|g| g * 0.5).collect();
            let m: Vec<f64> = m.iter().zip(&g).map(|(m, g)| 0.9 * m + 0.1 * g).collect();
            let v: Vec<f64> = v.iter().zip(&g).map(|(v, g)| 0.999 * v + 0.001 * g * g).collect();
            let change = m.iter().zip(&v).map(|(m, v)| 0.05 * m / (1.5 * v.sqrt() + 1e-3));
            let p: Vec<f64> = p.iter().zip(change).map(|(p, change)| 0.97 * p - change).collect();
            let [mean, square] = moments;
            near("parameter", &floats(parameter), &p, 2e-6, 1.0);
            near("mean", &floats(mean), &m, 1e-6, 1e-1);
            near("square", &floats(square), &v, 1e-6, 1e-1);
        }
    }
}

#[test]
fn the_sum_of_squares_is_that_of_the_values() {
    for device in devices() {
        for size in [1, 63, 65, 100_001] {
            let x = random(size, 3.0, 12);
            let exact = x.iter().map(|x| f64::from(*x).powi(2)).sum();
            let sum = fused::sum_squares(tensor(&x, [size], FloatDType::F32, &device));
            near("sum of squares", &floats(sum), &[exact], 2e-6, 1e-3);
        }
    }
}

/// Everything that the operations compute from fixed values, bit by bit.
fn bits(device: &Device) -> Vec<u32> {
    let (rows, width) = (70, 600);
    let autodiff = device.clone().autodiff();
    let leaf = |size, seed| tensor(&random(size, 2.0, seed), [size], FloatDType::F32, &autodiff).require_grad();
    let [x, w, b] = [leaf(rows * width, 1), leaf(width, 2), leaf(width, 3)];
    let normal = fused::layer_norm(x.clone().reshape([rows, width]), w.clone(), b.clone(), 1e-5, FloatDType::F32);
    let y = fused::gelu_new(normal);
    let next = Tensor::<1, Int>::from_data(TensorData::new(vec![7; rows], [rows]), device);
    let (losses, by_y) = fused::head(y.clone().inner(), next, 1.0);
    let gradients = (y * Tensor::from_inner(by_y)).sum().backward();
    let by = [&x, &w, &b].map(|leaf| leaf.grad(&gradients).unwrap());
    let step = AdamWStep { mean: [0.9, 0.1], square: [0.9, 0.1], epsilon: 1e-8, keep: 1.0, rate: 0.1, root: 1.0 };
    let one = tensor(&[1.0], [1], FloatDType::F32, device);
    let moments = [x.clone().inner().zeros_like(), x.clone().inner().zeros_like()];
    let (parameter, moments) = fused::adamw(x.inner(), by[0].clone(), moments, one, step);
    let leaves = [4, 5, 6].map(|seed| leaf(3 * 40 * 16, seed));
    let [q, k, v] = leaves.clone().map(|leaf| leaf.reshape([1, 3, 40, 16]));
    let by_q =
        leaves[0].grad(&fused::causal_attention(q, k, v, fused::causal_mask(40, &autodiff)).sum().backward()).unwrap();
    let squares = fused::sum_squares(parameter.clone());
    let all = [vec![losses, parameter, by_q, squares], by.to_vec(), moments.to_vec()].concat();
    all.into_iter().flat_map(floats).map(f32::to_bits).collect()
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads_and_repeat() {
    for device in devices() {
        let with =
            |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| bits(&device));
        let one = with(1);
        for threads in [1, 2, 3, 5] {
            assert!(with(threads) == one, "{threads} threads compute other bits than one");
        }
    }
}

/// Attention of one sequence and head by the formulas, with its gradients: `q`, `k`, `v` and `dy` `[sequence, width]`.
fn attention(width: usize, [q, k, v, dy]: [&[f64]; 4]) -> [Vec<f64>; 4] {
    let sequence = q.len() / width;
    let row = |values: &[f64], at: usize| values[at * width..(at + 1) * width].to_vec();
    let dot = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(one, other)| one * other).sum::<f64>();
    let scale = 1.0 / (width as f64).sqrt();
    let [mut y, mut by_q, mut by_k, mut by_v] = [(); 4].map(|()| vec![0.0; q.len()]);
    for at in 0..sequence {
        let scores: Vec<f64> = (0..=at).map(|before| dot(&row(q, at), &row(k, before)) * scale).collect();
        let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|score| (score - highest).exp()).sum();
        let shares: Vec<f64> = scores.iter().map(|score| (score - highest).exp() / sum).collect();
        let by_share: Vec<f64> = (0..=at).map(|before| dot(&row(dy, at), &row(v, before))).collect();
        let mean = dot(&shares, &by_share);
        for before in 0..=at {
            let by_score = shares[before] * (by_share[before] - mean) * scale;
            for column in 0..width {
                y[at * width + column] += shares[before] * v[before * width + column];
                by_v[before * width + column] += shares[before] * dy[at * width + column];
                by_q[at * width + column] += by_score * k[before * width + column];
                by_k[before * width + column] += by_score * q[at * width + column];
            }
        }
    }
    [y, by_q, by_k, by_v]
}

#[test]
fn attention_and_its_gradients_are_those_of_the_formula() {
    // In bf16 large scores would be wrong by a tenth of themselves, were they rounded.
    let formats = [(FloatDType::F32, 1.0, 1e-5), (FloatDType::BF16, 1.0, 2e-2), (FloatDType::BF16, 6.0, 3e-2)];
    for device in devices() {
        for (dtype, scale, tolerance) in formats {
            for [batch, heads, sequence, width] in [[1, 1, 1, 1], [2, 3, 5, 4], [1, 2, 33, 64], [3, 1, 17, 8]] {
                let (shape, size) = ([batch, heads, sequence, width], batch * heads * sequence * width);
                let values = [1, 2, 3, 4].map(|seed| random(size, scale, seed));
                let autodiff = device.clone().autodiff();
                let [q, k, v] = [0, 1, 2].map(|at| tensor(&values[at], shape, dtype, &autodiff).require_grad());
                let mask = fused::causal_mask(sequence, &autodiff);
                let y = fused::causal_attention(q.clone(), k.clone(), v.clone(), mask);
                let weighted = y.clone() * Tensor::from_inner(tensor(&values[3], shape, dtype, &device));
                let gradients = weighted.sum().backward();
                let mut ours = vec![floats(y.inner())];
                ours.extend([&q, &k, &v].map(|input| floats(input.grad(&gradients).unwrap())));
                let inputs = values.map(|values| held(&values, dtype));
                let part = sequence * width;
                for at in 0..batch * heads {
                    let theirs = attention(width, [0, 1, 2, 3].map(|input| &inputs[input][at * part..(at + 1) * part]));
                    for (name, (ours, theirs)) in ["y", "by q", "by k", "by v"].iter().zip(ours.iter().zip(&theirs)) {
                        near(
                            &format!("{name} {shape:?}"),
                            &ours[at * part..(at + 1) * part],
                            theirs,
                            tolerance,
                            0.3 * f64::from(scale * scale),
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn attention_in_chunks_of_sequences_is_that_of_all_at_once() {
    use burn::backend::{Flex, TensorMetadata, ops::FloatTensorOps, tensor::FloatTensor};

    let shape = [5, 2, 6, 4];
    let device = Default::default();
    let primitive = |seed: u64, shape: [usize; 4]| {
        let values = random(shape.iter().product(), 1.0, seed);
        Flex::float_from_data(TensorData::new(values, shape), &device)
    };
    let inputs = || [primitive(1, shape), primitive(2, shape), primitive(3, shape), primitive(4, [1, 1, 6, 6])];
    let values = |tensor: FloatTensor<Flex>| tensor.to_contiguous().storage::<f32>().to_vec();
    let run = |pairs: usize| {
        let y = fused::attention::forward::<Flex>(inputs(), pairs);
        assert_eq!(y.shape().as_slice(), shape);
        let gradients = fused::attention::backward::<Flex>(inputs(), [y.clone(), primitive(5, shape)], pairs);
        std::iter::once(y).chain(gradients).map(values).collect::<Vec<_>>()
    };
    // A sequence has 2 · 6 · 6 pairs.
    let whole = run(usize::MAX);
    for pairs in [0, 1, 71, 72, 73, 143, 144, 145, 359, 360, 361] {
        assert_eq!(run(pairs), whole, "{pairs}");
    }
}
