//! The forward pass of generation on the CPU: against the plain forward pass, itself without a cache, and transformers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use contract::{Cancel, Draw, Progress};
use model::folder::{self, ModelFolder};
use model::generate::cpu::CpuModel;
use model::generate::{Generation, Generator, Request, Sampling, Stops};
use model::initial::initial_values;
use model::{Gpt2, Gpt2Config};
use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

/// A head is wider than a panel and not a multiple of it, and so is the vocabulary.
const SIZES: Gpt2Config =
    Gpt2Config { vocabulary: 53, positions: 48, width: 40, layers: 2, heads: 2, end_of_text: None };

/// A small model whose logits are far apart.
fn random_model(seed: u64) -> Gpt2 {
    let sharp = |value: f32| value * 8.0;
    let Ok(model) = Gpt2::new(&SIZES, &Device::flex(), |tensor| {
        let values = initial_values(&SIZES, seed, tensor);
        let scale = tensor.decays() && tensor.name != "wte.weight";
        Ok::<_, Infallible>(if scale { values.into_iter().map(sharp).collect() } else { values })
    });
    model
}

/// The logits after each token of `ids`, by the plain forward pass, each `vocabulary`.
fn plain_logits(model: &Gpt2, ids: &[u32], vocabulary: usize) -> Vec<Vec<f32>> {
    let data = TensorData::new(ids.iter().map(|&id| id as i32).collect::<Vec<_>>(), [1, ids.len()]);
    let logits = model.forward(Tensor::<2, Int>::from_data(data, &Device::flex()));
    logits.into_data().try_to_vec::<f32>().unwrap().chunks(vocabulary).map(<[f32]>::to_vec).collect()
}

fn greatest_difference(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max)
}

/// The logits after the last token of a text, all of it read as a prompt.
fn without_cache(model: &CpuModel, ids: &[u32]) -> Vec<f32> {
    model.read_prompt(ids, &Cancel::default()).unwrap().1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn logits_with_and_without_a_cache_have_equal_bits_in_any_batch(
        seed in 0u64..1000,
        prompts in prop::collection::vec((prop::collection::vec(0u32..53, 1..24), 1usize..4), 1..6),
        steps in prop::collection::vec(prop::collection::vec(0u32..53, 15), 1..20),
        threads in 1usize..4,
    ) {
        let plain = random_model(seed);
        let model = CpuModel::new(&SIZES, plain.clone()).unwrap();
        let cancel = Cancel::default();
        ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let (mut texts, mut rows) = (Vec::new(), Vec::new());
            for (prompt, repeats) in &prompts {
                let (segment, logits) = model.read_prompt(prompt, &cancel).unwrap();
                let expected = plain_logits(&plain, prompt, SIZES.vocabulary).pop().unwrap();
                assert!(greatest_difference(&logits, &expected) < 1e-4);
                for _ in 0..*repeats {
                    rows.push(model.continuation(&segment, steps.len()));
                    texts.push(prompt.clone());
                }
            }
            for ids in &steps {
                texts.iter_mut().zip(ids).for_each(|(text, id)| text.push(*id));
                let logits = model.step(&mut rows, &ids[..texts.len()], &cancel).unwrap();
                for (text, logits) in texts.iter().zip(logits.chunks(SIZES.vocabulary)) {
                    assert_eq!(logits, without_cache(&model, text));
                }
            }
            for (text, row) in texts.iter().zip(&rows) {
                assert_eq!(row.tokens(), text.len());
                let expected = plain_logits(&plain, text, SIZES.vocabulary).pop().unwrap();
                assert!(greatest_difference(&without_cache(&model, text), &expected) < 1e-4);
            }
        });
    }
}

#[test]
fn the_logits_of_transformers_are_matched_with_and_without_a_cache() {
    let Some(parity) = shared("parity") else { return };
    for name in ["tiny", "accumulate", "wide"] {
        let folder = parity.join(name);
        let (config, plain) = ModelFolder::at(&folder).load(&Device::flex()).unwrap();
        let ids: Vec<u32> = tensor(&folder, "batches.safetensors", "ids", |id| i64::from_le_bytes(id) as u32);
        let recorded: Vec<f32> = tensor(&folder, "logits.safetensors", "logits", f32::from_le_bytes);
        let ids = &ids[..recorded.len() / config.vocabulary];
        let model = CpuModel::new(&config, plain).unwrap();
        let cancel = Cancel::default();
        let mut greatest = 0f32;
        let texts = ids.chunks(config.positions).zip(recorded.chunks(config.positions * config.vocabulary));
        for (text, recorded) in texts {
            let (segment, first) = model.read_prompt(&text[..1], &cancel).unwrap();
            let mut rows = [model.continuation(&segment, text.len() - 1)];
            let mut logits = first;
            for (place, recorded) in recorded.chunks(config.vocabulary).enumerate() {
                greatest = greatest.max(greatest_difference(&logits, recorded));
                // Reading the whole text again for each token takes a while: every seventh is compared.
                if place % 7 == 0 {
                    assert_eq!(logits, without_cache(&model, &text[..=place]), "{name} {place}");
                }
                if let Some(next) = text.get(place + 1) {
                    logits = model.step(&mut rows, &[*next], &cancel).unwrap();
                }
            }
        }
        println!("{name}: greatest difference {greatest:e}");
        assert!(greatest < 2e-5, "{name}: greatest difference {greatest:e}");
    }
}

/// The tokens that transformers 5.24.0 with torch 2.15.0 generates, greedily, with the model of [`random_model`] 7 after each of
/// [`RECORDED_PROMPTS`]. To record them again:
///
/// ```text
/// RECORD=DIR cargo test --release --workspace --test generate_cpu recorded
/// echo '{"prompts": [[PROMPT]], "new": 20}' | python3 benches/model/transformers_generation.py DIR 1
/// ```
const RECORDED: [[u32; 20]; 3] = [
    [37, 37, 5, 0, 25, 44, 47, 5, 28, 5, 10, 45, 5, 10, 28, 44, 5, 14, 5, 6],
    [37, 37, 37, 37, 5, 0, 16, 44, 37, 5, 28, 5, 10, 40, 5, 10, 28, 44, 5, 44],
    [28, 44, 5, 49, 28, 6, 5, 35, 5, 44, 37, 35, 45, 27, 35, 49, 19, 5, 0, 27],
];
const RECORDED_PROMPTS: [&[u32]; 3] = [&[1, 2, 3], &[52], &[10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 11, 22, 33, 44, 5, 17]];

#[test]
fn the_recorded_greedy_tokens_of_transformers_are_generated() {
    let model = random_model(7);
    if let Some(dir) = std::env::var_os("RECORD") {
        let dir = Path::new(&dir);
        std::fs::write(dir.join("config.json"), folder::config_json(&SIZES).to_string()).unwrap();
        let mut file = std::fs::File::create(dir.join("model.safetensors")).unwrap();
        folder::write_weights(&SIZES, &model, &mut file).unwrap();
    }
    let generation = Generation {
        sampling: Sampling::GREEDY,
        completions: 1,
        batch: 3,
        end_of_text: None,
        stops: &Stops::default(),
        bytes: &|_| b"",
        draw: &Draw::new(1, "test"),
        cancel: &Cancel::default(),
        progress: &Progress::default(),
    };
    let request = |prompt: &[u32]| Request { prompt: prompt.to_vec(), maximum: prompt.len() + 20 };
    let generator = Generator::new(SIZES, model).unwrap();
    let completions = generator.complete(&RECORDED_PROMPTS.map(request), &generation).unwrap();
    let tokens: Vec<_> = completions.iter().map(|completions| completions[0].tokens.clone()).collect();
    assert_eq!(tokens, RECORDED.map(Vec::from));
}

/// The values of a tensor of a file, each read from `N` bytes.
fn tensor<T, const N: usize>(folder: &Path, file: &str, name: &str, value: fn([u8; N]) -> T) -> Vec<T> {
    let bytes = std::fs::read(folder.join(file)).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(name).unwrap();
    tensor.data().as_chunks::<N>().0.iter().map(|bytes| value(*bytes)).collect()
}

/// A folder of reference data; `None`, with a reason, where there is none.
fn shared(folder: &str) -> Option<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("PIPELINE_SHARED").map_or(repository.join("../shared"), PathBuf::from).join(folder);
    if shared.is_dir() {
        return Some(shared);
    }
    eprintln!("skipped: there is no {} (set PIPELINE_SHARED)", shared.display());
    None
}
