//! The state of a training at its end: an output from which another training with more steps continues.
//!
//! ```text
//! state.safetensors   p.NAME, m.NAME, v.NAME: parameters and both moments, f32
//! metrics.bin         the metrics so far
//! training.json       the revision of the kind, the step, the settings, the seed and the digests of the inputs
//! ```
//!
//! The training that continues ends with the bytes of one that had all its steps from the start. So revision, seed, inputs and settings must
//! be equal, except for the settings of the rate: these may differ if the rate of every step so far is the same, as with a constant rate, or
//! before the decay of warm-up-stable-decay. A validation that was due because a training ended is left out of the metrics.

use std::collections::BTreeMap;
use std::fs;

use contract::{Context, Digest, InputTree, OutputTree, Result, Stage, StageError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Train;
use super::checkpoint::{read_state, write_state};
use super::metrics::{Metric, write_words};
use super::settings::Spec;
use super::trainer::Trainer;
use crate::config::Gpt2Config;

const STATE: &str = "state.safetensors";
const METRICS: &str = "metrics.bin";
const TRAINING: &str = "training.json";
/// The settings that only determine the rate, and those without an effect on what is in the state.
const FREE: [&str; 7] = ["steps", "learning_rate", "min_learning_rate", "warmup", "schedule", "decay", "keep_state"];
/// The inputs that determine what is in the state.
const INPUTS: [&str; 3] = ["train", "valid", "init"];

/// The training that wrote a state.
#[derive(Debug, Serialize, Deserialize)]
struct Training {
    revision: u32,
    step: u64,
    settings: Map<String, Value>,
    seed: u64,
    inputs: BTreeMap<String, Digest>,
}

impl Training {
    fn this(spec: &Spec, context: &Context) -> Result<Self> {
        let settings = match serde_json::to_value(spec) {
            Ok(Value::Object(settings)) => settings,
            _ => return Err(StageError::new("the settings have no JSON form")),
        };
        let input = |port: &str| Some((port.to_owned(), context.inputs.get(port)?.digest));
        let inputs = INPUTS.into_iter().filter_map(input).collect();
        Ok(Self { revision: Train::REVISION, step: spec.steps, settings, seed: context.seed, inputs })
    }

    /// Checks that `self` is a part of a training.
    fn check_continues(&self, next: &Self, spec: &Spec) -> Result<()> {
        let differs = |what: String| {
            StageError::new(format!("the state of 'resume' is of another training: {what}"))
                .hint("only the steps and the settings of the rate may differ")
        };
        let pair = |what: &str, one: &dyn std::fmt::Display, other: &dyn std::fmt::Display| {
            differs(format!("{what} {one}, not {other}"))
        };
        if self.revision != next.revision {
            return Err(pair("revision", &self.revision, &next.revision));
        }
        if self.seed != next.seed {
            return Err(pair("seed", &self.seed, &next.seed));
        }
        if let Some(port) = INPUTS.into_iter().find(|port| self.inputs.get(*port) != next.inputs.get(*port)) {
            return Err(differs(format!("its input '{port}' was another")));
        }
        let names = self.settings.keys().chain(next.settings.keys()).filter(|name| !FREE.contains(&name.as_str()));
        for name in names {
            let [one, other] = [self, next].map(|training| training.settings.get(name).unwrap_or(&Value::Null));
            if one != other {
                return Err(pair(name, one, other));
            }
        }
        if self.step > spec.steps {
            return Err(StageError::new(format!(
                "the state of 'resume' is of step {}, and steps is {}",
                self.step, spec.steps
            ))
            .hint("raise steps"));
        }
        let settings = Value::Object(self.settings.clone());
        let earlier: Spec = serde_json::from_value(settings).map_err(|error| differs(error.to_string()))?;
        let (earlier, later) = (earlier.schedule(), spec.schedule());
        match (0..self.step).find(|step| earlier.rate(*step) != later.rate(*step)) {
            None => Ok(()),
            Some(step) => Err(StageError::new(format!(
                "the state of 'resume' has another learning rate at step {step}: {}, not {}",
                earlier.rate(step),
                later.rate(step)
            ))
            .hint(format!(
                "a constant rate can be continued, and warmup-stable-decay before its decay: here, after step {}",
                self.step
            ))),
        }
    }
}

/// Writes the state after the last step.
///
/// # Errors
/// Returns an error if a value is not finite or a file cannot be written.
pub fn write(
    spec: &Spec,
    context: &Context,
    config: &Gpt2Config,
    trainer: &Trainer,
    metrics: &[Metric],
    output: &OutputTree,
) -> Result<()> {
    let mut file = output.create(STATE)?;
    write_state(config, trainer, &mut file)?;
    file.finish()?;
    let is_due = |metric: &Metric| match metric {
        Metric::Validation { step, .. } => spec.validates_at(*step),
        _ => true,
    };
    let metrics: Vec<_> = metrics.iter().copied().filter(is_due).collect();
    let mut file = output.create(METRICS)?;
    write_words(&metrics, &mut file)?;
    file.finish()?;
    output.write_json(TRAINING, &Training::this(spec, context)?)
}

/// Reads a state into the trainer. Returns its step and its metrics.
///
/// # Errors
/// Returns an error if it is not the state of a part of this training, or cannot be read.
pub fn read(
    tree: &InputTree,
    spec: &Spec,
    context: &Context,
    config: &Gpt2Config,
    trainer: &mut Trainer,
) -> Result<(u64, Vec<Metric>)> {
    let location = |path: &str| tree.required(path).map(|file| file.location.clone());
    let malformed = |error: serde_json::Error| StageError::new(format!("{TRAINING} is not of a training: {error}"));
    let training: Training = serde_json::from_slice(&fs::read(location(TRAINING)?)?).map_err(malformed)?;
    training.check_continues(&Training::this(spec, context)?, spec)?;
    let metrics = read_state(&location(STATE)?, &location(METRICS)?, config, trainer)?;
    Ok((training.step, metrics))
}
