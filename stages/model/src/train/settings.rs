//! The settings of the stage kind `train`.

use contract::{Problem, Result, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokens::packed::PackedTokens;

use crate::config::{Gpt2Config, Preset};
use crate::fused::attention;
use crate::precision::Precision;
use crate::train::adamw::AdamWSettings;
use crate::train::head;
use crate::train::schedule::Schedule;

/// The maximum number of sequences per update.
const MAX_SEQUENCES: u64 = 1 << 20;
/// The maximum number of updates of a training.
const MAX_STEPS: u64 = 1 << 32;

/// Trains a GPT-2 on packed tokens: AdamW, a cosine schedule with warm-up, gradient accumulation and clipping by the
/// global norm. The context length of a new model is the sequence length of its tokens. A training that is killed
/// continues from its last checkpoint when it runs again and, on the CPU, produces the same bytes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Spec {
    /// The sizes of a published model (`gpt2` or `gpt2-xl`), instead of `layers`, `width` and `heads`.
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
    /// The number of sequences in one forward and backward pass (the micro-batch); memory grows with it.
    #[schemars(range(min = 1, max = MAX_SEQUENCES))]
    pub batch: u64,
    /// The number of micro-batches per update; their gradients are averaged.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = MAX_SEQUENCES))]
    pub accumulation: u64,
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
    /// The learning rate at the end of the cosine schedule.
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
    /// The number of updates between two measurements of the validation loss; by default, it is measured only at the end.
    #[serde(default)]
    #[schemars(range(min = 1, max = MAX_STEPS))]
    pub validate_every: Option<u64>,
    /// The maximum number of validation sequences to measure; by default, all.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub validate_sequences: Option<u64>,
}

/// The intervals of reports and checkpoints; the result does not depend on them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Exec {
    /// The number of updates between two reports of the loss.
    #[serde(default = "log_every")]
    #[schemars(range(min = 1, max = MAX_STEPS))]
    pub log_every: u64,
    /// The number of updates between two checkpoints: after a kill, at most this many are repeated.
    #[serde(default = "checkpoint_every")]
    #[schemars(range(min = 1, max = MAX_STEPS))]
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

    /// Returns the learning rate's schedule.
    pub fn schedule(&self) -> Schedule {
        Schedule { peak: self.learning_rate, floor: self.min_learning_rate, warmup: self.warmup, steps: self.steps }
    }

    /// Returns layers, width and heads, if they are set.
    pub(super) fn shape(&self) -> Option<(usize, usize, usize)> {
        match (self.preset, self.layers, self.width, self.heads) {
            (Some(preset), ..) => Some(preset.sizes()),
            (None, Some(layers), Some(width), Some(heads)) => Some((layers as usize, width as usize, heads as usize)),
            _ => None,
        }
    }

    /// Returns the sizes of a new model for these tokens.
    ///
    /// # Errors
    /// Returns an error if the settings have no sizes.
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
    /// Returns an error if it has other sizes than the settings, another vocabulary than the tokens, or too few positions.
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

    fn sequences_an_update(&self) -> u64 {
        self.batch.saturating_mul(self.accumulation)
    }

    /// Returns the bytes of memory to train a model of these sizes on sequences of `length` tokens (the module docs of
    /// [`crate::train`] contain the formula).
    pub(super) fn memory(&self, config: &Gpt2Config, length: u64) -> u64 {
        let [layers, width, heads] = [config.layers, config.width, config.heads].map(|size| size as u64);
        let a_parameter = if self.accumulation > 1 { 20 } else { 16 };
        let a_token = match self.precision {
            Precision::F32 => layers.saturating_mul((18 * width).saturating_add(heads)).saturating_add(12 * width),
            Precision::Bf16 => layers.saturating_mul((34 * width).saturating_add((2 * heads).saturating_mul(length))),
        };
        let activations = length.saturating_mul(a_token).saturating_mul(4 * self.batch);
        // The ids of all micro-batches of an update.
        let ids = length.saturating_mul(self.sequences_an_update()).saturating_mul(4);
        let model = (config.parameters() as u64).saturating_mul(a_parameter);
        [model, activations, ids, 256 << 20].into_iter().fold(0, u64::saturating_add)
    }

    /// Estimates the bytes that a training uses on a GPU with `capacity` bytes, within a tenth: for each parameter, for each feature of a layer for
    /// each token, the pairs of tokens ([`attention`]), and a chunk of logits ([`head`]). The factors are fitted to what
    /// CubeCL reserves (benches/gpu/check.sh, step `reserved`).
    pub(super) fn gpu_memory(&self, config: &Gpt2Config, length: usize, capacity: u64) -> u64 {
        let (a_parameter, a_feature) = match self.precision {
            Precision::F32 => (18, 82),
            Precision::Bf16 => (20, 42),
        };
        let a_parameter = a_parameter + if self.accumulation > 1 { 4 } else { 0 };
        let Gpt2Config { layers, width, heads, vocabulary, .. } = *config;
        let batch = usize::try_from(self.batch).unwrap_or(usize::MAX);
        let product = |factors: &[usize]| factors.iter().fold(1u64, |all, factor| all.saturating_mul(*factor as u64));
        let chunk = attention::chunk([batch, heads, length], attention::PAIRS);
        let logits = head::chunk_of(batch.saturating_mul(length - 1), vocabulary, Some(capacity));
        [
            product(&[config.parameters(), a_parameter]),
            product(&[layers, width, batch, length, a_feature]),
            product(&[chunk, heads, length, length, 4]),
            product(&[logits, vocabulary, 4]),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Rejects a training that clearly does not fit into a GPU with `capacity` bytes.
    ///
    /// # Errors
    /// Returns an error if the estimate is more than a tenth above the capacity.
    pub(super) fn check_gpu_memory(&self, config: &Gpt2Config, length: usize, capacity: u64) -> Result<()> {
        let needs = self.gpu_memory(config, length, capacity);
        if needs <= capacity.saturating_add(capacity / 10) {
            return Ok(());
        }
        let fits = |batch: u64| {
            Self { batch, accumulation: 2, ..self.clone() }.gpu_memory(config, length, capacity) <= capacity
        };
        // The memory grows with the batch.
        let (mut fitting, mut excessive) = (0, self.batch);
        while excessive - fitting > 1 {
            let middle = fitting + (excessive - fitting) / 2;
            *if fits(middle) { &mut fitting } else { &mut excessive } = middle;
        }
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        let error = StageError::new(format!(
            "training needs about {:.1} GiB of the GPU's memory, which has {:.1} GiB",
            gib(needs),
            gib(capacity)
        ));
        Err(error.hint(match fitting {
            0 => "use a GPU with more memory, a smaller model, or shorter sequences".to_owned(),
            batch => format!("lower batch to {batch}, and raise accumulation to keep the sequences of an update"),
        }))
    }
}

/// Returns the problems of the settings beyond the bounds of each.
pub fn check(spec: &Spec) -> Vec<Problem> {
    let mut problems = Vec::new();
    check_sizes(spec, &mut problems);
    let Spec { warmup, steps, learning_rate, min_learning_rate, .. } = spec;
    if warmup > steps {
        let message = format!("must be at most steps ({steps}), not {warmup}");
        problems.push(Problem::new("warmup", message).depends_on("steps"));
    }
    if spec.sequences_an_update() > MAX_SEQUENCES {
        let (batch, accumulation, most) = (spec.batch, spec.accumulation, MAX_SEQUENCES / spec.batch.max(1));
        let message = format!(
            "must be at most {most} with batch = {batch}, not {accumulation}: an update reads {MAX_SEQUENCES} sequences \
             at most"
        );
        problems.push(Problem::new("accumulation", message).depends_on("batch"));
    }
    if min_learning_rate > learning_rate {
        let message = format!("must be at most learning_rate ({learning_rate}), not {min_learning_rate}");
        problems.push(Problem::new("min_learning_rate", message).depends_on("learning_rate"));
    }
    problems
}

fn check_sizes(spec: &Spec, problems: &mut Vec<Problem>) {
    let sizes = [("layers", spec.layers), ("width", spec.width), ("heads", spec.heads)];
    let given = sizes.iter().filter(|(_, size)| size.is_some()).count();
    for (name, size) in sizes {
        match size {
            Some(_) if spec.preset.is_some() => problems.push(
                Problem::new(name, "preset already sets the sizes")
                    .depends_on("preset")
                    .hint("keep either preset or the three sizes"),
            ),
            None if given > 0 && spec.preset.is_none() => {
                problems.push(Problem::new("", format!("{name} is missing: layers, width and heads go together")));
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

#[cfg(test)]
mod tests {
    use super::{Gpt2Config, Precision, Spec};

    /// The memory of the null driver's GPU.
    const CAPACITY: u64 = 143_771 << 20;

    fn spec(batch: u64, precision: Precision) -> Spec {
        let settings = serde_json::json!({ "batch": batch, "steps": 1, "learning_rate": 1e-3, "precision": precision });
        serde_json::from_value(settings).unwrap()
    }

    fn config([layers, width, heads, vocabulary, positions]: [usize; 5]) -> Gpt2Config {
        Gpt2Config { vocabulary, positions, width, layers, heads, end_of_text: None }
    }

    const SMALL: [usize; 5] = [12, 768, 12, 32_768, 1024];
    const XL: [usize; 5] = [48, 1600, 25, 32_768, 1024];

    /// The memory that CubeCL reserved for two steps with the null driver, in bytes (`gpu memory`).
    #[test]
    fn the_estimate_for_a_gpu_is_within_a_tenth_of_what_is_reserved() {
        let (tiny, medium) = ([4, 256, 4, 4096, 256], [24, 1024, 16, 50_257, 1024]);
        let (f32, bf16) = (Precision::F32, Precision::Bf16);
        for (sizes, batch, precision, reserved) in [
            (SMALL, 1, f32, 2_991_024_128_u64),
            (SMALL, 4, f32, 6_209_103_872),
            (SMALL, 12, f32, 12_642_117_632),
            (SMALL, 64, f32, 53_433_821_184),
            (XL, 1, f32, 34_897_556_480),
            (XL, 4, f32, 51_066_598_400),
            (XL, 16, f32, 126_772_737_024),
            (tiny, 16, f32, 539_285_504),
            (medium, 8, f32, 24_114_671_616),
            (SMALL, 1, bf16, 2_690_082_816),
            (SMALL, 4, bf16, 4_601_636_864),
            (SMALL, 12, bf16, 9_431_377_920),
            (SMALL, 64, bf16, 31_173_601_280),
            (XL, 1, bf16, 33_363_489_792),
            (XL, 4, bf16, 44_986_954_752),
            (XL, 16, bf16, 88_065_602_560),
            (tiny, 16, bf16, 339_007_488),
            (medium, 8, bf16, 17_571_557_376),
        ] {
            let estimate = spec(batch, precision).gpu_memory(&config(sizes), sizes[4], CAPACITY);
            let ratio = estimate as f64 / reserved as f64;
            assert!((0.9..1.1).contains(&ratio), "{sizes:?}, {batch} sequences, {precision:?}: {estimate}, {ratio}");
        }
    }

    #[test]
    fn a_training_that_does_not_fit_into_a_gpu_is_refused_with_a_batch_that_does() {
        let capacity = 80 << 30;
        let xl = config(XL);
        let error = spec(16, Precision::F32).check_gpu_memory(&xl, 1024, capacity).unwrap_err().to_string();
        assert!(error.contains("about 124.0 GiB") && error.contains("80.0 GiB"), "{error}");
        let hint = format!("{:?}", spec(16, Precision::F32).check_gpu_memory(&xl, 1024, capacity).unwrap_err());
        assert!(hint.contains("lower batch to 7"), "{hint}");
        spec(10, Precision::F32).check_gpu_memory(&xl, 1024, capacity).unwrap();
        assert!(spec(11, Precision::F32).check_gpu_memory(&xl, 1024, capacity).is_err());
        let hint = format!("{:?}", spec(1, Precision::Bf16).check_gpu_memory(&xl, 1024, 16 << 30).unwrap_err());
        assert!(hint.contains("a smaller model"), "{hint}");
        // Settings at their limits neither overflow nor take long.
        spec(1 << 20, Precision::F32)
            .check_gpu_memory(&config([1024, 65_535, 1, 1 << 31, 1 << 40]), 1 << 40, capacity)
            .unwrap_err();
    }
}
