//! GPT-2: a decoder of pre-norm blocks with learned positions, `gelu_new` and a tied output head, as in Hugging Face's
//! `GPT2LMHeadModel` (without dropout).
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
use burn::tensor::{Device, Int, Tensor, TensorData, module, s};

use crate::config::{Gpt2Config, TensorShape};
use crate::device::is_gpu;
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

    /// Features before the output head: ids `[batch, sequence]` to `[batch, sequence, width]`, after the last layer norm.
    ///
    /// A sequence must not be longer than the model's positions, and ids must be below its vocabulary.
    pub fn features(&self, ids: Tensor<2, Int>, precision: Precision) -> Tensor<3> {
        self.features_of(self.embedded(ids), precision)
    }

    /// The sums of token and position embeddings, `[batch, sequence, width]`.
    pub fn embedded(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [_, sequence] = ids.dims();
        let positions = self.wpe.weight.val().slice(s![0..sequence]).unsqueeze::<3>();
        self.wte.forward(ids) + positions
    }

    /// The features of [`Gpt2::embedded`] ids.
    pub fn features_of(&self, embedded: Tensor<3>, precision: Precision) -> Tensor<3> {
        let [_, sequence, _] = embedded.dims();
        let device = embedded.device();
        if precision == Precision::F32 && !is_gpu(&device) {
            let x = self.h.iter().fold(embedded, |x, block| block.forward_on_cpu(x));
            return self.ln_f.forward(x);
        }
        // On CUDA, Burn's attention has wrong gradients (burn 0.23.0-pre.1 on an H200; step `operations` of benches/gpu/check.sh).
        let mask = (embedded.is_autodiff() && is_gpu(&device)).then(|| fused::causal_mask(sequence, &device));
        let x = self.h.iter().fold(embedded, |x, block| block.forward(x, mask.as_ref(), precision));
        self.ln_f.forward(x)
    }

    /// Applies the output head: features `[rows, width]` to logits `[rows, vocabulary]`.
    pub fn head(&self, features: Tensor<2>) -> Tensor<2> {
        features.matmul(self.wte.weight.val().transpose())
    }

    /// Ids `[batch, sequence]` to logits `[batch, sequence, vocabulary]`, in `f32`.
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let features = self.features(ids, Precision::F32);
        let [batch, sequence, width] = features.dims();
        self.head(features.reshape([batch * sequence, width])).reshape([batch as isize, sequence as isize, -1])
    }
}

impl Block {
    /// Maps `[batch, sequence, width]` to the same, with Burn's attention or, if a mask is given, [`fused::causal_attention`].
    pub fn forward(&self, x: Tensor<3>, mask: Option<&Tensor<4>>, precision: Precision) -> Tensor<3> {
        let x = x.clone() + self.attn.forward(self.ln_1.factor(x, precision), mask, precision);
        x.clone() + self.mlp.forward(self.ln_2.factor(x, precision), precision)
    }

    /// Does the same as [`Block::forward`] in `f32`, by operations of [`fused::cpu`].
    fn forward_on_cpu(&self, x: Tensor<3>) -> Tensor<3> {
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
        let joined = linear(&self.attn.c_attn, self.ln_1.forward(x.clone()), None);
        let attended = fused::cpu::causal_attention(joined, self.attn.heads);
        let x = linear(&self.attn.c_proj, attended, Some(x));
        let inner = fused::gelu_new(linear(&self.mlp.c_fc, self.ln_2.forward(x.clone()), None));
        linear(&self.mlp.c_proj, inner, Some(x))
    }
}

impl Attention {
    /// See [`Block::forward`].
    pub fn forward(&self, x: Tensor<3>, mask: Option<&Tensor<4>>, precision: Precision) -> Tensor<3> {
        let [query, key, value] = self.split(x, precision);
        let attended = match mask {
            Some(mask) => fused::causal_attention(query, key, value, mask.clone()),
            None => {
                let options = AttentionModuleOptions { is_causal: true, ..Default::default() };
                module::attention(query, key, value, None, None, options)
            }
        };
        self.merge(attended, precision)
    }

    /// Query, key and value of `x` `[batch, sequence, width]`, each `[batch, heads, sequence, head width]`, as factors.
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

impl Mlp {
    /// Maps `[batch, sequence, width]` to the same.
    pub fn forward(&self, x: Tensor<3>, precision: Precision) -> Tensor<3> {
        let inner = fused::gelu_new(precision.linear(&self.c_fc, x));
        precision.result(precision.linear(&self.c_proj, inner))
    }
}

impl LayerNorm {
    /// Maps `[.., width]` to the same.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.factor(x, Precision::F32)
    }

    /// Applies the layer norm and returns the result as a factor of a product.
    pub fn factor<const D: usize>(&self, x: Tensor<D>, precision: Precision) -> Tensor<D> {
        fused::layer_norm(x, self.weight.val(), self.bias.val(), LAYER_NORM_EPSILON, precision.dtype())
    }
}
