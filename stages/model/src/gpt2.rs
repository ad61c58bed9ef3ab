//! GPT-2: a decoder of pre-norm blocks with learned positions, `gelu_new` and a tied output head, as in Hugging Face's
//! `GPT2LMHeadModel`.
//!
//! ```text
//! x = wte[ids] + wpe[0..sequence]
//! x = x + attn(ln_1(x));  x = x + mlp(ln_2(x))        in each block
//! logits = ln_f(x) · wteᵀ
//! ```
//!
//! The fields have Hugging Face's names, so a tensor's path in the module is its name in a directory. All values are `f32`; matrix
//! products are computed in a [`Precision`].

use burn::module::{Module, Param};
use burn::nn::{Embedding, Linear};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation, module, s};

use crate::config::{Gpt2Config, TensorShape};
use crate::device::is_gpu;
use crate::dropout::{Dropout, Place};
use crate::fused;
use crate::precision::Precision;

/// The epsilon that is added to the variance of a layer norm.
pub const LAYER_NORM_EPSILON: f64 = 1e-5;

/// The whole model.
#[derive(Module, Debug)]
pub struct Gpt2 {
    /// Token embedding `[vocabulary, width]`, which is the output head too.
    pub wte: Embedding,
    /// Position embedding `[positions, width]`.
    pub wpe: Embedding,
    /// The blocks.
    pub h: Vec<Block>,
    /// The last layer norm.
    pub ln_f: LayerNorm,
}

/// One block.
#[derive(Module, Debug)]
pub struct Block {
    /// The layer norm before the attention.
    pub ln_1: LayerNorm,
    /// Causal self-attention.
    pub attn: Attention,
    /// The layer norm before the feed-forward part.
    pub ln_2: LayerNorm,
    /// The feed-forward part.
    pub mlp: Mlp,
}

/// Causal self-attention with several heads.
#[derive(Module, Debug)]
pub struct Attention {
    /// Query, key and value side by side: `[width, 3 · width]`.
    pub c_attn: Linear,
    /// `[width, width]`.
    pub c_proj: Linear,
    /// The number of heads.
    pub heads: usize,
}

/// Two linear maps with `gelu_new` between.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[width, 4 · width]`.
    pub c_fc: Linear,
    /// `[4 · width, width]`.
    pub c_proj: Linear,
}

/// Layer normalisation over the last dimension.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// Scale `[width]`.
    pub weight: Param<Tensor<1>>,
    /// Shift `[width]`.
    pub bias: Param<Tensor<1>>,
}

impl Gpt2 {
    /// Creates a model whose tensors come from `values`, called once for each of [`Gpt2Config::tensors`], in that order. The
    /// parameters require gradients if `device` is an autodiff device.
    ///
    /// # Errors
    /// Returns an error of `values`.
    pub fn new<E>(
        config: &Gpt2Config,
        device: &Device,
        mut values: impl FnMut(&TensorShape) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        let mut tensors = config.tensors().into_iter().map(|tensor| {
            let values = values(&tensor)?;
            Ok(TensorData::new(values, tensor.shape))
        });
        let mut next = || tensors.next().unwrap_or_else(|| unreachable!("the list names every tensor of the module"));
        let embedding = |data| Embedding { weight: Param::from_data(data, device) };
        let norm =
            |weight, bias| LayerNorm { weight: Param::from_data(weight, device), bias: Param::from_data(bias, device) };
        let linear = |weight, bias| Linear {
            weight: Param::from_data(weight, device),
            bias: Some(Param::from_data(bias, device)),
        };
        let (wte, wpe) = (embedding(next()?), embedding(next()?));
        let mut h = Vec::with_capacity(config.layers);
        for _ in 0..config.layers {
            let ln_1 = norm(next()?, next()?);
            let attn =
                Attention { c_attn: linear(next()?, next()?), c_proj: linear(next()?, next()?), heads: config.heads };
            let ln_2 = norm(next()?, next()?);
            let mlp = Mlp { c_fc: linear(next()?, next()?), c_proj: linear(next()?, next()?) };
            h.push(Block { ln_1, attn, ln_2, mlp });
        }
        let ln_f = norm(next()?, next()?);
        Ok(Self { wte, wpe, h, ln_f })
    }

    /// Returns the features before the output head: ids `[batch, sequence]` to `[batch, sequence, width]`, after the last layer norm.
    ///
    /// A sequence must not be longer than the model's positions, and ids must be below its vocabulary.
    pub fn features(&self, ids: Tensor<2, Int>, precision: Precision) -> Tensor<3> {
        self.features_of(self.embedded(ids), precision, None)
    }

    /// Returns the sums of token and position embeddings: ids `[batch, sequence]` to `[batch, sequence, width]`.
    pub fn embedded(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [_, sequence] = ids.dims();
        let positions = self.wpe.weight.val().slice(s![0..sequence]).unsqueeze::<3>();
        self.wte.forward(ids) + positions
    }

    /// Returns the features of ids that are [`Gpt2::embedded`], with dropout if there is any.
    pub fn features_of(&self, embedded: Tensor<3>, precision: Precision, dropout: Option<&Dropout>) -> Tensor<3> {
        let [_, sequence, _] = embedded.dims();
        let device = embedded.device();
        let embedded = dropped(dropout, embedded, 0, Place::Embedding);
        let blocks = self.h.iter().enumerate();
        let drops_attention = dropout.is_some_and(|dropout| dropout.rate(Place::Attention) > 0.0);
        if precision == Precision::F32 && !is_gpu(&device) && !drops_attention {
            return self
                .ln_f
                .forward(blocks.fold(embedded, |x, (layer, block)| block.forward_on_cpu(x, dropout, layer)));
        }
        // On CUDA, Burn's attention has wrong gradients (burn 0.23.0-pre.1 on an H200; step `operations` of benches/gpu/check.sh).
        let mask = (embedded.is_autodiff() && is_gpu(&device)).then(|| fused::causal_mask(sequence, &device));
        let x = blocks.fold(embedded, |x, (layer, block)| {
            block.forward(x, mask.as_ref(), precision, dropout.map(|dropout| (dropout, layer)))
        });
        self.ln_f.forward(x)
    }

    /// Applies the output head: features `[rows, width]` to logits `[rows, vocabulary]`.
    pub fn head(&self, features: Tensor<2>) -> Tensor<2> {
        features.matmul(self.wte.weight.val().transpose())
    }

    /// Returns the logits: ids `[batch, sequence]` to `[batch, sequence, vocabulary]`, in `f32`.
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let features = self.features(ids, Precision::F32);
        let [batch, sequence, width] = features.dims();
        self.head(features.reshape([batch * sequence, width])).reshape([batch as isize, sequence as isize, -1])
    }
}

impl Block {
    /// Maps `[batch, sequence, width]` to the same, with Burn's attention or, if a mask is given, [`fused::causal_attention`]. Dropout comes
    /// with the number of the layer.
    pub fn forward(
        &self,
        x: Tensor<3>,
        mask: Option<&Tensor<4>>,
        precision: Precision,
        dropout: Option<(&Dropout, usize)>,
    ) -> Tensor<3> {
        let (rates, layer) = dropout.unzip();
        let layer = layer.unwrap_or_default();
        let attended = self.attn.forward(self.ln_1.factor(x.clone(), precision), mask, precision, dropout);
        let x = x + dropped(rates, attended, layer, Place::AttentionResult);
        let inner = self.mlp.forward(self.ln_2.factor(x.clone(), precision), precision);
        x + dropped(rates, inner, layer, Place::MlpResult)
    }

    /// Does the same as [`Block::forward`] in `f32`, by operations of [`fused::cpu`], without dropout of the attention's weights.
    fn forward_on_cpu(&self, x: Tensor<3>, dropout: Option<&Dropout>, layer: usize) -> Tensor<3> {
        let linear = |linear: &Linear, x: Tensor<3>, onto: Option<Tensor<3>>| {
            let weight = linear.weight.val();
            let bias = match &linear.bias {
                Some(bias) => bias.val(),
                None => Tensor::zeros([weight.dims()[1]], &weight.device()),
            };
            match onto {
                Some(onto) => fused::cpu::linear_onto(x, weight, bias, onto),
                None => fused::cpu::linear(x, weight, bias),
            }
        };
        let dropout = dropout.filter(|dropout| dropout.rate(Place::MlpResult) > 0.0);
        let onto = |x: Tensor<3>, map: &Linear, inner: Tensor<3>, place: Place| match dropout {
            Some(dropout) => x + dropout.apply(linear(map, inner, None), layer, place),
            None => linear(map, inner, Some(x)),
        };
        let joined = linear(&self.attn.c_attn, self.ln_1.forward(x.clone()), None);
        let attended = fused::cpu::causal_attention(joined, self.attn.heads);
        let x = onto(x, &self.attn.c_proj, attended, Place::AttentionResult);
        let inner = fused::gelu_new(linear(&self.mlp.c_fc, self.ln_2.forward(x.clone()), None));
        onto(x, &self.mlp.c_proj, inner, Place::MlpResult)
    }
}

impl Attention {
    /// See [`Block::forward`].
    pub fn forward(
        &self,
        x: Tensor<3>,
        mask: Option<&Tensor<4>>,
        precision: Precision,
        dropout: Option<(&Dropout, usize)>,
    ) -> Tensor<3> {
        let [query, key, value] = self.split(x, precision);
        let dropout = dropout.filter(|(dropout, _)| dropout.rate(Place::Attention) > 0.0);
        let attended = match (dropout, mask) {
            (Some((dropout, layer)), _) => dropped_attention(query, key, value, dropout, layer),
            (None, Some(mask)) => fused::causal_attention(query, key, value, mask.clone()),
            (None, None) => {
                let options = AttentionModuleOptions { is_causal: true, ..Default::default() };
                module::attention(query, key, value, None, None, options)
            }
        };
        self.merge(attended, precision)
    }

    /// Returns query, key and value of `x` `[batch, sequence, width]`, each `[batch, heads, sequence, head width]`, as factors.
    pub fn split(&self, x: Tensor<3>, precision: Precision) -> [Tensor<4>; 3] {
        let [batch, sequence, width] = x.dims();
        let joined = precision.linear(&self.c_attn, x);
        [0, 1, 2].map(|part| {
            joined
                .clone()
                .slice([0..batch, 0..sequence, part * width..(part + 1) * width])
                .reshape([batch, sequence, self.heads, width / self.heads])
                .swap_dims(1, 2)
        })
    }

    /// Joins and projects the results of the heads, `[batch, heads, sequence, head width]` to `[batch, sequence, width]`.
    pub fn merge(&self, attended: Tensor<4>, precision: Precision) -> Tensor<3> {
        let [batch, heads, sequence, head_width] = attended.dims();
        let joined = attended.swap_dims(1, 2).reshape([batch, sequence, heads * head_width]);
        precision.result(precision.linear(&self.c_proj, joined))
    }
}

/// Applies dropout, if there is any.
fn dropped(dropout: Option<&Dropout>, x: Tensor<3>, layer: usize, place: Place) -> Tensor<3> {
    match dropout {
        Some(dropout) => dropout.apply(x, layer, place),
        None => x,
    }
}

/// Causal attention some of whose weights are dropped, of plain operations, which keep values for each pair of tokens. Query, key and
/// value are `[batch, heads, sequence, head width]`, and so is the result; the weights are `f32`.
fn dropped_attention(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, dropout: &Dropout, layer: usize) -> Tensor<4> {
    let [_, _, sequence, width] = query.dims();
    let (mask, format) = (fused::causal_mask(sequence, &query.device()), query.dtype());
    let [query, key] = [query, key].map(|factor| factor.cast(DType::F32));
    let scores = query.matmul(key.swap_dims(2, 3)).div_scalar((width as f64).sqrt()) + mask;
    let weights = dropout.apply(activation::softmax(scores, 3), layer, Place::Attention);
    weights.cast(format).matmul(value)
}

impl Mlp {
    /// Maps `[batch, sequence, width]` to the same shape.
    pub fn forward(&self, x: Tensor<3>, precision: Precision) -> Tensor<3> {
        let inner = fused::gelu_new(precision.linear(&self.c_fc, x));
        precision.result(precision.linear(&self.c_proj, inner))
    }
}

impl LayerNorm {
    /// Maps `[.., width]` to the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.factor(x, Precision::F32)
    }

    /// Applies the layer norm and returns the result as a factor of a product.
    pub fn factor<const D: usize>(&self, x: Tensor<D>, precision: Precision) -> Tensor<D> {
        fused::layer_norm(x, self.weight.val(), self.bias.val(), LAYER_NORM_EPSILON, precision.dtype())
    }
}
