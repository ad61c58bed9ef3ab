//! The engine that computes the logits: [`cpu`] on the CPU, Burn's tensors ([`decode`]) on a GPU.

use burn::tensor::Tensor;
use contract::{Cancel, Result};

use super::cache::Cache;
use super::cpu::CpuModel;
use super::cpu::cache::Sequence;
use super::decode;
use crate::config::Gpt2Config;
use crate::device::is_gpu;
use crate::gpt2::Gpt2;
use crate::parameters::host_values;

/// A model that is ready to generate.
#[derive(Debug)]
pub(super) enum Engine {
    /// The engine on the CPU.
    Cpu(CpuModel),
    /// The engine on another device.
    Tensors(Box<Gpt2>),
}

/// The rows of a batch with the keys and values of their tokens.
pub(super) enum Cached {
    Cpu(Vec<Sequence>),
    Tensors(Cache),
}

impl Engine {
    /// Creates the engine of the model's device.
    ///
    /// # Errors
    /// Returns an error if a tensor cannot be read.
    pub fn new(config: &Gpt2Config, model: Gpt2) -> Result<Self> {
        match is_gpu(&model.wte.weight.val().device()) {
            true => Ok(Self::Tensors(Box::new(model))),
            false => Ok(Self::Cpu(CpuModel::new(config, model)?)),
        }
    }

    /// Reads prompts, each with its number of rows and the maximum number of new tokens. Returns the rows and the
    /// logits `[rows, vocabulary]` of their first new token.
    pub fn read_prompts(&self, prompts: &[(&[u32], usize, usize)], cancel: &Cancel) -> Result<(Cached, Vec<f32>)> {
        match self {
            Self::Cpu(model) => {
                let (mut sequences, mut logits) = (Vec::new(), Vec::new());
                for &(prompt, repeats, more) in prompts {
                    let (segment, next) = model.read_prompt(prompt, cancel)?;
                    for _ in 0..repeats {
                        sequences.push(model.continuation(&segment, more));
                        logits.extend_from_slice(&next);
                    }
                }
                Ok((Cached::Cpu(sequences), logits))
            }
            Self::Tensors(model) => {
                let (mut caches, mut logits) = (Vec::new(), Vec::new());
                for &(prompt, repeats, _) in prompts {
                    cancel.check()?;
                    let (cache, next) = decode::read_prompt(model, prompt);
                    caches.push((cache, repeats));
                    logits.push(next.repeat_dim(0, repeats));
                }
                let more = prompts.iter().map(|(_, _, more)| *more).max().unwrap_or(0);
                Ok((Cached::Tensors(Cache::join(&caches, more)), flat(Tensor::cat(logits, 0))?))
            }
        }
    }

    /// Adds one token to each row. Returns the logits `[rows, vocabulary]` of the tokens after them.
    pub fn step(&self, cached: &mut Cached, ids: &[u32], cancel: &Cancel) -> Result<Vec<f32>> {
        match (self, cached) {
            (Self::Cpu(model), Cached::Cpu(sequences)) => model.step(sequences, ids, cancel),
            (Self::Tensors(model), Cached::Tensors(cache)) => flat(decode::step(model, cache, ids)),
            _ => unreachable!("an engine reads what it created"),
        }
    }
}

impl Cached {
    /// Keeps only the given rows, which must be in ascending order.
    pub fn keep(&mut self, rows: &[usize]) {
        match self {
            Self::Cpu(sequences) => {
                let mut number = 0;
                sequences.retain(|_| {
                    number += 1;
                    rows.binary_search(&(number - 1)).is_ok()
                });
            }
            Self::Tensors(cache) => cache.keep(rows),
        }
    }
}

fn flat(logits: Tensor<2>) -> Result<Vec<f32>> {
    host_values(logits.flatten::<1>(0, 1))
}
