//! The settings of the stage kind `train`.

use std::fmt::Display;

use contract::{Problem, Result, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokens::packed::PackedTokens;

use crate::config::{Gpt2Config, Preset, USUAL_SEQUENCE, USUAL_VOCABULARY};
use crate::train::adamw::AdamWSettings;
use crate::train::schedule::Schedule;

/// Trains a GPT-2 on packed tokens: AdamW, a cosine schedule with warm-up, gradient accumulation and clipping by the
/// global norm. The longest sequence of a new model is that of its tokens. Killed at any moment and run again it goes
/// on from its last checkpoint and, on the CPU, ends with the same bytes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TrainSpec {
    /// The sizes of a published model (`gpt2` or `gpt2-xl`), in place of `layers`, `width` and `heads`.
    #[serde(default)]
    pub preset: Option<Preset>,
    /// Transformer blocks.
    #[serde(default)]
    pub layers: Option<u32>,
    /// Features of a token; a multiple of `heads`.
    #[serde(default)]
    pub width: Option<u32>,
    /// Attention heads a block.
    #[serde(default)]
    pub heads: Option<u32>,
    /// Sequences of one forward and backward pass (the micro-batch); memory grows with it.
    pub batch: u64,
    /// Micro-batches of one update, whose gradients are averaged.
    #[serde(default = "one")]
    pub accumulation: u64,
    /// Updates.
    pub steps: u64,
    /// The greatest learning rate.
    pub learning_rate: f64,
    /// Updates over which the rate grows from 0 to `learning_rate`.
    #[serde(default)]
    pub warmup: u64,
    /// The rate at the end of the cosine.
    #[serde(default)]
    pub min_learning_rate: f64,
    /// Decay of matrices and embeddings (not of biases and layer norms).
    #[serde(default = "weight_decay")]
    pub weight_decay: f64,
    /// AdamW's decay of the mean of the gradients.
    #[serde(default = "beta1")]
    pub beta1: f64,
    /// AdamW's decay of the mean of their squares.
    #[serde(default = "beta2")]
    pub beta2: f64,
    /// AdamW's term that keeps the divisor from 0.
    #[serde(default = "epsilon")]
    pub epsilon: f64,
    /// The greatest global norm of the gradients: longer ones are shortened to it.
    #[serde(default = "clip")]
    pub clip: f64,
    /// Updates between two measures of the validation loss; without it, measured at the end only.
    #[serde(default)]
    pub validate_every: Option<u64>,
    /// How many validation sequences to measure at most; without it, all.
    #[serde(default)]
    pub validate_sequences: Option<u64>,
}

/// How often to tell and to save; the result does not depend on it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TrainExec {
    /// Updates between two reports of the loss.
    #[serde(default = "log_every")]
    pub log_every: u64,
    /// Updates between two checkpoints: at most so many are done again after a kill.
    #[serde(default = "checkpoint_every")]
    pub checkpoint_every: u64,
}

fn one() -> u64 {
    1
}

fn weight_decay() -> f64 {
    0.1
}

fn beta1() -> f64 {
    0.9
}

fn beta2() -> f64 {
    0.999
}

fn epsilon() -> f64 {
    1e-8
}

fn clip() -> f64 {
    1.0
}

fn log_every() -> u64 {
    10
}

fn checkpoint_every() -> u64 {
    500
}

impl TrainSpec {
    /// AdamW's settings.
    pub fn optimizer(&self) -> AdamWSettings {
        AdamWSettings {
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
            clip: self.clip,
        }
    }

    /// The learning rate's schedule.
    pub fn schedule(&self) -> Schedule {
        Schedule { peak: self.learning_rate, floor: self.min_learning_rate, warmup: self.warmup, steps: self.steps }
    }

    /// Layers, width and heads, where they are given.
    fn shape(&self) -> Option<(usize, usize, usize)> {
        match (self.preset, self.layers, self.width, self.heads) {
            (Some(preset), ..) => Some(preset.sizes()),
            (None, Some(layers), Some(width), Some(heads)) => Some((layers as usize, width as usize, heads as usize)),
            _ => None,
        }
    }

    /// The sizes of a new model for these tokens.
    ///
    /// # Errors
    /// When the settings give no sizes.
    pub fn sizes(&self, tokens: &PackedTokens) -> Result<Gpt2Config> {
        let (layers, width, heads) = self.shape().ok_or_else(|| {
            StageError::new("the model has no sizes")
                .hint("set preset = \"gpt2\", or layers, width and heads, or connect the input 'init'")
        })?;
        Ok(Gpt2Config {
            vocabulary: tokens.vocabulary() as usize,
            positions: tokens.sequence_length(),
            width,
            layers,
            heads,
            end_of_text: None,
        })
    }

    /// Whether a model can go on with these settings and tokens.
    ///
    /// # Errors
    /// When it has other sizes than the settings say, another vocabulary than the tokens, or too few positions.
    pub fn check_continues(&self, config: &Gpt2Config, tokens: &PackedTokens) -> Result<()> {
        let found = (config.layers, config.width, config.heads);
        if let Some(asked) = self.shape().filter(|asked| *asked != found) {
            return Err(StageError::new(format!(
                "the model of 'init' has (layers, width, heads) {found:?}, the settings say {asked:?}"
            ))
            .hint("leave the sizes out: they are those of 'init'"));
        }
        if config.vocabulary != tokens.vocabulary() as usize {
            return Err(StageError::new(format!(
                "the model of 'init' has a vocabulary of {}, the tokens one of {}",
                config.vocabulary,
                tokens.vocabulary()
            ))
            .hint("pack with the tokenizer of that model"));
        }
        if config.positions < tokens.sequence_length() {
            return Err(StageError::new(format!(
                "the model of 'init' reads {} tokens, the sequences have {}",
                config.positions,
                tokens.sequence_length()
            ))
            .hint("lower sequence_length in the pack stage"));
        }
        Ok(())
    }

    /// Bytes of memory for a usual vocabulary and sequence (the module docs of [`crate::train`] hold the formula).
    pub fn memory(&self) -> u64 {
        let (layers, width, heads) = self.shape().unwrap_or(Preset::Gpt2.sizes());
        let config = Gpt2Config {
            vocabulary: USUAL_VOCABULARY,
            positions: USUAL_SEQUENCE,
            width,
            layers,
            heads,
            end_of_text: None,
        };
        let a_parameter = if self.accumulation > 1 { 20 } else { 16 };
        let a_token = layers * (34 * width + 2 * heads * USUAL_SEQUENCE);
        a_parameter * config.parameters() as u64 + 4 * self.batch * (USUAL_SEQUENCE * a_token) as u64 + (256 << 20)
    }
}

/// What is wrong with the settings beyond their types.
pub fn check(spec: &TrainSpec, exec: &TrainExec) -> Vec<Problem> {
    let mut problems = Vec::new();
    check_sizes(spec, &mut problems);
    let mut expect = |holds: bool, setting: &str, expected: &str, found: &dyn Display| {
        if !holds {
            problems.push(Problem::new(setting, format!("must be {expected}, not {found}")));
        }
    };
    let at_least = |value: f64, least: f64| value.is_finite() && value >= least;
    let positive = |value: f64| value.is_finite() && value > 0.0;
    let small = "between 1 and 1048576";
    expect((1..=1 << 20).contains(&spec.batch), "batch", small, &spec.batch);
    expect((1..=1 << 20).contains(&spec.accumulation), "accumulation", small, &spec.accumulation);
    expect((1..=1 << 32).contains(&spec.steps), "steps", "between 1 and 4294967296", &spec.steps);
    let rate = spec.learning_rate;
    expect(positive(rate), "learning_rate", "greater than 0", &rate);
    expect(spec.warmup <= spec.steps, "warmup", &format!("at most steps ({})", spec.steps), &spec.warmup);
    let floor = spec.min_learning_rate;
    // Where the greatest rate is wrong itself, it says nothing of the least one.
    let most = if positive(rate) { rate } else { f64::MAX };
    let range = match positive(rate) {
        true => format!("between 0 and learning_rate ({rate})"),
        false => "at least 0".to_owned(),
    };
    expect(at_least(floor, 0.0) && floor <= most, "min_learning_rate", &range, &floor);
    expect(at_least(spec.weight_decay, 0.0), "weight_decay", "at least 0", &spec.weight_decay);
    for (setting, beta) in [("beta1", spec.beta1), ("beta2", spec.beta2)] {
        expect((0.0..1.0).contains(&beta), setting, "at least 0 and less than 1", &beta);
    }
    // The moments are 32-bit numbers: a term that is 0 among them does not keep the divisor from 0.
    let epsilon = at_least(spec.epsilon, f32::MIN_POSITIVE.into()) && spec.epsilon <= f32::MAX.into();
    expect(epsilon, "epsilon", "greater than 0 (at least 1.2e-38) and at most 3.4e38", &spec.epsilon);
    expect(positive(spec.clip), "clip", "greater than 0", &spec.clip);
    for (setting, count) in [
        ("validate_every", spec.validate_every),
        ("validate_sequences", spec.validate_sequences),
        ("log_every", Some(exec.log_every)),
        ("checkpoint_every", Some(exec.checkpoint_every)),
    ] {
        expect(count != Some(0), setting, "at least 1", &0);
    }
    problems
}

fn check_sizes(spec: &TrainSpec, problems: &mut Vec<Problem>) {
    let sizes = [("layers", spec.layers), ("width", spec.width), ("heads", spec.heads)];
    let given = sizes.iter().filter(|(_, size)| size.is_some()).count();
    for (name, size) in sizes {
        match size {
            Some(_) if spec.preset.is_some() => problems.push(
                Problem::new(name, "preset gives the sizes already").hint("keep either preset or the three sizes"),
            ),
            Some(size @ (0 | 65_536..)) => {
                problems.push(Problem::new(name, format!("must be between 1 and 65535, not {size}")));
            }
            None if given > 0 && spec.preset.is_none() => {
                problems.push(Problem::new("", format!("{name} is missing: layers, width and heads go together")));
            }
            _ => {}
        }
    }
    if let (Some(width), Some(heads @ 1..)) = (spec.width, spec.heads)
        && width % heads != 0
    {
        problems.push(Problem::new("width", format!("must be a multiple of heads ({heads}), not {width}")));
    }
}
