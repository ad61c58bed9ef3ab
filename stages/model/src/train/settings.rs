//! The settings of the stage kind `train`.

use contract::{Problem, Result, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokens::packed::PackedTokens;

use crate::config::{Gpt2Config, Preset};
use crate::dropout::Rates;
use crate::initial::Residual;
use crate::precision::Precision;
use crate::train::adamw::AdamWSettings;
use crate::train::schedule::{Schedule, Shape};

/// The maximum number of sequences per update.
const MAX_SEQUENCES: u64 = 1 << 20;
/// The maximum number of updates of a training.
const MAX_STEPS: u64 = 1 << 32;

/// Trains a GPT-2 on packed tokens: AdamW, a schedule with warm-up, gradient accumulation and clipping by the
/// global norm. The context length of a new model is the sequence length of its tokens. A training that is killed
/// continues from its last checkpoint when it runs again and, on the CPU, produces the same bytes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Spec {
    /// The sizes of a published model (`gpt2`, `gpt2-medium`, `gpt2-large` or `gpt2-xl`), instead of `layers`, `width` and `heads`.
    #[serde(default)]
    pub preset: Option<Preset>,
    /// The number of transformer blocks.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1024))]
    pub layers: Option<u32>,
    /// The number of features per token; a multiple of `heads`.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65_535))]
    pub width: Option<u32>,
    /// The number of attention heads per block.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65_535))]
    pub heads: Option<u32>,
    /// Whether the model of the input `init` gets the vocabulary of the tokens: new rows of the embedding are the mean of all rows, surplus
    /// ones are dropped. Ids that both vocabularies have must mean the same.
    #[serde(default)]
    pub resize_vocabulary: bool,
    /// Whether the projections back into the residual stream of a new model start smaller, by √(2 · layers), as GPT-2's; else they start
    /// like all other matrices.
    #[serde(default = "residual_scaling")]
    pub residual_scaling: bool,
    /// The share of the embedding's values that training drops (`embd_pdrop`; GPT-2 and CodeParrot: 0.1).
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub embedding_dropout: f64,
    /// The share of the attention's weights that training drops (`attn_pdrop`; GPT-2 and CodeParrot: 0.1). It keeps values for each pair
    /// of tokens in memory.
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub attention_dropout: f64,
    /// The share that training drops of what attention and feed-forward part add to the residual stream (`resid_pdrop`; GPT-2 and
    /// CodeParrot: 0.1).
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub residual_dropout: f64,
    /// The number of sequences per update, on all passes together (the global batch).
    #[schemars(range(min = 1, max = MAX_SEQUENCES))]
    pub batch: u64,
    /// The number of sequences in one forward and backward pass; memory grows with it, and gradients are summed until an update
    /// has its `batch`. The last pass of an update may have fewer; every sequence counts equally. By default, as many as a
    /// GPU's memory allows; on the CPU, as many as keep sequences times their length, layers and width within 2^24.
    #[serde(default)]
    #[schemars(range(min = 1, max = MAX_SEQUENCES))]
    pub micro_batch: Option<u64>,
    /// The number format of matrix products: `f32`, or `bf16` for a GPU.
    #[serde(default)]
    pub precision: Precision,
    /// The number of updates.
    #[schemars(range(min = 1, max = MAX_STEPS))]
    pub steps: u64,
    /// The maximum learning rate.
    #[schemars(range(max = 1000), extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// The number of updates in which the rate grows from 0 to `learning_rate`.
    #[serde(default)]
    #[schemars(range(max = MAX_STEPS))]
    pub warmup: u64,
    /// How the rate falls after the warm-up: `cosine`, `linear`, `constant` or `warmup-stable-decay`.
    #[serde(default)]
    pub schedule: Shape,
    /// The number of last updates in which `warmup-stable-decay` lowers the rate; by default, a tenth of `steps`.
    #[serde(default)]
    #[schemars(range(min = 1, max = MAX_STEPS))]
    pub decay: Option<u64>,
    /// The learning rate at the end of the schedule.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub min_learning_rate: f64,
    /// The weight decay of matrices and embeddings (not of biases and layer norms).
    #[serde(default = "weight_decay")]
    #[schemars(range(min = 0, max = 1000))]
    pub weight_decay: f64,
    /// AdamW's decay rate of the mean of the gradients.
    #[serde(default = "beta1")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub beta1: f64,
    /// AdamW's decay rate of the mean of the squared gradients.
    #[serde(default = "beta2")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub beta2: f64,
    /// AdamW's term that prevents division by zero.
    #[serde(default = "epsilon")]
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub epsilon: f64,
    /// The maximum global norm of the gradients: larger gradients are scaled down to it.
    #[serde(default = "clip")]
    #[schemars(range(max = 1_000_000_000_000u64), extend("exclusiveMinimum" = 0))]
    pub clip: f64,
    /// The weight of the z-loss, which keeps logits near 0 (PaLM: 1e-4); the reported loss is without it.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    pub z_loss: f64,
    /// The number of updates in a row that may be skipped because their loss or gradients are not finite; one more fails the stage. A
    /// skipped update leaves the model and the moments as they are.
    #[serde(default)]
    #[schemars(range(min = 0, max = MAX_STEPS))]
    pub skip_non_finite: u64,
    /// Whether the model with the lowest validation loss is an output, `best`, besides the last one.
    #[serde(default)]
    pub keep_best: bool,
    /// Whether the state at the end is an output, `state`, from which a training with more steps continues.
    #[serde(default)]
    pub keep_state: bool,
    /// The number of updates between two measurements of the validation loss; by default, it is measured only at the end.
    #[serde(default)]
    #[schemars(range(min = 1, max = MAX_STEPS))]
    pub validate_every: Option<u64>,
    /// The maximum number of validation sequences to measure; a stage `eval-loss` measures all.
    #[serde(default = "validate_sequences")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub validate_sequences: u64,
}

/// The intervals of reports and checkpoints; the result does not depend on them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Exec {
    /// The number of updates between two reports of the loss.
    #[serde(default = "log_every")]
    #[schemars(range(min = 1, max = MAX_STEPS))]
    pub log_every: u64,
    /// The maximum number of updates between two checkpoints.
    #[serde(default = "checkpoint_every")]
    #[schemars(range(min = 1, max = MAX_STEPS))]
    pub checkpoint_every: u64,
    /// The number of seconds after which a checkpoint is written too: after a kill, about this much is repeated. It is at least
    /// twenty times what the last checkpoint took, so that a large model does not spend its time on them.
    #[serde(default = "checkpoint_seconds")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub checkpoint_seconds: u64,
    /// The number of checkpoints that are kept: the newest ones. If the last one is damaged, the one before it is used.
    #[serde(default = "keep_last")]
    #[schemars(range(min = 1, max = 1000))]
    pub keep_last: u64,
}

fn residual_scaling() -> bool {
    true
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

fn validate_sequences() -> u64 {
    1024
}

fn log_every() -> u64 {
    10
}

fn checkpoint_every() -> u64 {
    500
}

fn checkpoint_seconds() -> u64 {
    10
}

fn keep_last() -> u64 {
    2
}

impl Spec {
    /// Returns AdamW's settings.
    pub fn optimizer(&self) -> AdamWSettings {
        AdamWSettings {
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
            clip: self.clip,
        }
    }

    /// Returns whether the validation loss is measured after this many updates, if the training goes on.
    pub(super) fn validates_at(&self, step: u64) -> bool {
        self.validate_every.is_some_and(|every| step.is_multiple_of(every))
    }

    /// Returns the shares of dropped values.
    pub fn dropout(&self) -> Rates {
        Rates { embedding: self.embedding_dropout, attention: self.attention_dropout, residual: self.residual_dropout }
    }

    /// Returns the deviation of the projections back into the residual stream of a new model.
    pub fn residual(&self) -> Residual {
        if self.residual_scaling { Residual::Scaled } else { Residual::Plain }
    }

    /// Returns the learning rate's schedule.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            shape: self.schedule,
            peak: self.learning_rate,
            floor: self.min_learning_rate,
            warmup: self.warmup,
            decay: self.decay.unwrap_or(self.steps / 10),
            steps: self.steps,
        }
    }

    /// Returns layers, width and heads, if they are set.
    pub(super) fn shape(&self) -> Option<(usize, usize, usize)> {
        match (self.preset, self.layers, self.width, self.heads) {
            (Some(preset), ..) => Some(preset.sizes()),
            (None, Some(layers), Some(width), Some(heads)) => Some((layers as usize, width as usize, heads as usize)),
            _ => None,
        }
    }

    /// Returns the sizes of a new model for the given tokens.
    ///
    /// # Errors
    /// Returns an error if the settings do not determine the sizes.
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

    /// Checks that a model can continue with these settings and tokens.
    ///
    /// # Errors
    /// Returns an error if it has other sizes than the settings, another vocabulary or end of text than the tokens, or too few positions.
    pub fn check_continues(&self, config: &Gpt2Config, tokens: &PackedTokens) -> Result<()> {
        let found = (config.layers, config.width, config.heads);
        if let Some(asked) = self.shape().filter(|asked| *asked != found) {
            return Err(StageError::new(format!(
                "the model of 'init' has (layers, width, heads) {found:?}, but the settings say {asked:?}"
            ))
            .hint("remove the sizes: 'init' determines them"));
        }
        if config.vocabulary != tokens.vocabulary() as usize && !self.resize_vocabulary {
            return Err(StageError::new(format!(
                "the model of 'init' has a vocabulary of {}, but the tokens have one of {}",
                config.vocabulary,
                tokens.vocabulary()
            ))
            .hint("pack with the tokenizer of that model, or set resize_vocabulary if the other one extends it"));
        }
        if let Some(end) = config.end_of_text.filter(|end| *end != tokens.end_of_text()) {
            return Err(StageError::new(format!(
                "the model of 'init' ends documents with token {end}, the tokens were packed with {}",
                tokens.end_of_text()
            ))
            .hint("pack with the tokenizer of the model of 'init'"));
        }
        if config.positions < tokens.sequence_length() {
            return Err(StageError::new(format!(
                "the model of 'init' reads at most {} tokens, but the sequences have {}",
                config.positions,
                tokens.sequence_length()
            ))
            .hint("lower sequence_length in the pack stage"));
        }
        Ok(())
    }
}

/// Returns the problems of the settings beyond their individual bounds.
pub fn check(spec: &Spec) -> Vec<Problem> {
    let mut problems = Vec::new();
    check_sizes(spec, &mut problems);
    let Spec { warmup, steps, learning_rate, min_learning_rate, .. } = spec;
    if warmup > steps {
        let message = format!("must be at most steps ({steps}), not {warmup}");
        problems.push(Problem::new("warmup", message).depends_on("steps"));
    }
    check_schedule(spec, &mut problems);
    if let Some(micro_batch) = spec.micro_batch.filter(|micro_batch| *micro_batch > spec.batch) {
        let message = format!("must be at most batch ({}), not {micro_batch}", spec.batch);
        problems.push(Problem::new("micro_batch", message).depends_on("batch"));
    }
    if spec.keep_state && spec.keep_best {
        let message = "cannot be combined with keep_best: the best model is no part of the state";
        problems.push(Problem::new("keep_state", message).depends_on("keep_best"));
    }
    if min_learning_rate > learning_rate {
        let message = format!("must be at most learning_rate ({learning_rate}), not {min_learning_rate}");
        problems.push(Problem::new("min_learning_rate", message).depends_on("learning_rate"));
    }
    problems
}

fn check_schedule(spec: &Spec, problems: &mut Vec<Problem>) {
    let Spec { warmup, steps, schedule, .. } = spec;
    match spec.decay {
        Some(_) if *schedule != Shape::WarmupStableDecay => problems.push(
            Problem::new("decay", "has an effect with schedule = \"warmup-stable-decay\" only").depends_on("schedule"),
        ),
        Some(decay) if decay > steps.saturating_sub(*warmup) => {
            let message = format!("must be at most steps - warmup ({}), not {decay}", steps.saturating_sub(*warmup));
            problems.push(Problem::new("decay", message).depends_on("steps"));
        }
        _ => {}
    }
    if *schedule == Shape::Constant && spec.min_learning_rate > 0.0 {
        let message = "has no effect with schedule = \"constant\"";
        problems.push(Problem::new("min_learning_rate", message).depends_on("schedule"));
    }
}

fn check_sizes(spec: &Spec, problems: &mut Vec<Problem>) {
    let sizes = [("layers", spec.layers), ("width", spec.width), ("heads", spec.heads)];
    let given = sizes.iter().filter(|(_, size)| size.is_some()).count();
    for (name, size) in sizes {
        match size {
            Some(_) if spec.preset.is_some() => problems.push(
                Problem::new(name, "preset already sets the sizes")
                    .depends_on("preset")
                    .hint("remove preset or the three sizes"),
            ),
            None if given > 0 && spec.preset.is_none() => {
                problems.push(Problem::new("", format!("{name} is missing: set layers, width and heads together")));
            }
            _ => {}
        }
    }
    if let (Some(width), Some(heads @ 1..)) = (spec.width, spec.heads)
        && width % heads != 0
    {
        let message = format!("must be a multiple of heads ({heads}), not {width}");
        problems.push(Problem::new("width", message).depends_on("heads"));
    }
}
