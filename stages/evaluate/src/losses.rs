//! The loss of each token of some sequences.

use burn::tensor::{Int, Tensor, TensorData, activation};
use contract::Result;
use model::parameters::host_values;
use model::train::head::chunks;
use model::{Gpt2, Precision};

/// Returns the negative log-likelihood in nats of each token given those before it, for sequences of `length` ids, one
/// after another in `ids`: `length - 1` values for each sequence, in order.
///
/// The output head is applied to a chunk of tokens at a time ([`chunks`]).
///
/// # Errors
/// When the values cannot be read from the device.
pub fn token_losses(model: &Gpt2, ids: &[u32], length: usize) -> Result<Vec<f32>> {
    let embedding = model.wte.weight.val();
    let [_, width] = embedding.dims();
    let sequences = ids.len() / length;
    let signed: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(signed, [sequences, length]), &embedding.device());
    let predictions = sequences * (length - 1);
    let features =
        model.features(ids.clone(), Precision::F32).slice([0..sequences, 0..length - 1]).reshape([predictions, width]);
    let labels = ids.slice([0..sequences, 1..length]).reshape([predictions, 1]);
    let mut losses = Vec::with_capacity(predictions);
    for range in chunks(&features, &embedding) {
        let logits = model.head(features.clone().slice([range.clone()]));
        let likelihoods = activation::log_softmax(logits, 1).gather(1, labels.clone().slice([range]));
        losses.extend(host_values(likelihoods.neg().flatten::<1>(0, 1))?);
    }
    Ok(losses)
}
