//! Repeats a recorded run of transformers on PyTorch and compares everything it recorded with our results.
//!
//! A directory contains a model in Hugging Face format, `batches.safetensors` (`ids` `[batches, sequences, length]`), `logits.safetensors`
//! (of the untrained model on the first batch) and `reference.json` (the settings, and one record per step).

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use contract::{Cancel, Result, StageError};
use model::Precision;
use model::folder::ModelFolder;
use model::parameters::{host_values, parameters};
use model::train::adamw::AdamWSettings;
use model::train::schedule::{Schedule, Shape};
use model::train::{Batch, Trainer};
use safetensors::SafeTensors;
use serde::Serialize;
use serde_json::Value;

/// The largest differences between the recorded run and ours.
#[derive(Debug, Serialize)]
pub struct Differences {
    /// Largest difference of a logit of the untrained model.
    pub logits: f64,
    /// Largest difference of a step's loss or of the final loss.
    pub losses: f64,
    /// Largest relative difference of a step's gradient norm.
    pub gradient_norms: f64,
    /// Largest relative difference of a trained tensor's 2-norm.
    pub tensor_norms: f64,
    /// Largest difference among the first four values of a trained tensor.
    pub values: f64,
}

impl Differences {
    /// Returns whether they are small enough to result from `f32` sums in another order.
    pub fn are_small(&self) -> bool {
        self.logits < 1e-4
            && self.losses < 1e-4
            && self.gradient_norms < 1e-3
            && self.tensor_norms < 1e-3
            && self.values < 1e-3
    }
}

/// Repeats the run of a folder on a device, in `f32`.
///
/// # Errors
/// When a file of the folder cannot be read or the device fails.
pub fn differences(folder: &Path, device: &Device) -> Result<Differences> {
    let reference = fs::read(folder.join("reference.json"))?;
    let reference: Value = serde_json::from_slice(&reference).map_err(std::io::Error::from)?;
    let number = |value: &Value| value.as_f64().ok_or_else(|| StageError::new("reference.json: a number is missing"));
    let setting = |key: &str| number(&reference["settings"][key]);
    let accumulate = setting("accumulate")? as usize;
    let (shape, ids) = tensor(folder, "batches.safetensors", "ids", |id: [u8; 8]| i64::from_le_bytes(id) as i32)?;
    let [_, sequences, length] = shape[..] else {
        return Err(StageError::new("ids are not [batches, sequences, length]"));
    };
    let batches: Vec<_> = ids.chunks(sequences * length).map(|ids| Batch { ids: ids.to_vec(), sequences }).collect();

    let device = device.clone().autodiff();
    let (config, model) = ModelFolder::at(folder).load(&device)?;
    let first = TensorData::new(batches[0].ids.clone(), [sequences, length]);
    let logits = model.forward(Tensor::<2, Int>::from_data(first, &device)).inner();
    let logits = host_values(logits.reshape([sequences * length * config.vocabulary]))?;
    let (_, expected) = tensor(folder, "logits.safetensors", "logits", f32::from_le_bytes)?;
    if logits.len() != expected.len() {
        return Err(StageError::new(format!("{} logits are recorded, the model has {}", expected.len(), logits.len())));
    }
    let logits = logits.iter().zip(expected).map(|(ours, theirs)| f64::from((ours - theirs).abs())).fold(0.0, greatest);

    let settings = AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1, clip: setting("clip")? };
    let steps = reference["steps"].as_array().filter(|steps| !steps.is_empty());
    let steps = steps.ok_or_else(|| StageError::new("reference.json has no steps"))?;
    let shape = Shape::Cosine;
    let schedule = Schedule { shape, peak: setting("lr")?, floor: 0.0, warmup: 3, decay: 0, steps: steps.len() as u64 };
    let mut trainer = Trainer::new(&config, model, settings, Precision::F32, device);
    let (mut losses, mut gradient_norms) = (0.0f64, 0.0f64);
    for (step, expected) in steps.iter().enumerate() {
        let rate = schedule.rate(step as u64);
        if (rate - number(&expected["lr"])?).abs() > 1e-15 {
            return Err(StageError::new(format!("step {step}: the schedule gives {rate}, not {}", expected["lr"])));
        }
        let micro_batches = &batches[step * accumulate..(step + 1) * accumulate];
        let measured = trainer.update(micro_batches, rate, &Cancel::default())?;
        losses = greatest(losses, (measured.loss - number(&expected["loss"])?).abs());
        gradient_norms =
            greatest(gradient_norms, (measured.gradient_norm / number(&expected["grad_norm"])? - 1.0).abs());
    }
    losses = greatest(losses, (trainer.loss(&batches[0])? - number(&reference["final_loss"])?).abs());

    let (mut tensor_norms, mut trained) = (0.0f64, 0.0f64);
    for (tensor, values) in config.tensors().iter().zip(parameters(&trainer.model)) {
        let expected = &reference["tensors"][format!("transformer.{}", tensor.name)];
        let values = host_values(values)?;
        let norm = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        tensor_norms = greatest(tensor_norms, (norm / number(&expected["norm"])? - 1.0).abs());
        let head = expected["head"].as_array().filter(|head| !head.is_empty() && head.len() <= values.len());
        let head = head.ok_or_else(|| StageError::new(format!("reference.json has no values of {}", tensor.name)))?;
        for (ours, theirs) in values.iter().zip(head) {
            trained = greatest(trained, (f64::from(*ours) - number(theirs)?).abs());
        }
    }
    Ok(Differences { logits, losses, gradient_norms, tensor_norms, values: trained })
}

/// Returns the larger of two differences, or NaN if either is NaN.
fn greatest(one: f64, other: f64) -> f64 {
    if one.is_nan() || one > other { one } else { other }
}

/// A tensor of a file: its shape and its values.
fn tensor<const N: usize, T>(
    folder: &Path,
    file: &str,
    name: &str,
    value: impl Fn([u8; N]) -> T,
) -> Result<(Vec<usize>, Vec<T>)> {
    let unreadable = |error| StageError::new(format!("{file}: {error}"));
    let bytes = fs::read(folder.join(file))?;
    let file = SafeTensors::deserialize(&bytes).map_err(unreadable)?;
    let tensor = file.tensor(name).map_err(unreadable)?;
    Ok((tensor.shape().to_vec(), tensor.data().as_chunks().0.iter().map(|bytes| value(*bytes)).collect()))
}
