//! The model, its gradients and the optimiser against an independent reference: GPT-2's forward pass written out in
//! `f64` loops, its gradient by central differences, and AdamW on plain vectors.

use std::f64::consts::PI;

use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::{Device, Int, Tensor, TensorData};
use contract::Cancel;
use model::dropout::{Dropout, Place, Rates};
use model::parameters::{gradients, host_values, parameters};
use model::train::adamw::AdamWSettings;
use model::train::head::head_loss;
use model::train::{Batch, Trainer};
use model::{Gpt2, Gpt2Config, Precision};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The values of all tensors, in the order of `Gpt2Config::tensors`.
type Values = Vec<Vec<f64>>;

fn config(layers: usize, heads: usize) -> Gpt2Config {
    Gpt2Config { vocabulary: 7, positions: 5, width: 4 * heads, layers, heads, end_of_text: None }
}

/// Values well away from the initial ones, so that no part of the computation hides behind a 0 or a 1.
fn random_values(config: &Gpt2Config, seed: u64) -> Values {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut value = move || (random.next_u32() as f32 / u32::MAX as f32 - 0.5) * 0.8;
    let scale = |name: &str| f32::from(u8::from(name.contains("ln_") && name.ends_with("weight")));
    let tensors = config.tensors();
    tensors.iter().map(|t| (0..t.size()).map(|_| f64::from(value() + scale(&t.name))).collect()).collect()
}

fn model_of(config: &Gpt2Config, values: &Values, device: &Device) -> Gpt2 {
    let mut values = values.iter();
    let next = |_: &_| Ok::<_, ()>(values.next().unwrap().iter().map(|value| *value as f32).collect());
    Gpt2::new(config, device, next).unwrap()
}

/// The mean loss of the next tokens, all by automatic differentiation: `[1]`.
fn mean_loss(model: &Gpt2, ids: &Tensor<2, Int>) -> Tensor<1> {
    let [batch, sequence] = ids.dims();
    let logits = model.forward(ids.clone());
    let [_, _, vocabulary] = logits.dims();
    let rows = batch * (sequence - 1);
    let logits = logits.slice([0..batch, 0..sequence - 1]).reshape([rows, vocabulary]);
    let next = ids.clone().slice([0..batch, 1..sequence]).reshape([rows]);
    CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, next)
}

/// `x · w + b`, with `w` of `x.len()` rows.
fn linear(x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
    (0..b.len()).map(|o| b[o] + x.iter().enumerate().map(|(i, x)| x * w[i * b.len() + o]).sum::<f64>()).collect()
}

fn layer_norm(x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
    x.iter().zip(w.iter().zip(b)).map(|(x, (w, b))| (x - mean) / (variance + 1e-5).sqrt() * w + b).collect()
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let greatest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<_> = x.iter().map(|x| (x - greatest).exp()).collect();
    powers.iter().map(|power| power / powers.iter().sum::<f64>()).collect()
}

fn add(x: &mut [f64], more: &[f64]) {
    x.iter_mut().zip(more).for_each(|(x, more)| *x += more);
}

/// What a value is multiplied with by dropout: of a sequence, a layer, a place, and the number of the value there.
type Factor<'a> = &'a dyn Fn(usize, usize, Place, usize) -> f64;

/// The logits of each position of one sequence.
fn logits(config: &Gpt2Config, values: &Values, ids: &[usize]) -> Vec<Vec<f64>> {
    logits_with(config, values, ids, &|_, _, _| 1.0)
}

/// The same with dropout.
fn logits_with(
    config: &Gpt2Config,
    values: &Values,
    ids: &[usize],
    factor: &dyn Fn(usize, Place, usize) -> f64,
) -> Vec<Vec<f64>> {
    let (d, head) = (config.width, config.width / config.heads);
    let (wte, wpe) = (&values[0], &values[1]);
    let mut x: Vec<Vec<f64>> =
        ids.iter().enumerate().map(|(at, id)| (0..d).map(|i| wte[id * d + i] + wpe[at * d + i]).collect()).collect();
    let drop = |x: &mut [f64], layer, place, at: usize| {
        x.iter_mut().enumerate().for_each(|(i, x)| *x *= factor(layer, place, at * d + i));
    };
    x.iter_mut().enumerate().for_each(|(at, x)| drop(x, 0, Place::Embedding, at));
    for (layer, block) in values[2..values.len() - 2].chunks(12).enumerate() {
        let qkv: Vec<_> =
            x.iter().map(|x| linear(&layer_norm(x, &block[0], &block[1]), &block[2], &block[3])).collect();
        for (at, x) in x.iter_mut().enumerate() {
            let mut attended = vec![0.0; d];
            for h in 0..config.heads {
                let part = |row: usize, part: usize| &qkv[row][part * d + h * head..][..head];
                let dot = |row: usize| part(at, 0).iter().zip(part(row, 1)).map(|(q, k)| q * k).sum::<f64>();
                let scores: Vec<_> = (0..=at).map(|row| dot(row) / (head as f64).sqrt()).collect();
                for (row, share) in softmax(&scores).iter().enumerate() {
                    let share = share * factor(layer, Place::Attention, (h * ids.len() + at) * ids.len() + row);
                    let scaled: Vec<_> = part(row, 2).iter().map(|v| share * v).collect();
                    add(&mut attended[h * head..][..head], &scaled);
                }
            }
            let mut attended = linear(&attended, &block[4], &block[5]);
            drop(&mut attended, layer, Place::AttentionResult, at);
            add(x, &attended);
        }
        for (at, x) in x.iter_mut().enumerate() {
            let inner: Vec<_> = linear(&layer_norm(x, &block[6], &block[7]), &block[8], &block[9]);
            let inner: Vec<_> = inner.into_iter().map(gelu).collect();
            let mut inner = linear(&inner, &block[10], &block[11]);
            drop(&mut inner, layer, Place::MlpResult, at);
            add(x, &inner);
        }
    }
    let [w, b] = &values[values.len() - 2..] else { unreachable!() };
    let head = |x: &Vec<f64>| {
        let x = layer_norm(x, w, b);
        wte.chunks(d).map(|row| row.iter().zip(&x).map(|(w, x)| w * x).sum()).collect()
    };
    x.iter().map(head).collect()
}

/// The mean loss of sequences.
fn loss(config: &Gpt2Config, values: &Values, sequences: &[Vec<usize>]) -> f64 {
    loss_with(config, values, sequences, &|_, _, _, _| 1.0)
}

/// The same with dropout.
fn loss_with(config: &Gpt2Config, values: &Values, sequences: &[Vec<usize>], factor: Factor<'_>) -> f64 {
    let losses: Vec<_> = sequences
        .iter()
        .enumerate()
        .flat_map(|(sequence, ids)| {
            let logits = logits_with(config, values, ids, &|layer, place, at| factor(sequence, layer, place, at));
            ids[1..].iter().zip(logits).map(|(id, logits)| -softmax(&logits)[*id].ln()).collect::<Vec<_>>()
        })
        .collect();
    losses.iter().sum::<f64>() / losses.len() as f64
}

fn gradient(config: &Gpt2Config, values: &Values, sequences: &[Vec<usize>]) -> Values {
    slopes(values, |values| loss(config, values, sequences))
}

/// The gradient of a function by central differences.
fn slopes(values: &Values, function: impl Fn(&Values) -> f64) -> Values {
    let mut moved = values.clone();
    let step = 1e-5;
    let mut slope = |tensor: usize, at: usize| {
        let value = values[tensor][at];
        let mut loss_at = |value| {
            moved[tensor][at] = value;
            function(&moved)
        };
        let slope = (loss_at(value + step) - loss_at(value - step)) / (2.0 * step);
        loss_at(value);
        slope
    };
    let sizes = values.iter().map(Vec::len).enumerate();
    sizes.map(|(tensor, size)| (0..size).map(|at| slope(tensor, at)).collect()).collect()
}

fn batch(sequences: &[Vec<usize>]) -> Batch {
    Batch { ids: sequences.iter().flatten().map(|id| *id as i32).collect(), sequences: sequences.len() }
}

fn ids(sequences: &[Vec<usize>], device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(batch(sequences).ids, [sequences.len(), sequences[0].len()]), device)
}

fn close(ours: f64, theirs: f64, tolerance: f64) -> bool {
    (ours - theirs).abs() <= tolerance * (1.0 + theirs.abs())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn logits_and_loss_are_those_of_the_formulas(
        seed in any::<u64>(),
        layers in 0usize..4,
        heads in 1usize..4,
        sequences in (2usize..=5).prop_flat_map(|n| prop::collection::vec(prop::collection::vec(0usize..7, n), 1..4)),
    ) {
        let config = config(layers, heads);
        let values = random_values(&config, seed);
        let device = Device::flex();
        let model = model_of(&config, &values, &device);
        let size = sequences.len() * sequences[0].len() * config.vocabulary;
        let ours = host_values(model.forward(ids(&sequences, &device)).reshape([size])).unwrap();
        let theirs = sequences.iter().flat_map(|ids| logits(&config, &values, ids)).flatten();
        for (ours, theirs) in ours.iter().zip(theirs) {
            prop_assert!(close(f64::from(*ours), theirs, 2e-5), "{ours} {theirs}");
        }
        let ours = f64::from(host_values(mean_loss(&model, &ids(&sequences, &device))).unwrap()[0]);
        let theirs = loss(&config, &values, &sequences);
        prop_assert!(close(ours, theirs, 1e-5), "{ours} {theirs}");
    }
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    let config = config(2, 2);
    let values = random_values(&config, 11);
    let sequences = vec![vec![1, 2, 3, 4, 0], vec![6, 6, 1, 5, 2]];
    let device = Device::flex().autodiff();
    let model = model_of(&config, &values, &device);
    let ours = gradients(&model, Vec::new(), &mut mean_loss(&model, &ids(&sequences, &device)).backward()).unwrap();
    let theirs = gradient(&config, &values, &sequences);
    for ((tensor, ours), theirs) in config.tensors().iter().zip(ours).zip(&theirs) {
        for (ours, theirs) in host_values(ours).unwrap().iter().zip(theirs) {
            assert!(close(f64::from(*ours), *theirs, 1e-5), "{}: {ours} {theirs}", tensor.name);
        }
    }
}

#[test]
fn an_update_with_dropout_follows_the_slopes_of_the_loss_with_the_same_values_dropped() {
    let config = config(2, 2);
    let values = random_values(&config, 17);
    let sequences = [vec![1, 2, 3, 4, 0], vec![6, 6, 1, 5, 2], vec![0, 3, 3, 1, 4]];
    let rates = Rates { embedding: 0.2, attention: 0.4, residual: 0.3 };
    let position = 60;
    let dropout = Dropout::new(rates, 5).unwrap().at(position);
    // The choices themselves are tested with the module; here, where they are applied, by which factor, and the gradients.
    let factors = |sequence: usize, layer, place| {
        let one = dropout.at(position + sequence as u64);
        let size = if place == Place::Attention { 2 * 5 * 5 } else { 5 * config.width };
        let ones = Tensor::<2>::ones([1, size], &Device::flex());
        host_values(one.apply(ones, layer, place).reshape([size])).unwrap()
    };
    let places = [Place::Embedding, Place::Attention, Place::AttentionResult, Place::MlpResult];
    let table: Vec<_> =
        (0..3).map(|sequence| [0, 1].map(|layer| places.map(|place| factors(sequence, layer, place)))).collect();
    assert!(table.iter().flatten().flatten().flatten().any(|factor| *factor == 0.0));
    let factor = |sequence: usize, layer: usize, place, at: usize| -> f64 {
        f64::from(table[sequence][layer][places.iter().position(|one| *one == place).unwrap()][at])
    };
    let device = Device::flex().autodiff();
    let settings = AdamWSettings { beta1: 0.0, beta2: 0.0, epsilon: 1e-3, weight_decay: 0.0, clip: 1e9 };
    let expected = slopes(&values, |values| loss_with(&config, values, &sequences, &factor));
    let norm = expected.iter().flatten().map(|slope| slope * slope).sum::<f64>().sqrt();
    // In passes of one and two sequences, and at once.
    for parts in [vec![&sequences[..1], &sequences[1..]], vec![&sequences[..]]] {
        let model = model_of(&config, &values, &device);
        let mut trainer = Trainer::new(&config, model, settings, Precision::F32, device.clone());
        trainer.dropout = Some(dropout.clone());
        let batches: Vec<_> = parts.into_iter().map(batch).collect();
        let measured = trainer.update(&batches, 0.01, &Cancel::default()).unwrap();
        let loss = loss_with(&config, &values, &sequences, &factor);
        assert!(close(measured.loss, loss, 1e-5), "{} {loss}", measured.loss);
        assert!(close(measured.gradient_norm, norm, 1e-5), "{} {norm}", measured.gradient_norm);
        // With these settings a value moves by rate · slope / (|slope| + ε).
        for ((ours, before), slopes) in parameters(&trainer.model).into_iter().zip(&values).zip(&expected) {
            for ((ours, before), slope) in host_values(ours).unwrap().iter().zip(before).zip(slopes) {
                let theirs = before - 0.01 * slope / (slope.abs() + 1e-3);
                assert!((f64::from(*ours) - theirs).abs() < 2e-5, "{ours} {theirs}");
            }
        }
    }
}

#[test]
fn updates_are_those_of_adamw() {
    let config = config(1, 2);
    let mut values = random_values(&config, 12);
    let micro_batches = [vec![vec![1, 2, 3, 4, 0]], vec![vec![6, 6, 1, 5, 2]]];
    let all: Vec<_> = micro_batches.concat();
    let settings = AdamWSettings { beta1: 0.8, beta2: 0.95, epsilon: 1e-3, weight_decay: 0.3, clip: 0.4 };
    let device = Device::flex().autodiff();
    let mut trainer = Trainer::new(&config, model_of(&config, &values, &device), settings, Precision::F32, device);
    let mut moments: Vec<Vec<(f64, f64)>> = values.iter().map(|values| vec![(0.0, 0.0); values.len()]).collect();
    for step in 1..=3 {
        let rate = 0.01 * f64::from(step);
        let measured = trainer.update(&micro_batches.clone().map(|b| batch(&b)), rate, &Cancel::default()).unwrap();
        let slopes = gradient(&config, &values, &all);
        let norm = slopes.iter().flatten().map(|slope| slope * slope).sum::<f64>().sqrt();
        assert!(close(measured.loss, loss(&config, &values, &all), 1e-5), "step {step}: loss {}", measured.loss);
        assert!(close(measured.gradient_norm, norm, 1e-5), "step {step}: {} {norm}", measured.gradient_norm);
        assert!(norm > 0.4, "clipping is at work: {norm}");
        for (tensor, ((values, slopes), moments)) in
            config.tensors().iter().zip(values.iter_mut().zip(slopes).zip(&mut moments))
        {
            for ((value, slope), (mean, square)) in values.iter_mut().zip(slopes).zip(moments) {
                let slope = slope * 0.4 / norm;
                *mean = 0.8 * *mean + 0.2 * slope;
                *square = 0.95 * *square + 0.05 * slope * slope;
                if tensor.shape.len() == 2 {
                    *value *= 1.0 - rate * 0.3;
                }
                let (mean, square) = (*mean / (1.0 - 0.8f64.powi(step)), *square / (1.0 - 0.95f64.powi(step)));
                *value -= rate * mean / (square.sqrt() + 1e-3);
            }
        }
        for (ours, theirs) in parameters(&trainer.model).into_iter().zip(&values) {
            for (ours, theirs) in host_values(ours).unwrap().iter().zip(theirs) {
                assert!(close(f64::from(*ours), *theirs, 1e-5), "step {step}: {ours} {theirs}");
            }
        }
    }
}

#[test]
fn the_head_in_chunks_has_the_loss_and_gradients_of_the_head_at_once() {
    // 20 million logits: more than one chunk, and a last one that is shorter.
    let (rows, width, vocabulary) = (4000, 8, 5000);
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut values = |size| (0..size).map(|_| random.next_u32() as f32 / u32::MAX as f32 - 0.5).collect::<Vec<_>>();
    let device = Device::flex().autodiff();
    let matrix = |values, rows| Tensor::<2>::from_data(TensorData::new(values, [rows, width]), &device).require_grad();
    let (features, embedding) = (matrix(values(rows * width), rows), matrix(values(vocabulary * width), vocabulary));
    let next: Vec<_> = (0..rows).map(|row| row * 31 % vocabulary).collect();
    let next = Tensor::<1, Int>::from_data(TensorData::new(next, [rows]), &device);
    let ours =
        head_loss(features.clone().inner(), embedding.clone().inner(), next.clone().inner(), 1.0, 0.0, Precision::F32);
    let logits = features.clone().matmul(embedding.clone().transpose());
    let loss = CrossEntropyLossConfig::new().init(&device).forward(logits, next.clone());
    let slopes = loss.backward();
    let flat = |tensor: Tensor<2>| {
        let [rows, width] = tensor.dims();
        host_values(tensor.reshape([rows * width])).unwrap()
    };
    let near = |ours: Vec<f32>, theirs: Vec<f32>, tolerance: f32| {
        assert_eq!(ours.len(), theirs.len());
        let difference = ours.iter().zip(&theirs).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
        assert!(difference < tolerance, "{difference}");
    };
    near(host_values(ours.loss).unwrap(), host_values(loss.inner()).unwrap(), 1e-5);
    // The gradients are of the order of 1e-4 (features) and 1e-4 (embedding).
    near(flat(ours.features), flat(features.grad(&slopes).unwrap()), 1e-8);
    near(flat(ours.embedding), flat(embedding.grad(&slopes).unwrap()), 1e-8);

    // The gradients with the z-loss are those of the sum, the loss is that without it.
    let z_loss = 0.3;
    let (inner, next) = ((features.clone().inner(), embedding.clone().inner()), next.clone());
    let ours = head_loss(inner.0, inner.1, next.clone().inner(), 1.0, z_loss, Precision::F32);
    let logits = features.clone().matmul(embedding.clone().transpose());
    let loss = CrossEntropyLossConfig::new().init(&device).forward(logits.clone(), next);
    near(host_values(ours.loss).unwrap(), host_values(loss.clone().inner()).unwrap(), 1e-5);
    let logarithms = logits.exp().sum_dim(1).log();
    let slopes = (loss + (logarithms.clone() * logarithms).mean().mul_scalar(z_loss)).backward();
    near(flat(ours.features), flat(features.grad(&slopes).unwrap()), 2e-8);
    near(flat(ours.embedding), flat(embedding.grad(&slopes).unwrap()), 2e-8);
}
