//! The stage kind `train`: trains a GPT-2 on packed tokens.
//!
//! A step reads `batch · accumulation` sequences in the order of [`order`], computes the mean loss over all their
//! predictions (a sequence of `n` tokens has `n − 1`), and updates the model by [`adamw`] at the rate of [`schedule`]. On the
//! CPU the result is the same to the bit for any number of threads and after any number of interruptions ([`checkpoint`]).
//!
//! A step whose loss, gradients, weights or validation loss are not finite fails the stage. Loss and gradients are checked
//! after each update, once the next one is queued; weights when a checkpoint or the model is written
//! ([`crate::tensor_file`]), and by the loss of the next step: so the check costs nothing on the device, and nothing that is
//! not finite is ever stored or resumed from.
//!
//! There is no dropout: training sees each sequence about once, where dropout costs loss. GPT-2's 0.1 came
//! from many epochs over a small corpus; the configuration that is written has 0.
//!
//! Memory, in bytes: 16 per parameter (value, gradient, two moments), 4 more with accumulation, about
//! `4 · batch · sequence · (layers · (18 · width + heads) + 12 · width)` for the activations of one micro-batch, and 256 MiB
//! for the logits ([`head`] computes them in chunks); with `precision = "bf16"` on the CPU
//! `4 · batch · sequence · layers · (34 · width + 2 · heads · sequence)`. Nothing is kept for the pairs of a sequence otherwise. [`settings`]
//! has the estimate for a GPU, and a training that does not fit is rejected before anything is computed.

pub mod adamw;
pub mod checkpoint;
pub mod event_file;
pub mod head;
mod infer;
pub mod metrics;
pub mod order;
pub mod schedule;
pub mod settings;
pub mod trainer;

use std::path::Path;
use std::time::Instant;

use contract::figures::counted;
use contract::{
    Advice, Checkpoint, Context, Inferred, InputFacts, InputTree, Inputs, Needs, PortType, Ports, Problem, Result,
    Stage, StageError, Unit,
};
use serde_json::{Value, json};
use tokens::packed::PackedTokens;
use tokens::text::TextTokenizer;

use crate::config::Gpt2Config;
use crate::device::{gpu_memory, resolve};
use crate::folder::{self, ModelFolder};
use crate::gpt2::Gpt2;
use crate::initial::initial_values;
use checkpoint::Checkpoints;
use metrics::{Metric, write_events};
use order::Order;
use settings::{Exec, Spec};
pub use trainer::{Batch, Measured, Measuring, Trainer};

/// The stage kind `train`.
#[derive(Debug)]
pub struct Train;

impl Stage for Train {
    type Spec = Spec;
    type Exec = Exec;
    const KIND: &'static str = "train";
    const REVISION: u32 = 4;
    const SEEDED: bool = true;
    const TOLERANCE: Option<f64> = Some(0.02);

    fn ports() -> Ports {
        Ports::new()
            .input("train", PortType::Tokens, "sequences to learn from")
            .optional_input("valid", PortType::Tokens, "sequences to measure the loss on")
            .optional_input("tokenizer", PortType::Tokenizer, "copied into the model's directory")
            .optional_input("init", PortType::Model, "the model to start from; by default, a random initialization")
            .output("model", PortType::Model, "config.json, model.safetensors and the tokenizer's files")
            .output("metrics", PortType::Report, "metrics.jsonl, a TensorBoard event file and report.json")
    }

    fn check(spec: &Spec, _: &Exec) -> Vec<Problem> {
        settings::check(spec)
    }

    fn infer(spec: &Spec, _: &Exec, inputs: &InputFacts) -> Inferred {
        infer::infer(spec, inputs)
    }

    fn observe(facts: &mut InputFacts, input: &dyn Fn(&str) -> Option<InputTree>) {
        infer::observe(facts, input);
    }

    fn checkpoint(spec: &Spec, _: &Exec, scratch: &Path) -> Option<Checkpoint> {
        let (done, seconds, saved) = checkpoint::newest(scratch)?;
        Some(Checkpoint { done, total: spec.steps, unit: Unit::Steps, seconds, saved })
    }

    fn lint(spec: &Spec, _: &Exec, inputs: &Inputs) -> Vec<Advice> {
        infer::lint(spec, inputs)
    }

    fn needs(_: &Spec, _: &Exec) -> Needs {
        Needs { gpu: true, ..Needs::default() }
    }

    fn run(spec: &Spec, exec: &Exec, context: &Context) -> Result<()> {
        // Burn's CPU backend computes on the rayon pool of the calling thread.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(context.resources.threads.max(1)).build();
        let pool = pool.map_err(|error| StageError::new(format!("cannot start threads: {error}")))?;
        pool.install(|| Run::prepare(spec, exec, context)?.finish())
    }
}

/// One run of the stage.
struct Run<'a> {
    spec: &'a Spec,
    exec: &'a Exec,
    context: &'a Context,
    config: Gpt2Config,
    train: PackedTokens,
    valid: Option<PackedTokens>,
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
}

impl<'a> Run<'a> {
    fn prepare(spec: &'a Spec, exec: &'a Exec, context: &'a Context) -> Result<Self> {
        let started = Instant::now();
        let train = PackedTokens::open(context.inputs.tree("train")?)?;
        let valid = context.inputs.get("valid").map(PackedTokens::open).transpose()?;
        check_tokens(&train, valid.as_ref())?;
        if let Some(tokenizer) = context.inputs.get("tokenizer") {
            check_tokenizer(&train, &TextTokenizer::open(tokenizer)?)?;
        }
        let device = resolve(context.resources.device)?;
        let folder = context.inputs.get("init").map(ModelFolder::of).transpose()?;
        let config = match &folder {
            Some(folder) => folder.config()?,
            None => spec.sizes(&train)?,
        };
        if folder.is_some() {
            spec.check_continues(&config, &train)?;
        }
        if let Some(capacity) = gpu_memory(&device) {
            spec.check_gpu_memory(&config, train.sequence_length(), capacity)?;
        }
        let device = device.autodiff();
        let model = match &folder {
            Some(folder) => folder.load(&device)?.1,
            None => Gpt2::new(&config, &device, |tensor| {
                Ok::<_, StageError>(initial_values(&config, context.seed, tensor))
            })?,
        };
        let config = Gpt2Config { end_of_text: Some(train.end_of_text()), ..config };
        let mut trainer = Trainer::new(&config, model, spec.optimizer(), spec.precision, device);
        let checkpoints = Checkpoints::below(&context.scratch)?;
        let restored = checkpoints.restore(&config, &mut trainer, &context.progress)?;
        let checkpoint::Restored { step: done, metrics, seconds: earlier } = restored.unwrap_or_default();
        let order = Order::new(context.seed, train.sequences() as u64);
        context.progress.start("", Unit::Steps, Some(spec.steps));
        if done > 0 {
            context.progress.resume(done, earlier);
            context.progress.info(format!("resumed after step {done}"));
        }
        Ok(Self {
            spec,
            exec,
            context,
            config,
            train,
            valid,
            order,
            trainer,
            checkpoints,
            metrics,
            done,
            measuring: None,
            started,
            earlier,
        })
    }

    fn finish(mut self) -> Result<()> {
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
        let batches = self.batches()?;
        let measuring = self.trainer.queue(&batches, rate, &self.context.cancel)?;
        self.measured()?;
        self.done += 1;
        self.measuring = Some((rate, measuring));
        self.validate_when_due()?;
        if self.done < self.spec.steps && self.done.is_multiple_of(self.exec.checkpoint_every) {
            self.save()?;
        }
        Ok(())
    }

    /// Reads the measures of the last update, unless they were read.
    fn measured(&mut self) -> Result<()> {
        let Some((learning_rate, measuring)) = self.measuring.take() else { return Ok(()) };
        let Measured { loss, gradient_norm } = measuring.read().map_err(|error| self.at_step(error))?;
        if !loss.is_finite() || !gradient_norm.is_finite() {
            return Err(self.diverged(&format!("the loss is {loss} and the gradient norm {gradient_norm}")));
        }
        let tokens = self.done * self.tokens_a_step();
        self.record(Metric::Update { step: self.done, tokens, loss, learning_rate, gradient_norm });
        self.context.progress.add(1);
        Ok(())
    }

    /// Writes a checkpoint, unless a value is not finite: a run that resumed from it could only fail.
    fn save(&mut self) -> Result<()> {
        self.measured()?;
        let seconds = self.earlier + self.started.elapsed().as_secs_f64();
        let saved = self.checkpoints.save(self.done, seconds, &self.config, &self.trainer, &self.metrics);
        saved.map_err(|error| self.at_step(error))
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
        self.spec.batch * self.spec.accumulation * self.train.sequence_length() as u64
    }

    /// Returns the micro-batches of the next step.
    fn batches(&self) -> Result<Vec<Batch>> {
        let first = self.done * self.spec.batch * self.spec.accumulation;
        let batch = |number: u64| {
            let start = first + number * self.spec.batch;
            let sequences = (start..start + self.spec.batch).map(|position| self.order.sequence(position) as usize);
            read_batch(&self.train, sequences)
        };
        (0..self.spec.accumulation).map(batch).collect()
    }

    /// Measures the validation loss if it is due after this update, unless it was measured.
    fn validate_when_due(&mut self) -> Result<()> {
        let due = self.done == self.spec.steps
            || self.spec.validate_every.is_some_and(|every| self.done.is_multiple_of(every));
        let is_done = matches!(self.metrics.last(), Some(Metric::Validation { step, .. }) if *step == self.done);
        if due && self.done > 0 && !is_done { self.validate() } else { Ok(()) }
    }

    /// Returns the mean loss over the first sequences of the validation tokens (`pack` has shuffled them).
    fn validate(&mut self) -> Result<()> {
        self.measured()?;
        let Some(valid) = &self.valid else { return Ok(()) };
        let cap = self.spec.validate_sequences.map_or(usize::MAX, |cap| cap as usize);
        let count = valid.sequences().min(cap);
        let mut sum = 0.0;
        for start in (0..count).step_by(self.spec.batch as usize) {
            self.context.cancel.check()?;
            let batch = read_batch(valid, start..count.min(start + self.spec.batch as usize))?;
            sum += self.trainer.loss(&batch)? * batch.sequences as f64;
        }
        let validation_loss = sum / count as f64;
        if !validation_loss.is_finite() {
            return Err(self.diverged(&format!("the validation loss is {validation_loss}")));
        }
        let validation_perplexity = libm::exp(validation_loss);
        self.record(Metric::Validation { step: self.done, validation_loss, validation_perplexity });
        Ok(())
    }

    fn record(&mut self, metric: Metric) {
        let (step, series) = metric.series();
        let update = matches!(metric, Metric::Update { .. });
        if !update || step == 1 || step == self.spec.steps || step.is_multiple_of(self.exec.log_every) {
            for (name, value) in series {
                self.context.progress.metric(step, name, value);
            }
        }
        self.metrics.push(metric);
    }

    fn tell_the_end(&self, rate: f64) {
        let report = self.report();
        let figure = |key: &str| report.get(key).and_then(Value::as_f64);
        let mut text =
            format!("{:.1}M parameters, {}", self.config.parameters() as f64 / 1e6, counted(self.done, "step"));
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
        let (mut first, mut last, mut validation) = (None, None, None);
        for metric in &self.metrics {
            match metric {
                Metric::Update { loss, .. } => {
                    first.get_or_insert(*loss);
                    last = Some(*loss);
                }
                Metric::Validation { validation_loss, .. } => validation = Some(*validation_loss),
            }
        }
        json!({
            "parameters": self.config.parameters(),
            "steps": self.done,
            "tokens": self.done * self.tokens_a_step(),
            "epochs": (self.done * self.spec.batch * self.spec.accumulation) as f64 / self.train.sequences() as f64,
            "first_loss": first,
            "last_loss": last,
            "validation_loss": validation,
            "validation_perplexity": validation.map(libm::exp),
        })
    }

    /// Writes the files of the model and of the tokenizer, so that transformers loads the directory without changes.
    fn write_model(&self) -> Result<()> {
        let output = self.context.outputs.tree("model")?;
        folder::save(&self.config, &self.trainer.model, output)?;
        let Some(tokenizer) = self.context.inputs.get("tokenizer") else { return Ok(()) };
        folder::save_tokenizer(&self.config, tokenizer, output)
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

fn read_batch(tokens: &PackedTokens, sequences: impl Iterator<Item = usize>) -> Result<Batch> {
    let (mut ids, mut count) = (Vec::new(), 0);
    for sequence in sequences {
        tokens.read(sequence, &mut ids)?;
        count += 1;
    }
    // Ids are below a vocabulary of at most 2³¹, which `check_tokens` ensures.
    Ok(Batch { ids: ids.into_iter().map(|id| id as i32).collect(), sequences: count })
}

/// Checks that the tokenizer's ids are those on which the model was trained.
fn check_tokenizer(train: &PackedTokens, tokenizer: &TextTokenizer) -> Result<()> {
    let (vocabulary, end_of_text) = (train.vocabulary(), train.end_of_text());
    if (vocabulary, end_of_text) == (tokenizer.vocabulary(), tokenizer.end_of_text()) {
        return Ok(());
    }
    Err(StageError::new(format!(
        "the tokens were packed with another tokenizer: {vocabulary} ids, end-of-text {end_of_text}, where the input \
         'tokenizer' has {} ids, end-of-text {}",
        tokenizer.vocabulary(),
        tokenizer.end_of_text()
    ))
    .hint("connect the tokenizer that the pack stage reads"))
}

fn check_tokens(train: &PackedTokens, valid: Option<&PackedTokens>) -> Result<()> {
    let hint = "a longer text, a larger share of it, or a shorter sequence_length in the pack stage";
    if train.sequences() == 0 {
        return Err(StageError::new("the training tokens contain no sequence").hint(hint));
    }
    if train.sequence_length() < 2 {
        return Err(StageError::new("sequences of one token have nothing to predict")
            .hint("raise sequence_length in the pack stage"));
    }
    if i32::try_from(train.vocabulary()).is_err() {
        return Err(StageError::new(format!("a vocabulary of {} is too large", train.vocabulary())));
    }
    let Some(valid) = valid else { return Ok(()) };
    if valid.sequences() == 0 {
        return Err(StageError::new("the validation tokens contain no sequence").hint(
            "leave the input 'valid' out, or raise fraction in the split stage or lower sequence_length in the pack stage",
        ));
    }
    let (one, other) = ((train.vocabulary(), train.end_of_text()), (valid.vocabulary(), valid.end_of_text()));
    if one != other || valid.sequence_length() < 2 || valid.sequence_length() > train.sequence_length() {
        return Err(StageError::new(format!(
            "the validation tokens (vocabulary {}, sequences of {}) do not fit the training tokens (vocabulary {}, sequences of {})",
            valid.vocabulary(),
            valid.sequence_length(),
            train.vocabulary(),
            train.sequence_length()
        ))
        .hint("take both from one pack stage"));
    }
    Ok(())
}
