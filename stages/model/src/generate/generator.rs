//! A model that is ready to complete prompts.

use contract::Result;

use super::batch::{Completion, Generation, NewToken, Request, complete_all};
use super::engine::Engine;
use crate::config::Gpt2Config;
use crate::gpt2::Gpt2;

/// A model that is ready to complete prompts, on its device.
#[derive(Debug)]
pub struct Generator {
    config: Gpt2Config,
    engine: Engine,
}

impl Generator {
    /// Prepares a model. On the CPU, its weights are copied to another layout, and the tensors are released unless something else uses
    /// them.
    ///
    /// # Errors
    /// Returns an error if a tensor cannot be read.
    pub fn new(config: Gpt2Config, model: Gpt2) -> Result<Self> {
        let engine = Engine::new(&config, model)?;
        Ok(Self { config, engine })
    }

    /// Returns the sizes of the model.
    pub fn config(&self) -> &Gpt2Config {
        &self.config
    }

    /// Returns the completions of each request, in order.
    ///
    /// # Errors
    /// Returns an error if the run is cancelled, a prompt is empty or has an id outside the vocabulary, or the model's logits are not
    /// finite numbers.
    pub fn complete(&self, requests: &[Request], generation: &Generation<'_>) -> Result<Vec<Vec<Completion>>> {
        self.stream(requests, generation, &mut |_| Ok(()))
    }

    /// Does the same as [`Generator::complete`], and calls `each` with each new token as soon as it is chosen.
    ///
    /// # Errors
    /// See [`Generator::complete`]; also returns an error of `each`, which ends the generation.
    pub fn stream(
        &self,
        requests: &[Request],
        generation: &Generation<'_>,
        each: &mut dyn FnMut(NewToken) -> Result<()>,
    ) -> Result<Vec<Vec<Completion>>> {
        complete_all(&self.config, &self.engine, requests, generation, each)
    }
}
