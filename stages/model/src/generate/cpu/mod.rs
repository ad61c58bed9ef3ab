//! The forward pass of generation on the CPU.
//!
//! It computes the same as [`Gpt2`], in `f32`, for a few rows at a time. Burn's matrix products are optimised for many rows: for 1 to 16
//! rows, they spend most of the time copying weights. Here weights ([`matrix`]), keys and values ([`cache`]) are stored once, in the order
//! in which they are read.
//!
//! All sums have a fixed order, whatever the number of rows, threads or cached tokens, and each row is computed independently: the logits
//! of a token have the same bits whether it is read with its prompt or generated, alone or in a batch, and on any processor.
//!
//! | module | contents |
//! |---|---|
//! | [`tile`] | the kernel of all matrix products |
//! | [`matrix`] | weights |
//! | [`cache`] | the keys and values of the tokens so far, and attention over them |

pub mod cache;
pub mod matrix;
pub mod tile;

use std::sync::Arc;

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::Tensor;
use contract::{Cancel, Result};
use rayon::prelude::*;

use self::cache::{Segment, Sequence, Sizes, attend};
use self::matrix::Matrix;
use crate::config::Gpt2Config;
use crate::fused::loops;
use crate::gpt2::{Gpt2, LAYER_NORM_EPSILON, LayerNorm};
use crate::parameters::host_values;

/// The weights of a model, in the order in which they are read.
pub struct CpuModel {
    sizes: Sizes,
    /// The token embedding as the output head: one column per token.
    tokens: Matrix,
    /// `[positions, width]`.
    positions: Vec<f32>,
    blocks: Vec<Block>,
    last: Norm,
}

struct Block {
    attention_norm: Norm,
    /// Query, key and value side by side.
    split: Matrix,
    merge: Matrix,
    mlp_norm: Norm,
    grow: Matrix,
    shrink: Matrix,
}

struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl std::fmt::Debug for CpuModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CpuModel").field("sizes", &self.sizes).finish_non_exhaustive()
    }
}

impl CpuModel {
    /// Creates the model from its tensors, which are released one by one unless something else uses them.
    ///
    /// # Errors
    /// Returns an error if a tensor cannot be read.
    pub fn new(config: &Gpt2Config, model: Gpt2) -> Result<Self> {
        let Gpt2 { wte, wpe, h, ln_f } = model;
        let blocks = h.into_iter().map(|block| {
            Ok(Block {
                attention_norm: Norm::new(block.ln_1)?,
                split: linear(block.attn.c_attn)?,
                merge: linear(block.attn.c_proj)?,
                mlp_norm: Norm::new(block.ln_2)?,
                grow: linear(block.mlp.c_fc)?,
                shrink: linear(block.mlp.c_proj)?,
            })
        });
        Ok(Self {
            sizes: Sizes { layers: config.layers, heads: config.heads, head_width: config.width / config.heads },
            tokens: Matrix::of_columns(&values(wte.weight)?, config.width),
            positions: values(wpe.weight)?,
            blocks: blocks.collect::<Result<_>>()?,
            last: Norm::new(ln_f)?,
        })
    }

    /// Reads a prompt of at least one token. Returns its keys and values, and the logits `[vocabulary]` of the token after it.
    ///
    /// The prompt must not be longer than the model's positions, and its ids must be below the vocabulary.
    ///
    /// # Errors
    /// Returns an error if the run is cancelled.
    pub fn read_prompt(&self, prompt: &[u32], cancel: &Cancel) -> Result<(Arc<Segment>, Vec<f32>)> {
        let mut segment = Segment::new(self.sizes, prompt.len());
        let x = self.embedded(prompt.iter().copied().zip(0..prompt.len()));
        let x = self.forward(x, &mut Tokens::Prompt(&mut segment), cancel)?;
        segment.advance(prompt.len());
        let last = &x[x.len() - self.width()..];
        Ok((Arc::new(segment), self.logits(last)))
    }

    /// Returns a row that continues a prompt, with room for `more` tokens.
    pub fn continuation(&self, prompt: &Arc<Segment>, more: usize) -> Sequence {
        Sequence { prompt: prompt.clone(), own: Segment::new(self.sizes, more) }
    }

    /// Adds one token to each row. Returns the logits `[rows, vocabulary]` of the tokens after them.
    ///
    /// There must be one id for each row, and no row may grow past the model's positions or its room.
    ///
    /// # Errors
    /// Returns an error if the run is cancelled.
    pub fn step(&self, rows: &mut [Sequence], ids: &[u32], cancel: &Cancel) -> Result<Vec<f32>> {
        let x = self.embedded(ids.iter().copied().zip(rows.iter().map(Sequence::tokens)));
        let x = self.forward(x, &mut Tokens::Newest(rows), cancel)?;
        rows.iter_mut().for_each(|row| row.own.advance(1));
        Ok(self.logits(&x))
    }

    fn width(&self) -> usize {
        self.sizes.heads * self.sizes.head_width
    }

    /// Returns the embedding `[rows, width]` of ids at positions.
    fn embedded(&self, tokens: impl ExactSizeIterator<Item = (u32, usize)>) -> Vec<f32> {
        let width = self.width();
        let mut x = vec![0.0; tokens.len() * width];
        for (x, (id, position)) in x.chunks_exact_mut(width).zip(tokens) {
            self.tokens.column(id as usize, x);
            add(x, &self.positions[position * width..][..width]);
        }
        x
    }

    /// Returns the features `[rows, width]` before the last layer norm.
    fn forward(&self, mut x: Vec<f32>, tokens: &mut Tokens<'_>, cancel: &Cancel) -> Result<Vec<f32>> {
        let width = self.width();
        for (layer, block) in self.blocks.iter().enumerate() {
            cancel.check()?;
            let split = block.split.product(&block.attention_norm.of_rows(&x), |_| {});
            for (row, split) in split.chunks_exact(3 * width).enumerate() {
                tokens.write(layer, row, &split[width..2 * width], &split[2 * width..]);
            }
            let attended = self.attended(layer, &split, tokens);
            add(&mut x, &block.merge.product(&attended, |_| {}));
            let grown = block.grow.product(&block.mlp_norm.of_rows(&x), loops::gelu_in_place);
            add(&mut x, &block.shrink.product(&grown, |_| {}));
        }
        Ok(x)
    }

    /// Returns the attention `[rows, width]` of the queries in `split` `[rows, 3 · width]`.
    fn attended(&self, layer: usize, split: &[f32], tokens: &Tokens<'_>) -> Vec<f32> {
        let (width, Sizes { heads, head_width, .. }) = (self.width(), self.sizes);
        let mut y = vec![0.0; split.len() / 3];
        y.par_chunks_exact_mut(head_width).enumerate().for_each(|(number, y)| {
            let (row, head) = (number / heads, number % heads);
            let query = &split[row * 3 * width + head * head_width..][..head_width];
            attend(layer, head, query, tokens.visible(row), y);
        });
        y
    }

    /// Returns the logits `[rows, vocabulary]` of features `[rows, width]`.
    fn logits(&self, x: &[f32]) -> Vec<f32> {
        self.tokens.product(&self.last.of_rows(x), |_| {})
    }
}

/// The tokens of a forward pass: a row is a token of a prompt, or the newest token of a sequence.
enum Tokens<'a> {
    Prompt(&'a mut Segment),
    Newest(&'a mut [Sequence]),
}

impl Tokens<'_> {
    fn write(&mut self, layer: usize, row: usize, key: &[f32], value: &[f32]) {
        match self {
            Self::Prompt(segment) => segment.write(layer, row, key, value),
            Self::Newest(sequences) => sequences[row].own.write(layer, 0, key, value),
        }
    }

    /// Returns the tokens that a row attends to: all tokens up to its own.
    fn visible(&self, row: usize) -> cache::Visible<'_> {
        match self {
            Self::Prompt(segment) => [(segment, row + 1), (segment, 0)],
            Self::Newest(sequences) => {
                let Sequence { prompt, own } = &sequences[row];
                [(prompt, prompt.tokens()), (own, own.tokens() + 1)]
            }
        }
    }
}

impl Norm {
    fn new(norm: LayerNorm) -> Result<Self> {
        Ok(Self { weight: values(norm.weight)?, bias: values(norm.bias)? })
    }

    fn of_rows(&self, x: &[f32]) -> Vec<f32> {
        let width = self.weight.len();
        let mut y = vec![0.0; x.len()];
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            loops::layer_norm::<f32>(x, &self.weight, &self.bias, y, LAYER_NORM_EPSILON as f32);
        }
        y
    }
}

fn linear(linear: Linear) -> Result<Matrix> {
    let [_, outputs] = linear.weight.dims();
    let bias = linear.bias.map(values).transpose()?;
    Ok(Matrix::new(&values(linear.weight)?, &bias.unwrap_or_else(|| vec![0.0; outputs])))
}

fn values<const D: usize>(parameter: Param<Tensor<D>>) -> Result<Vec<f32>> {
    let (_, tensor, _) = parameter.consume();
    let size = tensor.shape().num_elements();
    host_values(tensor.inner().reshape([size]))
}

fn add(x: &mut [f32], more: &[f32]) {
    x.iter_mut().zip(more).for_each(|(x, more)| *x += more);
}
