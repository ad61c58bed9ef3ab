//! The sizes of a GPT-2, and the list of its tensors.
//!
//! One list, [`Gpt2Config::tensors`], names every tensor once with its shape. Initialisation, loading, saving, checkpoints
//! and the parameter count all use it, so that they cannot disagree. Names are those of Hugging Face's
//! `GPT2Model` (`wte.weight`, `h.0.attn.c_attn.weight`, …), matrices have the same layout, `[inputs, outputs]`, and the output
//! head is the token embedding (tied), so it is not a separate tensor.

use contract::{Fact, Facts, Shape};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The sizes of a GPT-2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpt2Config {
    /// The number of token ids: `0..vocabulary`.
    pub vocabulary: usize,
    /// The maximum length of a sequence, in tokens.
    pub positions: usize,
    /// The number of features per token; a multiple of `heads`.
    pub width: usize,
    /// The number of transformer blocks.
    pub layers: usize,
    /// The number of attention heads per block.
    pub heads: usize,
    /// The id of the token between documents, if it is known.
    pub end_of_text: Option<u32>,
}

/// A GPT-2 of the paper ("Language Models are Unsupervised Multitask Learners", table 2) by its published name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Preset {
    /// 12 layers, width 768, 12 heads: 111.0M parameters at a vocabulary of 32,768.
    #[serde(rename = "gpt2")]
    Gpt2,
    /// 24 layers, width 1024, 16 heads: 336.9M parameters at a vocabulary of 32,768.
    #[serde(rename = "gpt2-medium")]
    Gpt2Medium,
    /// 36 layers, width 1280, 20 heads: 751.6M parameters at a vocabulary of 32,768.
    #[serde(rename = "gpt2-large")]
    Gpt2Large,
    /// 48 layers, width 1600, 25 heads: 1529.6M parameters at a vocabulary of 32,768.
    #[serde(rename = "gpt2-xl")]
    Gpt2Xl,
}

impl Preset {
    /// Returns layers, width and heads.
    pub const fn sizes(self) -> (usize, usize, usize) {
        match self {
            Self::Gpt2 => (12, 768, 12),
            Self::Gpt2Medium => (24, 1024, 16),
            Self::Gpt2Large => (36, 1280, 20),
            Self::Gpt2Xl => (48, 1600, 25),
        }
    }
}

/// One tensor of a model: its name and shape (one or two dimensions).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorShape {
    /// The name without the prefix `transformer.`.
    pub name: String,
    /// The dimensions.
    pub shape: Vec<usize>,
}

impl TensorShape {
    /// Returns the number of its values.
    pub fn size(&self) -> usize {
        self.shape.iter().fold(1, |size, dimension| size.saturating_mul(*dimension))
    }

    /// Returns whether weight decay applies: to matrices and embeddings, not to biases and layer norms.
    pub fn decays(&self) -> bool {
        self.shape.len() == 2
    }
}

impl Gpt2Config {
    /// Returns a preset's sizes with this vocabulary and maximum sequence length.
    pub fn preset(preset: Preset, vocabulary: usize, positions: usize) -> Self {
        let (layers, width, heads) = preset.sizes();
        Self { vocabulary, positions, width, layers, heads, end_of_text: None }
    }

    /// Returns the facts of a model of these sizes.
    pub fn facts(&self) -> Facts {
        let fact = |value: usize| Some(Fact::own(value as u64, ""));
        let [layers, width, heads] = [self.layers, self.width, self.heads].map(|size| size as u64);
        Facts {
            vocabulary: fact(self.vocabulary),
            positions: fact(self.positions),
            parameters: fact(self.parameters()),
            shape: Some(Fact::own(Shape { layers, width, heads }, "")),
            ..Facts::default()
        }
    }

    /// Returns the operations for training on one token of a sequence of `length`: 6 per parameter for the forward and the backward pass
    /// together, and `12 · layers · width · length` for attention (Chowdhery et al., "PaLM", 2022, appendix B).
    pub fn operations(&self, length: u64) -> f64 {
        6.0 * self.parameters() as f64 + 12.0 * self.layers as f64 * self.width as f64 * length as f64
    }

    /// Returns the features of one head.
    pub fn head_width(&self) -> usize {
        self.width / self.heads
    }

    /// Returns every tensor, in the order of the module's fields.
    pub fn tensors(&self) -> Vec<TensorShape> {
        let tensor = |name: String, shape: &[usize]| TensorShape { name, shape: shape.to_vec() };
        let width = self.width;
        let mut tensors = vec![
            tensor("wte.weight".into(), &[self.vocabulary, width]),
            tensor("wpe.weight".into(), &[self.positions, width]),
        ];
        for layer in 0..self.layers {
            let mut pair = |part: &str, weight: &[usize]| {
                let outputs = weight[weight.len() - 1];
                tensors.push(tensor(format!("h.{layer}.{part}.weight"), weight));
                tensors.push(tensor(format!("h.{layer}.{part}.bias"), &[outputs]));
            };
            pair("ln_1", &[width]);
            pair("attn.c_attn", &[width, 3 * width]);
            pair("attn.c_proj", &[width, width]);
            pair("ln_2", &[width]);
            pair("mlp.c_fc", &[width, 4 * width]);
            pair("mlp.c_proj", &[4 * width, width]);
        }
        tensors.push(tensor("ln_f.weight".into(), &[width]));
        tensors.push(tensor("ln_f.bias".into(), &[width]));
        tensors
    }

    /// Returns the number of trainable values.
    pub fn parameters(&self) -> usize {
        self.tensors().iter().map(TensorShape::size).fold(0, usize::saturating_add)
    }
}
