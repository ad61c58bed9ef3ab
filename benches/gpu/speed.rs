//! Measures training speed in tokens per second, and the time of each part of a step.

use std::time::{Duration, Instant};

use burn::tensor::{Device, Int, Tensor, TensorData};
use clap::Args;
use contract::{Cancel, Result, StageError};
use model::initial::initial_values;
use model::parameters::parameters;
use model::train::adamw::{AdamW, global_norm};
use model::train::head::head_loss;
use model::train::{Batch, Trainer};
use model::{Gpt2, Precision};
use serde_json::{Value, json};

use crate::{ADAMW, Sizes, from_one, print_line, wait};

#[derive(Args)]
pub struct Speed {
    /// `f32` or `bf16`.
    #[arg(long, default_value = "f32", value_parser = precision)]
    precision: Precision,
    /// Measured steps.
    #[arg(long, default_value_t = 30, value_parser = from_one)]
    steps: usize,
    /// Warm-up steps, which compile and tune kernels.
    #[arg(long, default_value_t = 5)]
    warmup: usize,
    /// Stop measuring after this many seconds.
    #[arg(long, default_value_t = 60.0, value_parser = above_zero)]
    seconds: f64,
}

/// Returns the precision with this name in a manifest.
pub fn precision(name: &str) -> Result<Precision, String> {
    serde_json::from_value(Value::from(name)).map_err(|error| error.to_string())
}

fn above_zero(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|seconds: &f64| *seconds > 0.0 && seconds.is_finite())
        .ok_or("expected a number above 0".to_owned())
}

/// Prints the figures of the whole step as soon as they are known, then those of each part.
pub fn run(device: &Device, sizes: Sizes, speed: &Speed) -> Result<bool> {
    let start = Instant::now();
    let mut trainer = trainer(device, sizes, speed.precision, 1)?;
    let batch = batch(sizes);
    let mut losses = Vec::new();
    for _ in 0..speed.warmup.max(1) {
        losses.push(trainer.update(std::slice::from_ref(&batch), 1e-4, &Cancel::default())?.loss);
        eprintln!(
            "warm-up {}: loss {:.4}, {:.1} s",
            losses.len(),
            losses[losses.len() - 1],
            start.elapsed().as_secs_f64()
        );
    }
    let ready = start.elapsed().as_secs_f64();
    // As the stage does it: a step's loss is read once the next step is queued.
    let counted = Instant::now();
    let mut steps = Vec::new();
    let mut last = Instant::now();
    let mut measuring = trainer.queue(std::slice::from_ref(&batch), 1e-4, &Cancel::default())?;
    while steps.len() < speed.steps && counted.elapsed().as_secs_f64() < speed.seconds {
        let next = trainer.queue(std::slice::from_ref(&batch), 1e-4, &Cancel::default())?;
        losses.push(std::mem::replace(&mut measuring, next).read()?.loss);
        steps.push(last.elapsed());
        last = Instant::now();
    }
    losses.push(measuring.read()?.loss);
    let mean = counted.elapsed().as_secs_f64() / (steps.len() + 1) as f64;
    let config = sizes.config();
    let tokens = (sizes.batch * sizes.sequence) as f64;
    let operations = config.operations(sizes.sequence as u64);
    let usage = device.memory_pool_usage();
    let step = median(&mut steps);
    let mut line = json!({
        "parameters": config.parameters(),
        "batch": sizes.batch,
        "sequence": sizes.sequence,
        "precision": speed.precision,
        "steps": steps.len(),
        "tokens_per_second": tokens / mean,
        "operations_per_token": operations,
        "teraflops": operations * tokens / mean / 1e12,
        "step_ms": milliseconds(step),
        "ready_seconds": ready,
        "reserved_bytes": usage.as_ref().map(|usage| usage.bytes_reserved),
        "first_loss": losses[0],
        "last_loss": losses[losses.len() - 1],
    });
    print_line(&line);
    // The parts need more memory than the step does, so a failure there does not fail the measurement.
    match parts(device, sizes, speed.precision, trainer, &batch, step) {
        Ok(parts) => line["parts_ms"] = parts,
        Err(error) => line["parts_error"] = error.to_string().into(),
    }
    print_line(&line);
    Ok(losses.iter().all(|loss| loss.is_finite()))
}

/// Milliseconds of each part of a step, each measured alone and followed by a wait. The backward pass is the remainder. `host` is the time
/// of a step of the same model on one short sequence, about the cost of queueing the work.
fn parts(
    device: &Device,
    sizes: Sizes,
    precision: Precision,
    trainer: Trainer,
    batch: &Batch,
    step: Duration,
) -> Result<Value> {
    let inner = device.clone();
    let [rows, length, width] = [sizes.batch, sizes.sequence, sizes.width];
    let ids = TensorData::new(batch.ids.clone(), [rows, length]);
    let with_gradients = device.clone().autodiff();
    let forward =
        time(device, || trainer.model.features(Tensor::<2, Int>::from_data(ids.clone(), &with_gradients), precision))?;
    let features = Tensor::<2>::zeros([rows * (length - 1), width], &inner).add_scalar(0.1);
    let embedding = trainer.model.wte.weight.val().inner();
    let next = Tensor::<2, Int>::from_data(ids, &inner).slice([0..rows, 1..length]).reshape([rows * (length - 1)]);
    let head = time(device, || head_loss(features.clone(), embedding.clone(), next.clone(), 1.0, 0.0, precision))?;
    let values = parameters(&trainer.model);
    let decays = sizes.config().tensors().iter().map(model::config::TensorShape::decays).collect();
    let mut optimizer = AdamW::new(ADAMW, decays, &values);
    let optimizer = time(device, || optimizer.update(1e-4, values.clone(), values.clone(), global_norm(&values)))?;
    drop((trainer, values));
    let short = Sizes { batch: 1, sequence: length.min(64), ..sizes };
    let mut trainer = self::trainer(device, short, precision, 1)?;
    let short = self::batch(short);
    let mut failure = None;
    let host = time(device, || {
        failure = trainer.update(std::slice::from_ref(&short), 1e-4, &Cancel::default()).err();
    })?;
    match failure {
        Some(error) => Err(error),
        None => Ok(json!({
            "forward": milliseconds(forward),
            "head": milliseconds(head),
            "backward": milliseconds(step.saturating_sub(forward + head + optimizer)),
            "optimizer": milliseconds(optimizer),
            "host": milliseconds(host),
        })),
    }
}

/// Returns the median of five runs after three warm-up runs.
fn time<T>(device: &Device, mut work: impl FnMut() -> T) -> Result<Duration> {
    let mut times = Vec::new();
    for at in 0..8 {
        wait(device)?;
        let start = Instant::now();
        // The result is kept until the end, as a lazy backend may skip a result that is dropped.
        let result = work();
        wait(device)?;
        drop(result);
        if at >= 3 {
            times.push(start.elapsed());
        }
    }
    Ok(median(&mut times))
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Returns a trainer of a new model with these sizes.
pub fn trainer(device: &Device, sizes: Sizes, precision: Precision, seed: u64) -> Result<Trainer> {
    let config = sizes.config();
    let device = device.clone().autodiff();
    let model = Gpt2::new(&config, &device, |tensor| Ok::<_, StageError>(initial_values(&config, seed, tensor)))?;
    Ok(Trainer::new(&config, model, ADAMW, precision, device))
}

/// Returns a micro-batch of fixed pseudorandom ids.
pub fn batch(sizes: Sizes) -> Batch {
    let ids = (0..sizes.batch * sizes.sequence).map(|at| (at * 7919 % sizes.vocabulary) as i32).collect();
    Batch { ids, sequences: sizes.batch }
}
