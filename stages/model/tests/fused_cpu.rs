//! The operations that exist on the CPU alone, against their formulas in `f64`, with their gradients, and bit by bit for any number of
//! threads.

use burn::tensor::{Device, Int, Tensor, TensorData};
use contract::{Cancel, StageError};
use model::fused::cpu::{self, product};
use model::initial::initial_values;
use model::parameters::{host_values, parameters, replaced, taken};
use model::train::adamw::AdamWSettings;
use model::train::{Batch, Trainer};
use model::{Gpt2, Gpt2Config, Precision};
use product::{Matrix, Start, Target};

/// Values from `-scale` to `scale`, the same in each run.
fn random(size: usize, scale: f32, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * scale
    };
    (0..size).map(|_| next()).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

fn near(name: &str, ours: &[f32], theirs: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let allowed = tolerance * theirs.abs().max(1.0);
        assert!((f64::from(*ours) - theirs).abs() <= allowed, "{name}[{at}]: {ours}, not {theirs}");
    }
}

/// `[rows, inner] · [inner, columns]`, in `f64`.
fn multiplied(left: &[f64], right: &[f64], [rows, inner, columns]: [usize; 3]) -> Vec<f64> {
    let mut out = vec![0.0; rows * columns];
    for row in 0..rows {
        for place in 0..inner {
            for column in 0..columns {
                out[row * columns + column] += left[row * inner + place] * right[place * columns + column];
            }
        }
    }
    out
}

fn transposed<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

fn with_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// Sizes at, one below and one above those of tiles (12 x 32), blocks (528 x 256 and smaller), the inner dimension at a time (256) and the work
/// that is worth a thread.
const SIZES: [[usize; 3]; 19] = [
    [1, 1, 1],
    [2, 0, 3],
    [0, 3, 2],
    [11, 255, 31],
    [12, 256, 32],
    [13, 257, 33],
    [24, 1, 64],
    [263, 20, 127],
    [264, 21, 128],
    [265, 22, 129],
    [527, 20, 255],
    [528, 21, 256],
    [529, 22, 257],
    [300, 512, 10],
    [1, 700, 300],
    [529, 3, 257],
    [64, 513, 256],
    [64, 64, 63],
    [65, 64, 65],
];

#[test]
fn a_product_is_that_of_the_definition_in_every_layout() {
    for [rows, inner, columns] in SIZES {
        let (left, right) = (random(rows * inner, 1.0, 1), random(inner * columns, 1.0, 2));
        let expected = multiplied(&wide(&left), &wide(&right), [rows, inner, columns]);
        let (bias, onto) = (random(columns, 1.0, 3), random(rows * columns, 1.0, 4));
        let with = |more: &dyn Fn(usize) -> f32| -> Vec<f64> {
            expected.iter().enumerate().map(|(at, value)| value + f64::from(more(at))).collect()
        };
        let (left_columns, right_columns) = (transposed(&left, rows, inner), transposed(&right, inner, columns));
        let lefts = [Matrix::new(&left, rows, inner), Matrix::new(&left_columns, inner, rows).transposed()];
        let rights = [Matrix::new(&right, inner, columns), Matrix::new(&right_columns, columns, inner).transposed()];
        let name = format!("{rows} x {inner} x {columns}");
        let mut bits: Option<Vec<u32>> = None;
        for left in lefts {
            for right in rights {
                let onto_matrix = Matrix::new(&onto, rows, columns);
                near(&name, &product::product(left, right, Start::Zero), &expected, 2e-5);
                near(&name, &product::product(left, right, Start::Bias(&bias)), &with(&|at| bias[at % columns]), 2e-5);
                let sum = product::product(left, right, Start::Sum(&bias, onto_matrix));
                near(&name, &sum, &with(&|at| bias[at % columns] + onto[at]), 2e-5);
                let mut sums = onto.clone();
                product::add_product(left, right, &mut sums);
                near(&name, &sums, &with(&|at| onto[at]), 2e-5);
                for threads in [1, 2, 3] {
                    let found = with_threads(threads, || product::product(left, right, Start::Bias(&bias)));
                    let found: Vec<u32> = found.iter().map(|value| value.to_bits()).collect();
                    assert_eq!(*bits.get_or_insert_with(|| found.clone()), found, "{name}, {threads} threads");
                }
            }
        }
    }
}

#[test]
fn a_product_writes_nothing_beside_its_target() {
    let (left, right) = (random(13 * 7, 1.0, 1), random(7 * 33, 1.0, 2));
    let mut out = vec![9.0; 13 * 40 - 7];
    let mut panels = product::Panels::default();
    panels.pack(Matrix::new(&right, 7, 33));
    panels.multiply(Matrix::new(&left, 13, 7), &mut Target::new(&mut out, 13, 33, 40), false, &mut Vec::new());
    let expected = multiplied(&wide(&left), &wide(&right), [13, 7, 33]);
    for (row, values) in out.chunks(40).enumerate() {
        near("row", &values[..33], &expected[row * 33..][..33], 1e-5);
        assert!(values[33..].iter().all(|value| *value == 9.0));
    }
}

#[test]
#[should_panic(expected = "a target is incomplete")]
fn a_target_without_room_is_refused() {
    let mut out = vec![0.0; 12 * 32 - 1];
    Target::new(&mut out, 12, 32, 32);
}

#[test]
#[should_panic(expected = "the values of a matrix are incomplete")]
fn a_matrix_without_its_values_is_refused() {
    Matrix::spaced(&[0.0; 11], 2, 4, 8);
}

#[test]
#[should_panic(expected = "sizes of a product differ")]
fn factors_of_different_sizes_are_refused() {
    product::product(Matrix::new(&[0.0; 6], 2, 3), Matrix::new(&[0.0; 8], 4, 2), Start::Zero);
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as().unwrap()
}

#[test]
fn a_linear_map_and_its_gradients_are_those_of_the_formula() {
    let device = Device::flex().autodiff();
    for [rows, inputs, outputs] in [[1, 1, 1], [3, 5, 7], [65, 33, 31], [257, 64, 96]] {
        let (x, w) = (random(2 * rows * inputs, 1.0, 1), random(inputs * outputs, 1.0, 2));
        let (b, onto, dy) =
            (random(outputs, 1.0, 3), random(2 * rows * outputs, 1.0, 4), random(2 * rows * outputs, 1.0, 5));
        let leaves = (
            tensor(&x, [2, rows, inputs], &device).require_grad(),
            tensor(&w, [inputs, outputs], &device).require_grad(),
            tensor(&b, [outputs], &device).require_grad(),
            tensor(&onto, [2, rows, outputs], &device).require_grad(),
        );
        let y = cpu::linear_onto(leaves.0.clone(), leaves.1.clone(), leaves.2.clone(), leaves.3.clone());
        let plain = cpu::linear(leaves.0.clone(), leaves.1.clone(), leaves.2.clone());
        let weights = tensor(&dy, [2, rows, outputs], &device);
        let gradients = (y.clone() * weights.clone()).sum().backward();
        let of_plain = (plain.clone() * weights).sum().backward();
        let [wide_x, wide_w, wide_dy] = [&x, &w, &dy].map(|values| wide(values));
        let products = multiplied(&wide_x, &wide_w, [2 * rows, inputs, outputs]);
        let biased: Vec<f64> = products.iter().enumerate().map(|(at, y)| y + f64::from(b[at % outputs])).collect();
        let all: Vec<f64> = biased.iter().zip(&onto).map(|(y, onto)| y + f64::from(*onto)).collect();
        near("plain", &floats(plain), &biased, 1e-5);
        near("y", &floats(y), &all, 1e-5);
        let by_x = multiplied(&wide_dy, &transposed(&wide_w, inputs, outputs), [2 * rows, outputs, inputs]);
        let by_w = multiplied(&transposed(&wide_x, 2 * rows, inputs), &wide_dy, [inputs, 2 * rows, outputs]);
        let by_b: Vec<f64> = (0..outputs).map(|at| wide_dy.iter().skip(at).step_by(outputs).sum()).collect();
        for gradients in [&gradients, &of_plain] {
            near("by x", &floats(leaves.0.grad(gradients).unwrap()), &by_x, 1e-5);
            near("by w", &floats(leaves.1.grad(gradients).unwrap()), &by_w, 2e-5);
            near("by b", &floats(leaves.2.grad(gradients).unwrap()), &by_b, 1e-5);
        }
        assert_eq!(floats(leaves.3.grad(&gradients).unwrap()), dy);
    }
}

/// Attention of a joint projection by the formulas: `[batch, sequence, 3 · width]` to `[batch, sequence, width]`.
fn attention(joined: &[f64], [batch, sequence, heads, head_width]: [usize; 4]) -> Vec<f64> {
    let width = heads * head_width;
    let mut y = vec![0.0; batch * sequence * width];
    for item in 0..batch {
        for head in 0..heads {
            let part = |row: usize, part: usize| {
                let start = (item * sequence + row) * 3 * width + part * width + head * head_width;
                &joined[start..start + head_width]
            };
            for row in 0..sequence {
                let score = |at: usize| part(row, 0).iter().zip(part(at, 1)).map(|(q, k)| q * k).sum::<f64>();
                let scores: Vec<f64> = (0..=row).map(|at| score(at) / (head_width as f64).sqrt()).collect();
                let top = scores.iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = scores.iter().map(|score| (score - top).exp()).sum();
                let out = &mut y[(item * sequence + row) * width + head * head_width..][..head_width];
                for (at, score) in scores.iter().enumerate() {
                    let share = (score - top).exp() / sum;
                    out.iter_mut().zip(part(at, 2)).for_each(|(y, value)| *y += share * value);
                }
            }
        }
    }
    y
}

/// Sizes at, one below and one above a tile of rows (48) and of the kernel, with one head and several, narrow and wide.
const ATTENTIONS: [[usize; 4]; 11] = [
    [1, 1, 1, 8],
    [2, 1, 3, 64],
    [1, 47, 1, 64],
    [2, 48, 3, 8],
    [1, 49, 3, 80],
    [1, 63, 3, 8],
    [1, 64, 1, 80],
    [2, 65, 3, 64],
    [1, 97, 1, 64],
    [3, 13, 2, 33],
    [1, 145, 2, 16],
];

#[test]
fn attention_is_that_of_the_formula_and_its_gradients_those_of_finite_differences() {
    let device = Device::flex().autodiff();
    for sizes in ATTENTIONS {
        let [batch, sequence, heads, head_width] = sizes;
        let width = heads * head_width;
        let (joined, dy) = (random(batch * sequence * 3 * width, 1.5, 1), random(batch * sequence * width, 1.0, 2));
        let leaf = tensor(&joined, [batch, sequence, 3 * width], &device).require_grad();
        let y = cpu::causal_attention(leaf.clone(), heads);
        let gradients = (y.clone() * tensor(&dy, [batch, sequence, width], &device)).sum().backward();
        let by_joined = floats(leaf.grad(&gradients).unwrap());
        let joined = wide(&joined);
        near(&format!("{sizes:?}"), &floats(y), &attention(&joined, sizes), 5e-6);
        assert_eq!(by_joined.len(), joined.len());
        // Some places of each part, each by a central difference.
        let value =
            |moved: &[f64]| attention(moved, sizes).iter().zip(&dy).map(|(y, dy)| y * f64::from(*dy)).sum::<f64>();
        let step = (joined.len() / 23).max(1) | 1;
        for at in (0..joined.len()).step_by(step) {
            let mut moved = joined.clone();
            moved[at] = joined[at] + 1e-4;
            let above = value(&moved);
            moved[at] = joined[at] - 1e-4;
            let slope = (above - value(&moved)) / 2e-4;
            assert!((f64::from(by_joined[at]) - slope).abs() < 2e-5, "{sizes:?} [{at}]: {} and {slope}", by_joined[at]);
        }
    }
}

#[test]
fn attention_has_the_gradients_of_the_composed_one() {
    let device = Device::flex().autodiff();
    for sizes in ATTENTIONS {
        let [batch, sequence, heads, head_width] = sizes;
        let width = heads * head_width;
        let (joined, dy) = (random(batch * sequence * 3 * width, 1.5, 3), random(batch * sequence * width, 1.0, 4));
        let gradient = |attention: &dyn Fn(Tensor<3>) -> Tensor<3>| {
            let leaf = tensor(&joined, [batch, sequence, 3 * width], &device).require_grad();
            let y = attention(leaf.clone()) * tensor(&dy, [batch, sequence, width], &device);
            floats(leaf.grad(&y.sum().backward()).unwrap())
        };
        let ours = gradient(&|joined| cpu::causal_attention(joined, heads));
        let composed = gradient(&|joined| {
            let [query, key, value] = [0, 1, 2].map(|part| {
                let part = joined.clone().slice([0..batch, 0..sequence, part * width..(part + 1) * width]);
                part.reshape([batch, sequence, heads, head_width]).swap_dims(1, 2)
            });
            let mask = model::fused::causal_mask(sequence, &device);
            let y = model::fused::causal_attention(query, key, value, mask);
            y.swap_dims(1, 2).reshape([batch, sequence, width])
        });
        near(&format!("{sizes:?}"), &ours, &wide(&composed), 1e-5);
    }
}

#[test]
fn large_scores_have_finite_shares_and_a_value_that_is_not_a_number_spreads() {
    let device = Device::flex();
    let (sequence, width) = (50, 8);
    let mut joined = random(sequence * 3 * width, 1e4, 1);
    let finite = floats(cpu::causal_attention(tensor(&joined, [1, sequence, 3 * width], &device), 1));
    near("large", &finite, &attention(&wide(&joined), [1, sequence, 1, width]), 1e-3);
    joined[20 * 3 * width] = f32::NAN;
    let y = floats(cpu::causal_attention(tensor(&joined, [1, sequence, 3 * width], &device), 1));
    assert!(y[20 * width..21 * width].iter().all(|value| value.is_nan()));
    assert_eq!(y[..20 * width], finite[..20 * width]);
}

#[test]
fn the_bits_of_attention_and_its_gradient_do_not_depend_on_the_number_of_threads() {
    let device = Device::flex().autodiff();
    let (joined, dy) = (random(2 * 130 * 3 * 192, 1.0, 1), random(2 * 130 * 192, 1.0, 2));
    let bits = || {
        let leaf = tensor(&joined, [2, 130, 576], &device).require_grad();
        let y = cpu::causal_attention(leaf.clone(), 3);
        let gradients = (y.clone() * tensor(&dy, [2, 130, 192], &device)).sum().backward();
        [floats(y), floats(leaf.grad(&gradients).unwrap())].concat().into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let one = with_threads(1, bits);
    for threads in [1, 2, 3, 5] {
        assert!(with_threads(threads, bits) == one, "{threads} threads compute other bits than one");
    }
}

#[test]
fn rows_are_added_to_those_of_their_ids_and_other_owners_keep_theirs() {
    let device = Device::flex();
    let sums = tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [3, 2], &device);
    let ids = Tensor::<1, Int>::from_data(TensorData::new(vec![2, 0, 2], [3]), &device);
    let rows = tensor(&[10.0, 20.0, 30.0, 40.0, 50.0, 60.0], [3, 2], &device);
    let added = cpu::add_rows(sums.clone(), ids, rows);
    assert_eq!(floats(added), [31.0, 42.0, 3.0, 4.0, 65.0, 86.0]);
    assert_eq!(floats(sums), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn a_product_without_gradients_reads_transposed_factors_and_is_added_to_sums() {
    let device = Device::flex();
    let (left, right, sums) = (random(5 * 7, 1.0, 1), random(7 * 3, 1.0, 2), random(5 * 3, 1.0, 3));
    let expected = multiplied(&wide(&left), &wide(&right), [5, 7, 3]);
    let all: Vec<f64> = expected.iter().zip(&sums).map(|(product, sum)| product + f64::from(*sum)).collect();
    let one = tensor(&left, [5, 7], &device);
    let other = tensor(&right, [7, 3], &device);
    let by_columns = |values: &[f32], rows: usize, columns: usize| {
        tensor(&transposed(values, rows, columns), [columns, rows], &device).transpose()
    };
    for (one, other) in [(one, other), (by_columns(&left, 5, 7), by_columns(&right, 7, 3))] {
        near("product", &floats(cpu::matmul(one.clone(), other.clone())), &expected, 1e-6);
        let kept = tensor(&sums, [5, 3], &device);
        near("sum", &floats(cpu::add_matmul(kept.clone(), one, other)), &all, 1e-6);
        assert_eq!(floats(kept), sums);
    }
}

fn small() -> Gpt2Config {
    Gpt2Config { vocabulary: 300, positions: 65, width: 192, layers: 2, heads: 3, end_of_text: None }
}

#[test]
fn values_that_are_taken_from_a_model_leave_tensors_of_the_same_shapes_and_can_be_put_back() {
    let config = small();
    for device in [Device::flex(), Device::flex().autodiff()] {
        let model =
            Gpt2::new(&config, &device, |tensor| Ok::<_, StageError>(initial_values(&config, 1, tensor))).unwrap();
        let values = |model: &Gpt2| -> Vec<_> {
            parameters(model).into_iter().map(|tensor| host_values(tensor).unwrap()).collect()
        };
        let before = values(&model);
        let (model, moved) = taken(model);
        for (left, before) in values(&model).iter().zip(&before) {
            assert_eq!(left.len(), before.len());
            assert!(left.iter().all(|value| *value == 0.0));
        }
        assert_eq!(model.h[0].attn.c_attn.weight.val().dims(), [192, 576]);
        assert_eq!(values(&replaced(model, moved)), before);
    }
}

#[test]
fn the_bits_of_updates_do_not_depend_on_the_number_of_threads() {
    let config = small();
    let bits = || {
        let device = Device::flex().autodiff();
        let model =
            Gpt2::new(&config, &device, |tensor| Ok::<_, StageError>(initial_values(&config, 1, tensor))).unwrap();
        let settings = AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1, clip: 1.0 };
        let mut trainer = Trainer::new(&config, model, settings, Precision::F32, device);
        let batch = |seed: usize| Batch {
            ids: (0..4 * 65).map(|at| ((at * 7919 + seed) % 300) as i32).collect(),
            sequences: 4,
        };
        let mut measured = Vec::new();
        for _ in 0..2 {
            let update = trainer.update(&[batch(1), batch(2)], 1e-2, &Cancel::default()).unwrap();
            measured.extend([update.loss as f32, update.gradient_norm as f32]);
        }
        measured.push(trainer.loss(&batch(3)).unwrap() as f32);
        let values = parameters(&trainer.model).into_iter().flat_map(|tensor| host_values(tensor).unwrap());
        measured.into_iter().chain(values).map(f32::to_bits).collect::<Vec<_>>()
    };
    let one = with_threads(1, bits);
    for threads in [2, 3, 8] {
        assert!(with_threads(threads, bits) == one, "{threads} threads compute other bits than one");
    }
}
