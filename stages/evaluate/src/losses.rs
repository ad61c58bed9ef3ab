//! The loss of each token of some sequences.

use burn::tensor::{Int, Tensor, TensorData};
use contract::Result;
use model::parameters::host_values;
use model::train::head::row_losses;
use model::{Gpt2, Precision};

/// Returns the negative log-likelihood in nats of each token, given the tokens before it, for sequences of `length`
/// ids, one after another in `ids`: `length - 1` values for each sequence, in order.
///
/// It is the cross-entropy of training ([`row_losses`]), which computes the logits of a chunk of tokens at a time.
///
/// # Errors
/// Returns an error if the values cannot be read from the device.
pub fn token_losses(model: &Gpt2, ids: &[u32], length: usize) -> Result<Vec<f32>> {
    let embedding = model.wte.weight.val();
    let [_, width] = embedding.dims();
    let sequences = ids.len() / length;
    let signed: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(signed, [sequences, length]), &embedding.device());
    let predictions = sequences * (length - 1);
    let features = model.features(ids.clone(), Precision::F32).slice([0..sequences, 0..length - 1]);
    let next = ids.slice([0..sequences, 1..length]).reshape([predictions]);
    host_values(row_losses(features.reshape([predictions, width]), embedding, next, 1.0, Precision::F32))
}
