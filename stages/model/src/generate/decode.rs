//! The forward pass of a prompt and of one step.

use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Int, Tensor, TensorData, module, s};

use super::cache::Cache;
use crate::gpt2::Gpt2;
use crate::precision::Precision;

/// Generation uses full precision: the choice of a token may depend on the difference between two close logits.
const PRECISION: Precision = Precision::F32;

/// Reads a prompt of at least one token. Returns its cache and the logits `[1, vocabulary]` of the token after it.
///
/// The prompt must not be longer than the model's positions, and its ids must be below the vocabulary.
pub fn read_prompt(model: &Gpt2, prompt: &[u32]) -> (Cache, Tensor<2>) {
    let device = model.wte.weight.val().device();
    let tokens = prompt.len();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(signed(prompt), [1, tokens]), &device);
    let positions = model.wpe.weight.val().slice(s![0..tokens]).unsqueeze::<3>();
    let mut x = model.wte.forward(ids) + positions;
    let mut layers = Vec::with_capacity(model.h.len());
    for block in &model.h {
        let [query, key, value] = block.attn.split(block.ln_1.forward(x.clone()), PRECISION);
        layers.push((key.clone(), value.clone()));
        let options = AttentionModuleOptions { is_causal: true, ..Default::default() };
        x = x + block.attn.merge(module::attention(query, key, value, None, None, options), PRECISION);
        x = x.clone() + block.mlp.forward(block.ln_2.forward(x), PRECISION);
    }
    let last = x.slice(s![.., tokens - 1.., ..]);
    (Cache::of_prompt(layers), logits(model, last))
}

/// Adds one token for each row to the cache. Returns the logits `[rows, vocabulary]` of the tokens after them.
///
/// There must be one id for each row, and no row may grow past the model's positions or the cache's capacity.
pub fn step(model: &Gpt2, cache: &mut Cache, ids: &[u32]) -> Tensor<2> {
    let device = model.wte.weight.val().device();
    let rows = ids.len();
    let row = |values: Vec<i32>| TensorData::new(values, [rows]);
    let positions = (0..rows).map(|row| cache.tokens(row) as i32).collect();
    let positions = Tensor::<1, Int>::from_data(row(positions), &device);
    let ids = Tensor::<1, Int>::from_data(row(signed(ids)), &device);
    let tokens = model.wte.weight.val().select(0, ids);
    let mut x = (tokens + model.wpe.weight.val().select(0, positions)).unsqueeze_dim::<3>(1);
    let mask = model.h.first().and_then(|block| cache.mask(block.attn.heads, &device));
    for (layer, block) in model.h.iter().enumerate() {
        let [query, key, value] = block.attn.split(block.ln_1.forward(x.clone()), PRECISION);
        let (keys, values) = cache.push(layer, key, value);
        let attended = module::attention(query, keys, values, mask.clone(), None, AttentionModuleOptions::default());
        x = x + block.attn.merge(attended, PRECISION);
        x = x.clone() + block.mlp.forward(block.ln_2.forward(x), PRECISION);
    }
    cache.advance();
    logits(model, x)
}

/// Applies the output head to `[rows, 1, width]`.
fn logits(model: &Gpt2, x: Tensor<3>) -> Tensor<2> {
    model.head(model.ln_f.forward(x).squeeze_dim::<2>(1))
}

/// Copies ids to the device as integers; a vocabulary has fewer than 2³¹.
fn signed(ids: &[u32]) -> Vec<i32> {
    ids.iter().map(|&id| id as i32).collect()
}
