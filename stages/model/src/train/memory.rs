//! The memory of a training, and the micro-batch that fits into it.
//!
//! | where | bytes |
//! |---|---|
//! | a parameter | 16 (value, gradient, two moments); 4 more if an update has several micro-batches |
//! | the CPU | `4 · sequences · length · (layers · (18 · width + heads) + 12 · width)` for the activations of one micro-batch, and 256 MiB for logits; with `bf16` or dropout of the attention `34 · width + 2 · heads · length` (5 with that dropout) a layer; 2 widths more with dropout of the residuals |
//! | a GPU | factors for each parameter, each feature of a layer for each token, the pairs of tokens ([`attention`]), and a chunk of logits ([`head`]), fitted to what CubeCL reserves (benches/gpu/check.sh, step `reserved`) |
//!
//! The default micro-batch of the CPU depends on settings and tokens alone, and not on these estimates or on the machine, because it
//! decides in which order gradients are summed: equal settings give equal bytes.

use contract::{Result, StageError};

use super::head;
use super::settings::Spec;
use crate::config::Gpt2Config;
use crate::fused::attention;
use crate::precision::Precision;

/// The maximum of sequences · length · layers · width in a default micro-batch on the CPU: about 2 GiB of activations.
const FEATURES: u64 = 1 << 24;

impl Spec {
    /// Returns the number of sequences of a micro-batch: the setting, or else what fits on a GPU with `capacity` bytes, or on the CPU.
    /// Of the sizes with the fewest passes it is the smallest, so that the last pass is about as large as the others.
    pub(super) fn sequences_a_pass(&self, config: &Gpt2Config, length: usize, capacity: Option<u64>) -> u64 {
        if let Some(micro_batch) = self.micro_batch {
            return micro_batch.min(self.batch);
        }
        let fitting = match capacity {
            Some(capacity) => self.fitting(config, length, capacity),
            None => {
                let sizes = [config.layers, config.width, length].map(|size| size as u64);
                (FEATURES / sizes.into_iter().fold(1, u64::saturating_mul).max(1)).min(self.batch)
            }
        };
        self.batch.div_ceil(self.batch.div_ceil(fitting.max(1)))
    }

    /// Returns the bytes of memory to train a model of these sizes on sequences of `length` tokens on the CPU.
    pub(super) fn memory(&self, config: &Gpt2Config, length: usize) -> u64 {
        let sequences = self.sequences_a_pass(config, length, None);
        let [layers, width, heads, length] =
            [config.layers, config.width, config.heads, length].map(|size| size as u64);
        let a_parameter = if sequences < self.batch { 20 } else { 16 };
        let dropped = if self.residual_dropout > 0.0 { 2 } else { 0 };
        let a_layer = match self.precision {
            Precision::F32 if self.attention_dropout == 0.0 => ((18 + dropped) * width).saturating_add(heads),
            _ => {
                let a_pair = if self.attention_dropout > 0.0 { 5 } else { 2 };
                ((34 + dropped) * width).saturating_add((a_pair * heads).saturating_mul(length))
            }
        };
        let a_token = a_layer.saturating_mul(layers).saturating_add(12 * width);
        let activations = length.saturating_mul(a_token).saturating_mul(4 * sequences);
        // The ids of all micro-batches of an update.
        let ids = length.saturating_mul(self.batch).saturating_mul(4);
        let model = (config.parameters() as u64).saturating_mul(a_parameter);
        [model, activations, ids, 256 << 20].into_iter().fold(0, u64::saturating_add)
    }

    /// Estimates within a tenth the bytes that a training in passes of `sequences` uses on a GPU with `capacity` bytes.
    fn gpu_memory(&self, config: &Gpt2Config, length: usize, sequences: u64, capacity: u64) -> u64 {
        let (a_parameter, a_feature) = match self.precision {
            Precision::F32 => (18, 82),
            Precision::Bf16 => (20, 42),
        };
        let a_feature = a_feature + if self.residual_dropout > 0.0 { 8 } else { 0 };
        // Scores, weights, factors and dropped weights of each layer.
        let a_pair = if self.attention_dropout > 0.0 { 16 } else { 0 };
        let a_parameter = a_parameter + if sequences < self.batch { 4 } else { 0 };
        let Gpt2Config { layers, width, heads, vocabulary, .. } = *config;
        let batch = usize::try_from(sequences).unwrap_or(usize::MAX);
        let product = |factors: &[usize]| factors.iter().fold(1u64, |all, factor| all.saturating_mul(*factor as u64));
        let chunk = attention::chunk([batch, heads, length], attention::PAIRS);
        let logits = head::chunk_of(batch.saturating_mul(length - 1), vocabulary, Some(capacity));
        [
            product(&[config.parameters(), a_parameter]),
            product(&[layers, width, batch, length, a_feature]),
            product(&[chunk, heads, length, length, 4]),
            product(&[layers, batch, heads, length, length, a_pair]),
            product(&[logits, vocabulary, 4]),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Returns the largest micro-batch whose estimate is within `capacity`, at most the batch; 0 if there is none.
    fn fitting(&self, config: &Gpt2Config, length: usize, capacity: u64) -> u64 {
        // The memory grows with the sequences of a pass, except that a single pass needs no sum of gradients.
        let fits = |sequences| self.gpu_memory(config, length, sequences, capacity) <= capacity;
        if fits(self.batch) {
            return self.batch;
        }
        let (mut fitting, mut excessive) = (0, self.batch);
        while excessive - fitting > 1 {
            let middle = fitting + (excessive - fitting) / 2;
            *if fits(middle) { &mut fitting } else { &mut excessive } = middle;
        }
        fitting
    }

    /// Rejects a training that clearly does not fit into a GPU with `capacity` bytes.
    ///
    /// # Errors
    /// Returns an error if the estimate is more than a tenth above the capacity.
    pub(super) fn check_gpu_memory(&self, config: &Gpt2Config, length: usize, capacity: u64) -> Result<()> {
        let sequences = self.sequences_a_pass(config, length, Some(capacity));
        let needs = self.gpu_memory(config, length, sequences, capacity);
        if needs <= capacity.saturating_add(capacity / 10) {
            return Ok(());
        }
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        let error = StageError::new(format!(
            "training needs about {:.1} GiB of the GPU's memory, which has {:.1} GiB",
            gib(needs),
            gib(capacity)
        ));
        Err(error.hint(match self.fitting(config, length, capacity) {
            0 => "use a GPU with more memory, a smaller model, or shorter sequences".to_owned(),
            fitting => format!("lower micro_batch to {fitting}, or leave it out; batch can stay"),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::{FEATURES, Gpt2Config, Precision, Spec};

    /// The memory of the null driver's GPU.
    const CAPACITY: u64 = 143_771 << 20;

    fn spec(batch: u64, micro_batch: impl Into<Option<u64>>, precision: Precision) -> Spec {
        let micro_batch = micro_batch.into();
        let settings = serde_json::json!({
            "batch": batch, "micro_batch": micro_batch, "steps": 1, "learning_rate": 1e-3, "precision": precision
        });
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
            let estimate = spec(batch, None, precision).gpu_memory(&config(sizes), sizes[4], batch, CAPACITY);
            let ratio = estimate as f64 / reserved as f64;
            assert!((0.9..1.1).contains(&ratio), "{sizes:?}, {batch} sequences, {precision:?}: {estimate}, {ratio}");
        }
    }

    #[test]
    fn a_training_that_does_not_fit_into_a_gpu_is_refused_with_a_micro_batch_that_does() {
        let capacity = 80 << 30;
        let xl = config(XL);
        let error = spec(16, 16, Precision::F32).check_gpu_memory(&xl, 1024, capacity).unwrap_err();
        let hint = format!("{error:?}");
        let error = error.to_string();
        assert!(error.contains("about 124.0 GiB") && error.contains("80.0 GiB"), "{error}");
        assert!(hint.contains("lower micro_batch to 7"), "{hint}");
        spec(10, 10, Precision::F32).check_gpu_memory(&xl, 1024, capacity).unwrap();
        assert!(spec(11, 11, Precision::F32).check_gpu_memory(&xl, 1024, capacity).is_err());
        let hint = format!("{:?}", spec(1, None, Precision::Bf16).check_gpu_memory(&xl, 1024, 16 << 30).unwrap_err());
        assert!(hint.contains("a smaller model"), "{hint}");
        // Settings at their limits neither overflow nor take long.
        spec(1 << 20, None, Precision::F32)
            .check_gpu_memory(&config([1024, 65_535, 1, 1 << 31, 1 << 40]), 1 << 40, capacity)
            .unwrap_err();
    }

    #[test]
    fn micro_batches_of_the_committed_manifests_fit_into_80_gigabytes() {
        for (sizes, batch, micro_batch) in [(SMALL, 192, 64), (XL, 512, 4)] {
            let spec = spec(batch, micro_batch, Precision::F32);
            let needs = spec.gpu_memory(&config(sizes), sizes[4], micro_batch, 80_000_000_000);
            assert!(needs < 76_000_000_000, "{sizes:?}: {needs}");
        }
    }

    #[test]
    fn by_default_the_fewest_equal_passes_that_fit_are_made() {
        let passes = |batch, sizes: [usize; 5], capacity| {
            spec(batch, None, Precision::F32).sequences_a_pass(&config(sizes), sizes[4], capacity)
        };
        // 8 layers of 2,048 tokens and 128 features: 2^21 features a sequence, so 8 sequences a pass.
        let sizes = [8, 128, 4, 1000, 2048];
        assert_eq!(FEATURES, 8 << 21);
        for (batch, expected) in [(1, 1), (7, 7), (8, 8), (9, 5), (16, 8), (17, 6), (20, 7)] {
            assert_eq!(passes(batch, sizes, None), expected, "{batch}");
        }
        assert_eq!(passes(5, XL, None), 1, "one sequence is beyond the limit");
        assert_eq!(passes(512, XL, Some(80 << 30)), 7);
        assert_eq!(passes(192, SMALL, Some(CAPACITY)), 96, "two passes of 96, not 160 and 32");
        assert_eq!(passes(3, XL, Some(1 << 30)), 1, "what fits nowhere is rejected later");
    }

    #[test]
    fn memory_grows_with_the_micro_batch_and_not_with_the_batch() {
        let memory = |batch, micro_batch| spec(batch, micro_batch, Precision::F32).memory(&config(SMALL), 1024);
        assert!(memory(8, 8) > 2 * memory(8, 1));
        assert!(memory(512, 1) < memory(8, 1) + (4 << 20));
    }
}
