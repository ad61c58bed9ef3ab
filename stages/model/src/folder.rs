//! A model as a directory in Hugging Face's format: `config.json`, `generation_config.json` and `model.safetensors`.
//!
//! Format for writing: `GPT2LMHeadModel`, `f32`, names with the prefix `transformer.`, metadata `format = "pt"`, without the tied output
//! head, as in transformers' `save_pretrained`. Reading also accepts other common variants: names without the prefix (`GPT2Model`), `f16`
//! and `bf16`, a copy of the tied head, and the constant buffers `attn.bias` and `attn.masked_bias` of old files, which are ignored. A
//! `config.json` that specifies a computation other than ours is rejected.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use contract::context::{InputFile, InputTree};
use contract::{Cancel, Facts, InputFacts, OutputTree, Result, StageError};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokens::text::CONFIG_FILE;

use crate::config::{Gpt2Config, TensorShape};
use crate::gpt2::{Gpt2, LAYER_NORM_EPSILON};
use crate::initial::DEVIATION;
use crate::parameters::{host_values, parameters};
use crate::tensor_file::{TensorFile, write_tensors};

/// The sizes and computation.
pub const CONFIG: &str = "config.json";
/// The tensors.
pub const WEIGHTS: &str = "model.safetensors";
const GENERATION: &str = "generation_config.json";
/// The maximum sequence length, in `tokenizer_config.json`.
const MAX_LENGTH: &str = "model_max_length";
const PREFIX: &str = "transformer.";
/// The token embedding, without a prefix.
const EMBEDDING: &str = "wte.weight";
/// The version of transformers whose `config.json` this one follows.
const TRANSFORMERS: &str = "5.0.0";

/// The paths of a model's files.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    config: PathBuf,
    weights: PathBuf,
}

impl ModelFolder {
    /// Returns the model of an input tree.
    ///
    /// # Errors
    /// Returns an error if the tree lacks one of the two files.
    pub fn of(tree: &InputTree) -> Result<Self> {
        let location = |name: &str| tree.required(name).map(|file| file.location.clone());
        Ok(Self { config: location(CONFIG)?, weights: location(WEIGHTS)? })
    }

    /// Returns the model in a directory.
    pub fn at(folder: &Path) -> Self {
        Self { config: folder.join(CONFIG), weights: folder.join(WEIGHTS) }
    }

    /// Reads the sizes.
    ///
    /// # Errors
    /// Returns an error if `config.json` cannot be read or specifies a computation other than GPT-2's.
    pub fn config(&self) -> Result<Gpt2Config> {
        let text = fs::read_to_string(&self.config).map_err(|e| StageError::io("read it", &e).in_file(&self.config))?;
        read_config(&text).map_err(|error| error.in_file(&self.config))
    }

    /// Returns the facts of the model in a tree; no facts if it cannot be read.
    pub fn facts(tree: &InputTree) -> Facts {
        Self::of(tree).and_then(|folder| folder.config()).map(|config| config.facts()).unwrap_or_default()
    }

    /// Completes the facts of a connected port with those of the model in its tree, unless a setting determines the model's sizes.
    pub fn observe(facts: &mut InputFacts, port: &str, input: &dyn Fn(&str) -> Option<InputTree>) {
        if facts.has(port) && facts.port(port).shape.is_none() {
            facts.complete(port, input(port).as_ref().map(Self::facts).unwrap_or_default());
        }
    }

    /// Reads the model onto `device`; on an autodiff device its parameters require gradients.
    ///
    /// # Errors
    /// See [`ModelFolder::config`]; returns an error if a tensor is missing or has another shape or type.
    pub fn load(&self, device: &Device) -> Result<(Gpt2Config, Gpt2)> {
        let config = self.config()?;
        let mut read = self.tensors()?;
        let model = Gpt2::new(&config, device, &mut read)?;
        Ok((config, model))
    }

    /// Reads the model with another number of ids. The rows of new ids are the mean of all rows of the token embedding (Hewitt,
    /// "Initializing New Word Embeddings for Pretrained Language Models", 2021), so that the model neither prefers nor avoids them;
    /// rows of ids beyond the new vocabulary are dropped. Transformers' `resize_token_embeddings` adds noise to that mean.
    ///
    /// # Errors
    /// See [`ModelFolder::load`].
    pub fn load_resized(&self, vocabulary: usize, device: &Device) -> Result<(Gpt2Config, Gpt2)> {
        let before = self.config()?;
        let config = Gpt2Config { vocabulary, ..before.clone() };
        let mut read = self.tensors()?;
        let model = Gpt2::new(&config, device, |tensor| match tensor.name.as_str() {
            EMBEDDING => {
                let rows = read(&TensorShape { shape: vec![before.vocabulary, before.width], ..tensor.clone() })?;
                Ok(resized(rows, before.width, vocabulary))
            }
            _ => read(tensor),
        })?;
        Ok((config, model))
    }

    /// Returns a function that reads a tensor by its name without a prefix.
    fn tensors(&self) -> Result<impl FnMut(&TensorShape) -> Result<Vec<f32>> + use<>> {
        let mut file = TensorFile::open(&self.weights)?;
        let prefix = if file.contains(&format!("{PREFIX}{EMBEDDING}")) { PREFIX } else { "" };
        Ok(move |tensor: &TensorShape| file.read(&format!("{prefix}{}", tensor.name), &tensor.shape))
    }
}

/// Returns rows of `width` values for this many ids: new rows are the mean of the given ones.
fn resized(mut rows: Vec<f32>, width: usize, vocabulary: usize) -> Vec<f32> {
    let count = rows.len() / width;
    if vocabulary > count {
        let mut mean = vec![0.0; width];
        for row in rows.chunks(width) {
            mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        let mean: Vec<f32> = mean.into_iter().map(|sum| (sum / count as f64) as f32).collect();
        rows.extend((count..vocabulary).flat_map(|_| &mean));
    }
    rows.truncate(vocabulary * width);
    rows
}

/// Writes the three files of a model in a directory to an output port, one tensor at a time.
///
/// # Errors
/// Returns [`StageError::Interrupted`] if asked to stop; an error if the model cannot be read or a file cannot be written.
pub fn copy(model: &ModelFolder, output: &OutputTree, cancel: &Cancel) -> Result<()> {
    let config = model.config()?;
    save_configuration(&config, output)?;
    let (shapes, mut read) = (config.tensors(), model.tensors()?);
    let mut file = output.create(WEIGHTS)?;
    write_tensors(&mut file, &[("format", "pt")], &named(&config), |index| {
        cancel.check()?;
        read(&shapes[index])
    })?;
    file.finish().map(drop)
}

/// Writes the model's three files to an output port.
///
/// # Errors
/// Returns an error if a tensor cannot be read from the device or a file cannot be written.
pub fn save(config: &Gpt2Config, model: &Gpt2, output: &OutputTree) -> Result<()> {
    save_configuration(config, output)?;
    let mut file = output.create(WEIGHTS)?;
    write_weights(config, model, &mut file)?;
    file.finish().map(drop)
}

/// Writes the two files beside the weights.
///
/// # Errors
/// Returns an error if a file cannot be written.
pub fn save_configuration(config: &Gpt2Config, output: &OutputTree) -> Result<()> {
    output.write_json(CONFIG, &config_json(config))?;
    output.write_json(GENERATION, &generation_json(config))
}

/// Writes `model.safetensors`.
///
/// # Errors
/// See [`save`].
pub fn write_weights(config: &Gpt2Config, model: &Gpt2, writer: &mut impl Write) -> Result<()> {
    let tensors = named(config);
    let mut values = parameters(model).into_iter();
    write_tensors(writer, &[("format", "pt")], &tensors, |_| {
        host_values(
            values.next().ok_or_else(|| StageError::new("the model has fewer tensors than config.json requires"))?,
        )
    })
}

/// Returns the tensors by their names in a file.
fn named(config: &Gpt2Config) -> Vec<TensorShape> {
    let named = |tensor: TensorShape| TensorShape { name: format!("{PREFIX}{}", tensor.name), ..tensor };
    config.tensors().into_iter().map(named).collect()
}

/// Returns the `config.json` of a model.
pub fn config_json(config: &Gpt2Config) -> Value {
    json!({
        "activation_function": "gelu_new",
        "add_cross_attention": false,
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.0,
        "bos_token_id": config.end_of_text,
        "dtype": "float32",
        "embd_pdrop": 0.0,
        "eos_token_id": config.end_of_text,
        "initializer_range": DEVIATION,
        "layer_norm_epsilon": LAYER_NORM_EPSILON,
        "model_type": "gpt2",
        "n_embd": config.width,
        "n_head": config.heads,
        "n_inner": null,
        "n_layer": config.layers,
        "n_positions": config.positions,
        "pad_token_id": null,
        "reorder_and_upcast_attn": false,
        "resid_pdrop": 0.0,
        "scale_attn_by_inverse_layer_idx": false,
        "scale_attn_weights": true,
        "tie_word_embeddings": true,
        "transformers_version": TRANSFORMERS,
        "use_cache": true,
        "vocab_size": config.vocabulary,
    })
}

fn generation_json(config: &Gpt2Config) -> Value {
    json!({
        "_from_model_config": true,
        "bos_token_id": config.end_of_text,
        "eos_token_id": config.end_of_text,
        "transformers_version": TRANSFORMERS,
    })
}

/// The fields of `config.json` that are read, with transformers' defaults.
#[derive(Deserialize)]
struct ConfigJson {
    model_type: String,
    vocab_size: usize,
    #[serde(alias = "n_ctx")]
    n_positions: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    activation_function: Option<String>,
    layer_norm_epsilon: Option<f64>,
    eos_token_id: Option<Value>,
    tie_word_embeddings: Option<bool>,
    scale_attn_weights: Option<bool>,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
    #[serde(default)]
    add_cross_attention: bool,
}

fn read_config(text: &str) -> Result<Gpt2Config> {
    let json: ConfigJson = serde_json::from_str(text).map_err(|error| StageError::new(error.to_string()))?;
    let refused = |setting: &str, found: &str, expected: &str| {
        StageError::new(format!("{setting} is {found}, expected {expected}"))
            .hint("only the computation of the original GPT-2 is implemented")
    };
    let expect = |holds: bool, setting: &str, found: &dyn std::fmt::Display, expected: &str| {
        if holds { Ok(()) } else { Err(refused(setting, &found.to_string(), expected)) }
    };
    let activation = json.activation_function.as_deref().unwrap_or("gelu_new");
    let same_gelu = matches!(activation, "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast");
    let epsilon = json.layer_norm_epsilon.unwrap_or(LAYER_NORM_EPSILON);
    let inner = json.n_inner.unwrap_or(4 * json.n_embd);
    let scaled = json.scale_attn_weights.unwrap_or(true);
    let tied = json.tie_word_embeddings.unwrap_or(true);
    let inverse = json.scale_attn_by_inverse_layer_idx;
    expect(json.model_type == "gpt2", "model_type", &json.model_type, "gpt2")?;
    expect(same_gelu, "activation_function", &activation, "gelu_new")?;
    expect((epsilon - LAYER_NORM_EPSILON).abs() < 1e-12, "layer_norm_epsilon", &epsilon, "1e-5")?;
    expect(inner == 4 * json.n_embd, "n_inner", &inner, "4 * n_embd")?;
    expect(tied, "tie_word_embeddings", &tied, "true")?;
    expect(scaled, "scale_attn_weights", &scaled, "true")?;
    expect(!inverse, "scale_attn_by_inverse_layer_idx", &inverse, "false")?;
    expect(!json.add_cross_attention, "add_cross_attention", &json.add_cross_attention, "false")?;
    let sizes = [json.vocab_size, json.n_positions, json.n_embd, json.n_layer, json.n_head];
    if sizes.contains(&0) || !json.n_embd.is_multiple_of(json.n_head) {
        return Err(refused("n_embd", &json.n_embd.to_string(), "a multiple of n_head that is not 0"));
    }
    let end_of_text = match json.eos_token_id {
        Some(Value::Array(ids)) => ids.first().and_then(Value::as_u64),
        Some(id) => id.as_u64(),
        None => None,
    };
    Ok(Gpt2Config {
        vocabulary: json.vocab_size,
        positions: json.n_positions,
        width: json.n_embd,
        layers: json.n_layer,
        heads: json.n_head,
        end_of_text: end_of_text.and_then(|id| u32::try_from(id).ok()),
    })
}

/// Writes the files of a tokenizer to the directory of a model, with the model's maximum sequence length: if the tokenizer's own settings
/// have another, its `tokenizer_config.json` is rewritten.
///
/// # Errors
/// Returns an error if a file cannot be read or written, or `tokenizer_config.json` is not an object.
pub fn save_tokenizer(config: &Gpt2Config, tokenizer: &InputTree, output: &OutputTree) -> Result<()> {
    for file in tokenizer.files.iter().filter(|file| is_of_a_tokenizer(file.path.as_str())) {
        match file.path.as_str() {
            CONFIG_FILE => output.write_json(CONFIG_FILE, &tokenizer_settings(config, file)?)?,
            path => output.link(path, file)?,
        }
    }
    Ok(())
}

/// Returns the settings of a tokenizer with the model's maximum sequence length.
fn tokenizer_settings(config: &Gpt2Config, file: &InputFile) -> Result<Map<String, Value>> {
    let mut settings: Map<String, Value> = serde_json::from_slice(&bytes_of(file)?)
        .map_err(|error| StageError::new(format!("{} is not a JSON object: {error}", file.path)))?;
    settings.insert(MAX_LENGTH.to_owned(), config.positions.into());
    Ok(settings)
}

fn bytes_of(file: &InputFile) -> Result<Vec<u8>> {
    fs::read(&file.location).map_err(|error| StageError::io(format!("read {}", file.path), &error))
}

/// Writes the files of a tokenizer outside the store: unchanged, or beside those of a model as [`save_tokenizer`] does.
///
/// # Errors
/// See [`save_tokenizer`].
pub fn copy_tokenizer(config: Option<&Gpt2Config>, tokenizer: &InputTree, output: &OutputTree) -> Result<()> {
    for file in tokenizer.files.iter().filter(|file| is_of_a_tokenizer(file.path.as_str())) {
        match (file.path.as_str(), config) {
            (CONFIG_FILE, Some(config)) => output.write_json(CONFIG_FILE, &tokenizer_settings(config, file)?)?,
            (path, _) => output.write(path, &bytes_of(file)?)?,
        }
    }
    Ok(())
}

/// Returns whether a file of a tokenizer's directory is copied beside a model: files that transformers loads, without reports.
pub fn is_of_a_tokenizer(path: &str) -> bool {
    const FILES: [&str; 6] = [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
    ];
    FILES.contains(&path)
}
