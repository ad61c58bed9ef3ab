//! Training in bf16: near `f32`, with everything that is kept in `f32`. (Flex computes bf16 by way of `f32`, with the same
//! roundings of factors and results.)

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use contract::{Cancel, StageError};
use model::initial::initial_values;
use model::parameters::{host_values, parameters};
use model::train::adamw::AdamWSettings;
use model::train::head::{head_loss, mean_loss};
use model::train::{Batch, Trainer};
use model::{Gpt2, Gpt2Config, Precision};

const CONFIG: Gpt2Config =
    Gpt2Config { vocabulary: 97, positions: 32, width: 64, layers: 2, heads: 4, end_of_text: None };

fn trainer(precision: Precision) -> Trainer {
    let device = Device::flex().autodiff();
    let values = |tensor: &_| Ok::<_, StageError>(initial_values(&CONFIG, 3, tensor));
    let model = Gpt2::new(&CONFIG, &device, values).unwrap();
    let settings = AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1, clip: 1.0 };
    Trainer::new(&CONFIG, model, settings, precision, device)
}

/// Sequences that count upwards from starts of their own.
fn batch(step: usize) -> Batch {
    let ids = (0..8 * 32).map(|at: usize| ((step * 8 + at / 32) * 13 + at % 32 * 3) as i32 % 97).collect();
    Batch { ids, sequences: 8 }
}

fn curve(precision: Precision, steps: usize) -> Vec<f64> {
    let mut trainer = trainer(precision);
    (0..steps).map(|step| trainer.update(&[batch(step)], 2e-3, &Cancel::default()).unwrap().loss).collect()
}

#[test]
fn a_training_in_bf16_learns_as_one_in_f32_does() {
    let [exact, rounded] = [Precision::F32, Precision::Bf16].map(|precision| curve(precision, 80));
    assert!(exact.iter().zip(&rounded).any(|(one, other)| one != other), "bf16 does something else");
    for (step, (exact, rounded)) in exact.iter().zip(&rounded).enumerate() {
        assert!((exact - rounded).abs() < 0.05, "step {step}: {exact} {rounded}");
    }
    let last = |losses: &[f64]| losses[70..].iter().sum::<f64>() / 10.0;
    assert!(last(&exact) < 1.0, "it has learned: {}", last(&exact));
    assert!((last(&exact) - last(&rounded)).abs() < 0.02, "{} {}", last(&exact), last(&rounded));
}

#[test]
fn the_first_update_in_bf16_is_near_that_in_f32() {
    let [exact, rounded] = [Precision::F32, Precision::Bf16].map(|precision| {
        let mut trainer = trainer(precision);
        let measured = trainer.update(&[batch(0)], 1e-3, &Cancel::default()).unwrap();
        // The means are a tenth of the gradients.
        let means = trainer.optimizer.moments.iter().map(|(mean, _)| host_values(mean.clone()).unwrap());
        (measured, means.collect::<Vec<_>>())
    });
    assert!((exact.0.loss - rounded.0.loss).abs() < 2e-3, "{exact:?} {rounded:?}");
    assert!((exact.0.gradient_norm / rounded.0.gradient_norm - 1.0).abs() < 5e-3);
    for ((tensor, exact), rounded) in CONFIG.tensors().iter().zip(&exact.1).zip(&rounded.1) {
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
        let size = norm(&mut exact.iter().map(|value| f64::from(*value)));
        let error = norm(&mut exact.iter().zip(rounded).map(|(one, other)| f64::from(one - other)));
        // bf16 keeps 8 bits: each product adds some 2⁻⁹.
        assert!(error <= 0.03 * size + 1e-9, "{}: {error} of {size}", tensor.name);
    }
}

#[test]
fn weights_and_moments_stay_in_f32() {
    let mut trainer = trainer(Precision::Bf16);
    trainer.update(&[batch(0)], 1e-3, &Cancel::default()).unwrap();
    let moments = trainer.optimizer.moments.iter().flat_map(|(mean, square)| [mean.clone(), square.clone()]);
    for tensor in parameters(&trainer.model).into_iter().chain(moments) {
        assert_eq!(tensor.dtype(), DType::F32);
    }
}

#[test]
fn the_head_in_bf16_is_near_that_in_f32_and_gives_f32() {
    let (rows, width, vocabulary) = (100, 16, 50);
    let values = |rows: usize, seed: usize| {
        let values = (0..rows * width).map(|at| ((at * 7919 + seed) % 997) as f32 / 997.0 - 0.5).collect::<Vec<_>>();
        Tensor::<2>::from_data(TensorData::new(values, [rows, width]), &Device::flex())
    };
    let next = (0..rows).map(|row| (row * 31 % vocabulary) as i32).collect::<Vec<_>>();
    let next = Tensor::<1, Int>::from_data(TensorData::new(next, [rows]), &Device::flex());
    let (features, embedding) = (values(rows, 1), values(vocabulary, 2));
    let [exact, rounded] = [Precision::F32, Precision::Bf16]
        .map(|precision| head_loss(features.clone(), embedding.clone(), next.clone(), 1.0, 0.0, precision));
    let flat = |tensor: Tensor<2>| host_values(tensor.flatten::<1>(0, 1)).unwrap();
    for (exact, rounded) in [(exact.features, rounded.features), (exact.embedding, rounded.embedding)] {
        assert_eq!(rounded.dtype(), DType::F32);
        let (exact, rounded) = (flat(exact), flat(rounded));
        let greatest = exact.iter().map(|value| value.abs()).fold(0.0, f32::max);
        let error = exact.iter().zip(&rounded).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
        assert!(error < 0.01 * greatest, "{error} of {greatest}");
    }
    for (precision, head) in [(Precision::F32, exact.loss), (Precision::Bf16, rounded.loss)] {
        let alone = mean_loss(features.clone(), embedding.clone(), next.clone(), precision);
        let [head, alone] = [head, alone].map(|loss| host_values(loss).unwrap()[0]);
        assert!((head - alone).abs() < 1e-5, "{head} {alone}");
    }
}
