//! A model's folder in Hugging Face form, written and read.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, bf16, f16};
use contract::{Outputs, StageError};
use model::config::TensorShape;
use model::folder::{ModelFolder, config_json, save};
use model::initial::initial_values;
use model::parameters::{host_values, parameters};
use model::tensor_file::TensorFile;
use model::{Gpt2, Gpt2Config};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

fn config() -> Gpt2Config {
    Gpt2Config { vocabulary: 40, positions: 8, width: 12, layers: 2, heads: 2, end_of_text: Some(3) }
}

fn values(tensor: &TensorShape) -> Vec<f32> {
    initial_values(&config(), 4, tensor)
}

fn all_values(model: &Gpt2) -> Vec<Vec<f32>> {
    parameters(model).into_iter().map(|tensor| host_values(tensor).unwrap()).collect()
}

/// Writes a folder whose tensors are encoded by `encode`, after `change` has had its way with the list.
fn folder_with(
    folder: &Path,
    prefix: &str,
    encode: impl Fn(&[f32]) -> (Dtype, Vec<u8>),
    change: impl FnOnce(&mut Vec<(String, Dtype, Vec<usize>, Vec<u8>)>),
) -> ModelFolder {
    fs::write(folder.join("config.json"), config_json(&config()).to_string()).unwrap();
    let mut tensors: Vec<_> = config()
        .tensors()
        .into_iter()
        .map(|tensor| {
            let (dtype, bytes) = encode(&values(&tensor));
            (format!("{prefix}{}", tensor.name), dtype, tensor.shape, bytes)
        })
        .collect();
    change(&mut tensors);
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
    ModelFolder::at(folder)
}

fn f32s(values: &[f32]) -> (Dtype, Vec<u8>) {
    (Dtype::F32, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn failure(result: Result<(Gpt2Config, Gpt2), StageError>) -> String {
    match result.unwrap_err() {
        StageError::Failed(failure) => failure.message,
        other => panic!("{other}"),
    }
}

#[test]
fn a_folder_reads_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let model = Gpt2::new(&config(), &Device::flex(), |tensor| Ok::<_, ()>(values(tensor))).unwrap();
    let outputs = Outputs::stage(&folder.path().join("staging"), ["model".to_owned()]).unwrap();
    save(&config(), &model, outputs.tree("model").unwrap()).unwrap();
    for (entry, location) in &outputs.finish().unwrap()["model"].1 {
        fs::copy(location, folder.path().join(entry.path.as_str())).unwrap();
    }
    let (read, loaded) = ModelFolder::at(folder.path()).load(&Device::flex()).unwrap();
    assert_eq!(read, config());
    assert_eq!(all_values(&loaded), all_values(&model));
}

#[test]
fn the_written_weights_are_what_transformers_reads() {
    let mut bytes = Vec::new();
    let model = Gpt2::new(&config(), &Device::flex(), |tensor| Ok::<_, ()>(values(tensor))).unwrap();
    model::folder::write_weights(&config(), &model, &mut bytes).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["format"], "pt");
    assert_eq!(header.tensors().len(), 2 + 2 * 12 + 2);
    let weight = header.info("transformer.h.1.attn.c_attn.weight").unwrap();
    assert_eq!((weight.dtype, weight.shape.as_slice()), (Dtype::F32, [12, 36].as_slice()));
    assert!(header.info("lm_head.weight").is_none());
}

#[test]
fn names_without_the_prefix_buffers_and_a_copy_of_the_head_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let more = |tensors: &mut Vec<_>| {
        tensors.push(("h.0.attn.bias".into(), Dtype::BOOL, vec![1, 1, 8, 8], vec![1; 64]));
        tensors.push(("h.0.attn.masked_bias".into(), Dtype::F32, vec![], vec![0; 4]));
        tensors.push(("lm_head.weight".into(), Dtype::F32, vec![40, 12], vec![0; 40 * 12 * 4]));
    };
    let (_, model) = folder_with(folder.path(), "", f32s, more).load(&Device::flex()).unwrap();
    assert_eq!(all_values(&model), config().tensors().iter().map(values).collect::<Vec<_>>());
}

#[test]
fn half_precision_is_widened() {
    let folder = tempfile::tempdir().unwrap();
    let half = |values: &[f32]| (Dtype::F16, values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect());
    let brain = |values: &[f32]| (Dtype::BF16, values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect());
    let (_, model) = folder_with(folder.path(), "transformer.", half, |_| {}).load(&Device::flex()).unwrap();
    let expected: Vec<_> = values(&config().tensors()[0]).iter().map(|value| f16::from_f32(*value).to_f32()).collect();
    assert_eq!(all_values(&model)[0], expected);
    let (_, model) = folder_with(folder.path(), "transformer.", brain, |_| {}).load(&Device::flex()).unwrap();
    let expected: Vec<_> = values(&config().tensors()[0]).iter().map(|value| bf16::from_f32(*value).to_f32()).collect();
    assert_eq!(all_values(&model)[0], expected);
}

#[test]
fn missing_misshapen_and_mistyped_tensors_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let load = |change: fn(&mut Vec<(String, Dtype, Vec<usize>, Vec<u8>)>)| {
        failure(folder_with(folder.path(), "transformer.", f32s, change).load(&Device::flex()))
    };
    let missing = load(|tensors| tensors.retain(|tensor| !tensor.0.ends_with("h.1.mlp.c_fc.bias")));
    assert_eq!(missing, "tensor 'transformer.h.1.mlp.c_fc.bias' is missing");
    let transposed = load(|tensors| tensors[4].2.reverse());
    assert_eq!(transposed, "tensor 'transformer.h.0.attn.c_attn.weight' has shape [36, 12], expected [12, 36]");
    let integers = load(|tensors| tensors[1].1 = Dtype::I32);
    assert_eq!(integers, "tensor 'transformer.wpe.weight' has type I32, expected F32, F16 or BF16");
}

#[test]
fn tensors_that_are_not_finite_are_neither_read_nor_written() {
    let folder = tempfile::tempdir().unwrap();
    let half = |values: &[f32]| (Dtype::F16, values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect());
    let infinite = |tensors: &mut Vec<(String, Dtype, Vec<usize>, Vec<u8>)>| {
        tensors[3].3.last_chunk_mut::<2>().unwrap().copy_from_slice(&f16::INFINITY.to_le_bytes());
    };
    let read = failure(folder_with(folder.path(), "transformer.", half, infinite).load(&Device::flex()));
    assert_eq!(read, "tensor 'transformer.h.0.ln_1.bias' is not finite: it contains inf");
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let with = |tensor: &TensorShape| {
            let mut values = values(tensor);
            if tensor.name == "ln_f.bias" {
                values[0] = value;
            }
            Ok::<_, ()>(values)
        };
        let model = Gpt2::new(&config(), &Device::flex(), with).unwrap();
        let error = model::folder::write_weights(&config(), &model, &mut Vec::new()).unwrap_err().to_string();
        assert_eq!(error, format!("tensor 'transformer.ln_f.bias' is not finite: it contains {value}"));
    }
}

#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder_with(folder.path(), "transformer.", f32s, |_| {});
    let path = folder.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    for length in [0, 7, 8, 100, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(failure(model.load(&Device::flex())).starts_with("not a safetensors file"), "{length} bytes");
    }
    fs::write(&path, [&u64::MAX.to_le_bytes()[..], &whole[8..]].concat()).unwrap();
    assert!(failure(model.load(&Device::flex())).contains("a header of 18446744073709551615 bytes"));
    fs::remove_file(&path).unwrap();
    assert!(TensorFile::open(&path).unwrap_err().to_string().contains("cannot read it"));
}

#[test]
fn a_config_of_another_computation_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder_with(folder.path(), "transformer.", f32s, |_| {});
    let with = |key: &str, value| {
        let mut json = config_json(&config());
        json[key] = value;
        fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
        match model.config() {
            Ok(config) => format!("{config:?}"),
            Err(error) => error.to_string().rsplit(": ").next().unwrap().to_owned(),
        }
    };
    assert_eq!(with("model_type", json!("llama")), "model_type is llama, expected gpt2");
    assert_eq!(with("activation_function", json!("relu")), "activation_function is relu, expected gelu_new");
    assert_eq!(with("layer_norm_epsilon", json!(1e-6)), "layer_norm_epsilon is 0.000001, expected 1e-5");
    assert_eq!(with("n_inner", json!(5)), "n_inner is 5, expected 4 * n_embd");
    assert_eq!(with("n_head", json!(5)), "n_embd is 12, expected a multiple of n_head that is not 0");
    assert_eq!(
        with("scale_attn_by_inverse_layer_idx", json!(true)),
        "scale_attn_by_inverse_layer_idx is true, expected false"
    );
    assert!(with("eos_token_id", json!([7, 8])).contains("end_of_text: Some(7)"));
    assert!(with("n_inner", json!(48)).starts_with("Gpt2Config"));
}

/// A folder that transformers wrote is loaded and written again.
#[test]
fn a_folder_of_transformers_is_written_with_the_same_names_shapes_and_bytes() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("PIPELINE_SHARED").map_or_else(|| repository.join("../shared"), PathBuf::from);
    let folder = shared.join("parity/wide");
    if !folder.is_dir() {
        eprintln!("skipped: no recorded model at {}", folder.display());
        return;
    }
    let (config, model) = ModelFolder::at(&folder).load(&Device::flex()).unwrap();
    let mut ours = Vec::new();
    model::folder::write_weights(&config, &model, &mut ours).unwrap();
    let theirs = fs::read(folder.join("model.safetensors")).unwrap();
    let (ours, theirs) = (SafeTensors::deserialize(&ours).unwrap(), SafeTensors::deserialize(&theirs).unwrap());
    let sorted = |file: &SafeTensors<'_>| {
        let mut names: Vec<_> = file.names().into_iter().map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(sorted(&ours), sorted(&theirs));
    for name in theirs.names() {
        assert!(ours.tensor(name).unwrap() == theirs.tensor(name).unwrap(), "{name}");
    }
    let theirs: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    let ours = config_json(&config);
    for (key, value) in theirs.as_object().unwrap() {
        let same = matches!(key.as_str(), "transformers_version" | "initializer_range") || key.starts_with("summary_");
        assert!(same || ours[key] == *value, "{key}: {} where transformers wrote {value}", ours[key]);
    }
}
