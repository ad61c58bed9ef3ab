//! One run of the stage `train`: updates, validations, checkpoints and outputs.

use std::time::Instant;

use contract::figures::counted;
use contract::{Context, Result, StageError, Unit};
use serde_json::{Value, json};
use tokens::index::DocumentIndex;

use super::checkpoint::{Checkpoints, Pace, Restored, newest};
use super::event_file;
use super::inputs::{Inputs, read_batch};
use super::metrics::{Metric, write_events};
use super::order::Order;
use super::settings::{Exec, Spec};
use super::speed::{LIVE, Speed};
use super::state;
use super::trainer::{Batch, Measured, Measuring, Trainer};
use crate::device::{gpu_memory, resolve};
use crate::dropout::Dropout;
use crate::folder;

/// One run of the stage.
pub struct Run<'a> {
    spec: &'a Spec,
    exec: &'a Exec,
    context: &'a Context,
    inputs: Inputs,
    /// The number of sequences in one pass.
    micro_batch: usize,
    order: Order,
    trainer: Trainer,
    checkpoints: Checkpoints,
    metrics: Vec<Metric>,
    done: u64,
    /// The last update's rate and what it measures, until that is read: after the next one is queued, so that a GPU does not
    /// wait for the host.
    measuring: Option<(f64, Measuring)>,
    /// The start of this run, and the seconds that earlier runs took up to the checkpoint that it continues.
    started: Instant,
    earlier: f64,
    /// When checkpoints are due, and the end of the last one.
    pace: Pace,
    saved: Instant,
    speed: Speed,
}

impl<'a> Run<'a> {
    /// Opens the inputs, and restores the newest checkpoint.
    pub fn prepare(spec: &'a Spec, exec: &'a Exec, context: &'a Context) -> Result<Self> {
        let started = Instant::now();
        let device = resolve(context.resources.device)?;
        let inputs = Inputs::open(spec, context)?;
        let (config, length) = (&inputs.config, inputs.train.sequence_length());
        let capacity = gpu_memory(&device);
        if let Some(capacity) = capacity {
            spec.check_gpu_memory(config, length, capacity)?;
        }
        let micro_batch = spec.sequences_a_pass(config, length, capacity) as usize;
        let device = device.autodiff();
        let model = inputs.model(spec, context.seed, &device)?;
        let speed = Speed::start(config, length, spec.precision, device.clone().inner(), &context.scratch)?;
        let mut trainer = Trainer::new(config, model, spec.optimizer(), spec.precision, device);
        trainer.dropout = Dropout::new(spec.dropout(), context.seed);
        trainer.z_loss = spec.z_loss;
        trainer.skips_non_finite = spec.skip_non_finite > 0;
        let mut checkpoints = Checkpoints::below(&context.scratch)?;
        checkpoints.keep_last = exec.keep_last as usize;
        let mut restored = checkpoints.restore(config, &mut trainer, &context.progress)?;
        if let (None, Some(tree)) = (&restored, context.inputs.get("resume")) {
            let (step, metrics) = state::read(tree, spec, context, config, &mut trainer)?;
            restored = Some(Restored { step, metrics, seconds: 0.0 });
        }
        let Restored { step: done, metrics, seconds: earlier } = restored.unwrap_or_default();
        let order = Order::new(context.seed, inputs.train.sequences() as u64);
        context.progress.start("", Unit::Steps, Some(spec.steps));
        context.progress.info(format!("to follow: tensorboard --logdir {}", context.scratch.join(LIVE).display()));
        if done > 0 {
            context.progress.resume(done, earlier);
            context.progress.info(format!("resumed after step {done}"));
        }
        Ok(Self {
            spec,
            exec,
            context,
            inputs,
            micro_batch,
            order,
            trainer,
            checkpoints,
            metrics,
            done,
            measuring: None,
            started,
            earlier,
            pace: Pace { steps: exec.checkpoint_every, seconds: exec.checkpoint_seconds as f64, took: 0.0 },
            saved: started,
            speed,
        })
    }

    /// Trains to the last step, and writes the outputs.
    pub fn finish(mut self) -> Result<()> {
        let (from, start) = (self.done, Instant::now());
        let trained = self.steps();
        if matches!(trained, Err(StageError::Interrupted)) {
            self.save()?;
        }
        trained?;
        self.measured()?;
        let tokens = (self.done - from) * self.tokens_a_step();
        self.tell_the_end(tokens as f64 / start.elapsed().as_secs_f64());
        self.write_model().map_err(|error| self.at_step(error))?;
        self.write_metrics()
    }

    /// Makes the updates that are left.
    fn steps(&mut self) -> Result<()> {
        // A run that was interrupted during a validation saved the update before it.
        self.validate_when_due()?;
        while self.done < self.spec.steps {
            self.step()?;
        }
        Ok(())
    }

    /// Makes one update, then logs, validates and saves if these are due.
    fn step(&mut self) -> Result<()> {
        let rate = self.spec.schedule().rate(self.done);
        let start = Instant::now();
        let batches = self.batches()?;
        self.speed.add(self.tokens_a_step(), start.elapsed());
        if let Some(dropout) = &mut self.trainer.dropout {
            dropout.position = self.done * self.spec.batch;
        }
        let measuring = self.trainer.queue(&batches, rate, &self.context.cancel)?;
        self.measured()?;
        self.done += 1;
        self.measuring = Some((rate, measuring));
        self.validate_when_due()?;
        if self.done < self.spec.steps && self.pace.is_due(self.done, self.saved.elapsed().as_secs_f64()) {
            self.save()?;
        }
        Ok(())
    }

    /// Reads the measures of the last update, unless they were read.
    fn measured(&mut self) -> Result<()> {
        let Some((learning_rate, measuring)) = self.measuring.take() else { return Ok(()) };
        let measured = measuring.read().map_err(|error| self.at_step(error))?;
        let Measured { loss, gradient_norm } = measured;
        let (step, tokens) = (self.done, self.done * self.tokens_a_step());
        if measured.is_finite() {
            self.record(Metric::Update { step, tokens, loss, learning_rate, gradient_norm })?;
        } else {
            self.skip(measured)?;
            self.record(Metric::Skipped { step, tokens, skipped: true })?;
        }
        self.context.progress.add(1);
        Ok(())
    }

    /// Warns that the last update was skipped because its measures are not finite.
    ///
    /// # Errors
    /// Returns an error that names the batch if it was one too many in a row.
    fn skip(&self, Measured { loss, gradient_norm }: Measured) -> Result<()> {
        let updates = self.metrics.iter().rev().filter(|metric| !matches!(metric, Metric::Validation { .. }));
        let skipped = updates.take_while(|metric| matches!(metric, Metric::Skipped { .. })).count() as u64 + 1;
        let what = format!("the loss is {loss} and the gradient norm {gradient_norm} on {}", self.batch_text());
        if skipped <= self.spec.skip_non_finite {
            let limit = self.spec.skip_non_finite;
            self.context.progress.warn(format!("step {}: skipped ({skipped} of {limit} in a row): {what}", self.done));
            return Ok(());
        }
        let kept = match newest(&self.context.scratch) {
            Some((step, ..)) => format!("the checkpoint of step {step} is kept"),
            None => "there is no checkpoint yet".to_owned(),
        };
        let advice = match self.spec.skip_non_finite {
            0 => "lower learning_rate, raise warmup, or set skip_non_finite",
            _ => "lower learning_rate, or raise warmup",
        };
        Err(self.at_step(StageError::new(what).hint(format!("{advice}; {kept}"))))
    }

    /// Names the sequences of the last update, and their documents if the tokens list them.
    fn batch_text(&self) -> String {
        let first = (self.done - 1) * self.spec.batch;
        let sequences: Vec<_> =
            (first..first + self.spec.batch).map(|position| self.order.sequence(position)).collect();
        let mut text = format!("sequences {}", some_of(sequences.iter()));
        if let Ok(index) = self.context.inputs.tree("train").and_then(DocumentIndex::open) {
            let length = self.inputs.train.sequence_length() as u64;
            let tokens = sequences.iter().flat_map(|sequence| {
                let start = index.stream_sequence(*sequence) * length;
                [start, start + length - 1]
            });
            // Documents that lie wholly within a sequence are left out: the list stays short.
            let mut documents: Vec<_> =
                tokens.filter_map(|token| index.at(token)).map(|(number, entry)| (number, entry.id)).collect();
            documents.dedup_by_key(|(number, _)| *number);
            text += &format!(" (documents {})", some_of(documents.iter().map(|(_, id)| id)));
        }
        text
    }

    /// Writes a checkpoint, unless a value is not finite: a run that resumed from it could only fail.
    fn save(&mut self) -> Result<()> {
        self.measured()?;
        let start = Instant::now();
        let seconds = self.earlier + self.started.elapsed().as_secs_f64();
        let saved = self.checkpoints.save(self.done, seconds, &self.inputs.config, &self.trainer, &self.metrics);
        saved.map_err(|error| self.at_step(error))?;
        self.saved = Instant::now();
        self.pace.took = start.elapsed().as_secs_f64();
        self.speed.pause(start.elapsed());
        Ok(())
    }

    /// Creates a failure of the training after the updates so far.
    fn diverged(&self, what: &str) -> StageError {
        self.at_step(StageError::new(what).hint("lower learning_rate, or raise warmup"))
    }

    /// Adds the step to a failure.
    fn at_step(&self, error: StageError) -> StageError {
        match error {
            StageError::Failed(mut failure) => {
                failure.message = format!("step {}: {}", self.done, failure.message);
                StageError::Failed(failure)
            }
            other => other,
        }
    }

    fn tokens_a_step(&self) -> u64 {
        self.spec.batch * self.inputs.train.sequence_length() as u64
    }

    /// Returns the micro-batches of the next step.
    fn batches(&self) -> Result<Vec<Batch>> {
        let first = self.done * self.spec.batch;
        let positions: Vec<_> = (first..first + self.spec.batch).collect();
        let batch = |positions: &[u64]| {
            read_batch(&self.inputs.train, positions.iter().map(|position| self.order.sequence(*position) as usize))
        };
        positions.chunks(self.micro_batch).map(batch).collect()
    }

    /// Measures the validation loss if it is due after this update, unless it was measured.
    fn validate_when_due(&mut self) -> Result<()> {
        let due = self.done == self.spec.steps || self.spec.validates_at(self.done);
        let is_done = matches!(self.metrics.last(), Some(Metric::Validation { step, .. }) if *step == self.done);
        if due && self.done > 0 && !is_done { self.validate() } else { Ok(()) }
    }

    /// Returns the mean loss over the first sequences of the validation tokens (`pack` has shuffled them).
    fn validate(&mut self) -> Result<()> {
        self.measured()?;
        let start = Instant::now();
        let Some(valid) = &self.inputs.valid else { return Ok(()) };
        let cap = usize::try_from(self.spec.validate_sequences).unwrap_or(usize::MAX);
        let count = valid.sequences().min(cap);
        let mut sum = 0.0;
        for start in (0..count).step_by(self.micro_batch) {
            self.context.cancel.check()?;
            let batch = read_batch(valid, start..count.min(start + self.micro_batch))?;
            sum += self.trainer.loss(&batch)? * batch.sequences as f64;
        }
        let validation_loss = sum / count as f64;
        if !validation_loss.is_finite() {
            return Err(self.diverged(&format!("the validation loss is {validation_loss}")));
        }
        let is_better = |metric: &Metric| match metric {
            Metric::Validation { validation_loss: earlier, .. } => validation_loss < *earlier,
            _ => true,
        };
        if self.spec.keep_best && self.metrics.iter().all(is_better) {
            let kept = self.checkpoints.best.replace(&self.inputs.config, &self.trainer.model);
            kept.map_err(|error| self.at_step(error))?;
        }
        let validation_perplexity = libm::exp(validation_loss);
        self.speed.pause(start.elapsed());
        self.record(Metric::Validation { step: self.done, validation_loss, validation_perplexity })
    }

    /// Adds a metric to those of the outputs, and reports it if it is due, with the speed since the last report.
    fn record(&mut self, metric: Metric) -> Result<()> {
        let (step, series) = metric.series();
        let update = metric.is_update();
        self.metrics.push(metric);
        self.speed.follow(step, &series)?;
        if !update || step == 1 || step == self.spec.steps || step.is_multiple_of(self.exec.log_every) {
            for (name, value) in series {
                self.context.progress.metric(step, name, value);
            }
            if update {
                for (name, value) in self.speed.report(step)? {
                    self.context.progress.measure(step, name, value);
                }
            }
        }
        Ok(())
    }

    fn tell_the_end(&self, rate: f64) {
        let report = self.report();
        let figure = |key: &str| report.get(key).and_then(Value::as_f64);
        let mut text =
            format!("{:.1}M parameters, {}", self.inputs.config.parameters() as f64 / 1e6, counted(self.done, "step"));
        for (key, name) in [("last_loss", "loss"), ("validation_loss", "validation loss")] {
            if let Some(value) = figure(key) {
                text += &format!(", {name} {value:.4}");
            }
        }
        if rate.is_finite() && rate > 0.0 {
            text += &format!(", {rate:.0} tokens/s");
        }
        self.context.progress.info(text);
    }

    /// Reports the final metrics of the run.
    fn report(&self) -> Value {
        let (mut first, mut last, mut validation, mut skipped) = (None, None, None, 0u64);
        for metric in &self.metrics {
            match metric {
                Metric::Update { loss, .. } => {
                    first.get_or_insert(*loss);
                    last = Some(*loss);
                }
                Metric::Skipped { .. } => skipped += 1,
                Metric::Validation { validation_loss, .. } => validation = Some(*validation_loss),
            }
        }
        json!({
            "parameters": self.inputs.config.parameters(),
            "steps": self.done,
            "skipped_steps": skipped,
            "tokens": self.done * self.tokens_a_step(),
            "epochs": (self.done * self.spec.batch) as f64 / self.inputs.train.sequences() as f64,
            "first_loss": first,
            "last_loss": last,
            "validation_loss": validation,
            "validation_perplexity": validation.map(libm::exp),
        })
    }

    /// Writes the files of the model and of the tokenizer, so that transformers loads the directory without changes.
    fn write_model(&self) -> Result<()> {
        let output = self.context.outputs.tree("model")?;
        folder::save(&self.inputs.config, &self.trainer.model, output)?;
        if self.spec.keep_state {
            let output = self.context.outputs.tree("state")?;
            state::write(self.spec, self.context, &self.inputs.config, &self.trainer, &self.metrics, output)?;
        }
        let mut outputs = vec![output];
        if self.spec.keep_best {
            let best = self.context.outputs.tree("best")?;
            self.checkpoints.best.output(&self.inputs.config, best)?;
            outputs.push(best);
        }
        let Some(tokenizer) = self.context.inputs.get("tokenizer") else { return Ok(()) };
        outputs.into_iter().try_for_each(|output| folder::save_tokenizer(&self.inputs.config, tokenizer, output))
    }

    fn write_metrics(&self) -> Result<()> {
        let output = self.context.outputs.tree("metrics")?;
        let mut lines = output.create("metrics.jsonl")?;
        self.metrics.iter().try_for_each(|metric| lines.write_json_line(metric))?;
        lines.finish()?;
        let mut events = output.create(event_file::NAME)?;
        write_events(&self.metrics, &mut events)?;
        events.finish()?;
        output.write_json("report.json", &self.report())
    }
}

/// The number of items that a message lists.
const LISTED: usize = 16;

/// Lists the first items: `3, 17 and 4 more`.
fn some_of<T: ToString>(items: impl ExactSizeIterator<Item = T>) -> String {
    let more = items.len().saturating_sub(LISTED);
    let listed = items.take(LISTED).map(|item| item.to_string()).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{listed} and {more} more") } else { listed }
}
