//! The model and its optimiser against Hugging Face transformers on PyTorch, where the recorded runs are at hand
//! (`PIPELINE_SHARED`, else `../shared` beside the repository).

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use contract::Cancel;
use model::folder::ModelFolder;
use model::parameters::{host_values, parameters};
use model::train::adamw::AdamWSettings;
use model::train::schedule::Schedule;
use model::train::{Batch, Trainer};
use safetensors::SafeTensors;
use serde_json::Value;

fn recorded(name: &str) -> Option<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("PIPELINE_SHARED").map_or_else(|| repository.join("../shared"), PathBuf::from);
    let folder = shared.join("parity").join(name);
    if !folder.is_dir() {
        eprintln!("skipped: no recorded run at {}", folder.display());
        return None;
    }
    Some(folder)
}

/// A recorded run repeated: everything it recorded is compared with what we compute.
fn matches(name: &str) {
    let Some(folder) = recorded(name) else { return };
    let reference: Value = serde_json::from_slice(&fs::read(folder.join("reference.json")).unwrap()).unwrap();
    let setting = |key: &str| reference["settings"][key].as_f64().unwrap();
    let accumulate = setting("accumulate") as usize;
    let batches = fs::read(folder.join("batches.safetensors")).unwrap();
    let batches = SafeTensors::deserialize(&batches).unwrap();
    let batches = batches.tensor("ids").unwrap();
    let [_, sequences, length] = batches.shape().try_into().unwrap();
    let ids: Vec<i32> = batches.data().as_chunks().0.iter().map(|id| i64::from_le_bytes(*id) as i32).collect();
    let batches: Vec<_> = ids.chunks(sequences * length).map(|ids| Batch { ids: ids.to_vec(), sequences }).collect();

    let device = Device::flex().autodiff();
    let (config, model) = ModelFolder::at(&folder).load(&device).unwrap();
    let first = TensorData::new(batches[0].ids.clone(), [sequences, length]);
    let logits = model.forward(Tensor::<2, Int>::from_data(first, &device)).inner();
    let logits = host_values(logits.reshape([sequences * length * config.vocabulary])).unwrap();
    let expected = fs::read(folder.join("logits.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&expected).unwrap();
    let expected =
        expected.tensor("logits").unwrap().data().as_chunks().0.iter().map(|value| f32::from_le_bytes(*value));
    let difference = logits.iter().zip(expected).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f32::max);
    assert!(difference < 1e-4, "{name}: logits differ by {difference}");

    let settings = AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1, clip: setting("clip") };
    let steps = reference["steps"].as_array().unwrap();
    let schedule = Schedule { peak: setting("lr"), floor: 0.0, warmup: 3, steps: steps.len() as u64 };
    let mut trainer = Trainer::new(&config, model, settings, device);
    let (mut loss_difference, mut norm_difference) = (0.0f64, 0.0f64);
    for (step, expected) in steps.iter().enumerate() {
        let expected = |key: &str| expected[key].as_f64().unwrap();
        let rate = schedule.rate(step as u64);
        assert!((rate - expected("lr")).abs() <= 1e-15, "{name}: step {step}: rate {rate}");
        let micro_batches = &batches[step * accumulate..(step + 1) * accumulate];
        let measured = trainer.update(micro_batches, rate, &Cancel::default()).unwrap();
        loss_difference = loss_difference.max((measured.loss - expected("loss")).abs());
        norm_difference = norm_difference.max((measured.gradient_norm / expected("grad_norm") - 1.0).abs());
    }
    assert!(loss_difference < 1e-4, "{name}: losses differ by {loss_difference}");
    assert!(norm_difference < 1e-3, "{name}: gradient norms differ by {norm_difference} (relative)");
    let last = trainer.loss(&batches[0]).unwrap();
    assert!((last - reference["final_loss"].as_f64().unwrap()).abs() < 1e-4, "{name}: final loss {last}");

    let (mut tensor_difference, mut value_difference) = (0.0f64, 0.0f64);
    for (tensor, values) in config.tensors().iter().zip(parameters(&trainer.model)) {
        let expected = &reference["tensors"][format!("transformer.{}", tensor.name)];
        let values = host_values(values).unwrap();
        let norm = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        tensor_difference = tensor_difference.max((norm / expected["norm"].as_f64().unwrap() - 1.0).abs());
        for (ours, theirs) in values.iter().zip(expected["head"].as_array().unwrap()) {
            value_difference = value_difference.max((f64::from(*ours) - theirs.as_f64().unwrap()).abs());
        }
    }
    assert!(tensor_difference < 1e-3, "{name}: norms of trained tensors differ by {tensor_difference} (relative)");
    assert!(value_difference < 1e-3, "{name}: trained values differ by {value_difference}");
    println!(
        "{name}: greatest differences: logits {difference:.1e}, losses {loss_difference:.1e}, gradient norms \
         {norm_difference:.1e} (relative), norms of trained tensors {tensor_difference:.1e} (relative), trained values \
         {value_difference:.1e}"
    );
}

#[test]
fn a_recorded_run_of_transformers_is_matched() {
    matches("tiny");
}

#[test]
fn a_recorded_run_with_accumulation_and_clipping_is_matched() {
    matches("accumulate");
}

#[test]
fn a_recorded_run_of_a_wider_model_is_matched() {
    matches("wide");
}
