//! A model with its optimiser: makes an update, or computes only the loss.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use contract::{Cancel, Result, StageError};

use crate::config::{Gpt2Config, TensorShape};
use crate::device::is_gpu;
use crate::dropout::Dropout;
use crate::fused::{self, memory::Reuse};
use crate::gpt2::Gpt2;
use crate::parameters::{gradients as collected, host_values, parameters, replaced, taken};
use crate::precision::Precision;
use crate::train::adamw::{AdamW, AdamWSettings, global_norm};
use crate::train::head::{head_loss, mean_loss};

/// A model in training.
#[derive(Debug)]
pub struct Trainer {
    device: Device,
    /// The model, on an autodiff device.
    pub model: Gpt2,
    /// The optimiser.
    pub optimizer: AdamW,
    precision: Precision,
    /// The dropout of training; its position is that of the first sequence of the next update.
    pub dropout: Option<Dropout>,
    /// The factor of the z-loss.
    pub z_loss: f64,
    /// Whether an update whose loss or gradients are not finite changes nothing. To know, the host waits for the gradients of each.
    pub skips_non_finite: bool,
    /// The tensors of a step are as large as those of the one before.
    _memory: Reuse,
}

/// Sequences of equal length, one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Token ids, row by row.
    pub ids: Vec<i32>,
    /// The number of sequences.
    pub sequences: usize,
}

/// The measures of one update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The mean loss over the sequences in nats, before the update.
    pub loss: f64,
    /// The global 2-norm of the gradients before clipping.
    pub gradient_norm: f64,
}

impl Measured {
    /// Returns whether both are finite.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.gradient_norm.is_finite()
    }
}

/// The measures of one update, which the device may still be computing.
#[derive(Debug)]
pub struct Measuring(Tensor<1>);

impl Measuring {
    /// Waits for the update.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn read(self) -> Result<Measured> {
        match host_values(self.0)?[..] {
            [loss, norm] => Ok(Measured { loss: f64::from(loss), gradient_norm: f64::from(norm) }),
            _ => Err(StageError::new("the device returned the loss and the norm in an unexpected shape")),
        }
    }
}

impl Trainer {
    /// Creates a trainer of a model without updates, which must be on an autodiff device. It has no dropout and no z-loss.
    pub fn new(
        config: &Gpt2Config,
        model: Gpt2,
        settings: AdamWSettings,
        precision: Precision,
        device: Device,
    ) -> Self {
        let decays = config.tensors().iter().map(TensorShape::decays).collect();
        let optimizer = AdamW::new(settings, decays, &parameters(&model));
        let memory = Reuse::begin();
        Self {
            device,
            model,
            optimizer,
            precision,
            dropout: None,
            z_loss: 0.0,
            skips_non_finite: false,
            _memory: memory,
        }
    }

    /// Makes one update: the gradients of the mean loss over all sequences of the micro-batches, clipped, then AdamW. The
    /// sequences have equal lengths; the number in a micro-batch may differ.
    ///
    /// # Errors
    /// Returns [`StageError::Interrupted`] if asked to stop between micro-batches (nothing is changed then), or if the device
    /// fails.
    pub fn update(&mut self, micro_batches: &[Batch], rate: f64, cancel: &Cancel) -> Result<Measured> {
        self.queue(micro_batches, rate, cancel)?.read()
    }

    /// Does the same as [`Trainer::update`] without waiting for the device, which may compute while the next update is queued.
    ///
    /// # Errors
    /// See [`Trainer::update`]; a failure of the device may only be reported by [`Measuring::read`].
    pub fn queue(&mut self, micro_batches: &[Batch], rate: f64, cancel: &Cancel) -> Result<Measuring> {
        let mut sums: Vec<Tensor<1>> = Vec::new();
        let mut loss: Option<Tensor<1>> = None;
        let all: usize = micro_batches.iter().map(|batch| batch.sequences).sum();
        let mut dropout = self.dropout.clone();
        for batch in micro_batches {
            cancel.check()?;
            let (value, more) = self.gradients(batch, batch.sequences as f64 / all as f64, dropout.as_ref())?;
            if let Some(dropout) = &mut dropout {
                dropout.position += batch.sequences as u64;
            }
            loss = Some(match loss {
                Some(sum) => sum + value,
                None => value,
            });
            sums = match sums.is_empty() {
                true => more,
                false => sums.into_iter().zip(more).map(|(sum, more)| sum + more).collect(),
            };
        }
        let loss = loss.ok_or_else(|| StageError::new("an update needs a micro-batch"))?;
        let norm = global_norm(&sums);
        let measures = Tensor::cat(vec![loss, norm.clone()], 0);
        if self.skips_non_finite && !Measuring(measures.clone()).read()?.is_finite() {
            return Ok(Measuring(measures));
        }
        let (model, values) = taken(self.model.clone());
        self.model = model;
        let updated = self.optimizer.update(rate, values, sums, norm);
        self.replace(updated);
        Ok(Measuring(measures))
    }

    /// Returns the mean loss of a batch times `scale`, `[1]`, and its gradient with respect to every tensor.
    fn gradients(&self, batch: &Batch, scale: f64, dropout: Option<&Dropout>) -> Result<(Tensor<1>, Vec<Tensor<1>>)> {
        let ids = self.ids(batch);
        let on_cpu = !is_gpu(&self.device);
        let embedded = match on_cpu {
            // The gradients of the embeddings are few rows, which Burn would add to zeros for the whole vocabulary.
            true => Tensor::from_inner(self.model.embedded(ids.clone()).inner()).require_grad(),
            false => self.model.embedded(ids.clone()),
        };
        let (features, next) = self.predictions(&self.model, embedded.clone(), ids.clone(), dropout);
        let embedding = self.model.wte.weight.val().inner();
        let head = head_loss(features.clone().inner(), embedding, next.inner(), scale, self.z_loss, self.precision);
        // A scalar whose gradient with respect to the features is that of the head: automatic differentiation does the rest.
        let mut gradients = (features * Tensor::from_inner(head.features)).sum().backward();
        if on_cpu {
            let by_embedded = embedded.grad_remove(&mut gradients);
            let by_embedded = by_embedded.ok_or_else(|| StageError::new("the embedding has no gradient"))?;
            let first = self.by_embeddings(head.embedding, ids.inner(), by_embedded);
            return Ok((head.loss, collected(&self.model, first.into(), &mut gradients)?));
        }
        let mut gradients = collected(&self.model, Vec::new(), &mut gradients)?;
        // The embedding is the first tensor of the list; it is used both below and in the head.
        if let Some(embedding) = gradients.first_mut() {
            let size = embedding.dims();
            *embedding = embedding.clone() + head.embedding.reshape(size);
        }
        Ok((head.loss, gradients))
    }

    /// Returns the gradients by the token embedding, of which the head's part is `by_tokens`, and by the position embedding, from that by
    /// what was embedded.
    fn by_embeddings(&self, by_tokens: Tensor<2>, ids: Tensor<2, Int>, by_embedded: Tensor<3>) -> [Tensor<1>; 2] {
        let [sequences, length, width] = by_embedded.dims();
        let by_rows = by_embedded.reshape([sequences * length, width]);
        let positions = Tensor::arange(0..length as i64, &ids.device()).unsqueeze::<2>().repeat_dim(0, sequences);
        let none = Tensor::zeros(self.model.wpe.weight.val().dims(), &by_tokens.device());
        [(by_tokens, ids), (none, positions)].map(|(sums, ids)| {
            let sums = fused::cpu::add_rows(sums, ids.reshape([sequences * length]), by_rows.clone());
            let size = sums.shape().num_elements();
            sums.reshape([size])
        })
    }

    /// Returns the mean loss of a batch, without gradients.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn loss(&self, batch: &Batch) -> Result<f64> {
        let model = self.model.valid();
        let ids = self.ids(batch).inner();
        let (features, next) = self.predictions(&model, model.embedded(ids.clone()), ids, None);
        let loss = host_values(mean_loss(features, model.wte.weight.val(), next, self.precision))?;
        loss.first().map(|loss| f64::from(*loss)).ok_or_else(|| StageError::new("the device returned no loss"))
    }

    /// Returns the features from which tokens are predicted, `[rows, width]`, and those tokens, `[rows]`: the ids themselves, shifted
    /// by one, so a sequence of `n` ids has `n - 1` rows.
    fn predictions(
        &self,
        model: &Gpt2,
        embedded: Tensor<3>,
        ids: Tensor<2, Int>,
        dropout: Option<&Dropout>,
    ) -> (Tensor<2>, Tensor<1, Int>) {
        let [sequences, length] = ids.dims();
        let features = model.features_of(embedded, self.precision, dropout);
        let [_, _, width] = features.dims();
        let rows = sequences * (length - 1);
        let features = features.slice([0..sequences, 0..length - 1]).reshape([rows, width]);
        (features, ids.slice([0..sequences, 1..length]).reshape([rows]))
    }

    /// Replaces the parameters of the model.
    pub fn replace(&mut self, values: Vec<Tensor<1>>) {
        self.model = replaced(self.model.clone(), values);
    }

    /// Copies values of the host to a vector on the device, without gradients.
    pub fn on_device(&self, values: Vec<f32>) -> Tensor<1> {
        let size = values.len();
        Tensor::from_data(TensorData::new(values, [size]), &self.device.clone().inner())
    }

    fn ids(&self, batch: &Batch) -> Tensor<2, Int> {
        let length = batch.ids.len() / batch.sequences.max(1);
        Tensor::from_data(TensorData::new(batch.ids.clone(), [batch.sequences, length]), &self.device)
    }
}
