//! Generation with a key-value cache against the plain forward pass, and the choice of tokens.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use contract::{Cancel, Draw, Progress, StageError};
use model::folder::ModelFolder;
use model::generate::{Cache, Completion, End, Generation, Generator, Request, Sampling, Stops, decode};
use model::initial::initial_values;
use model::{Gpt2, Gpt2Config};
use proptest::prelude::*;

const SIZES: Gpt2Config =
    Gpt2Config { vocabulary: 37, positions: 24, width: 16, layers: 2, heads: 4, end_of_text: Some(36) };

/// A small model whose logits are far apart.
fn random_model(seed: u64) -> Gpt2 {
    let sharp = |value: f32| value * 12.0;
    let Ok(model) = Gpt2::new(&SIZES, &Device::flex(), |tensor| {
        let values = initial_values(&SIZES, seed, tensor);
        let scale = tensor.decays() && tensor.name != "wte.weight";
        Ok::<_, std::convert::Infallible>(if scale { values.into_iter().map(sharp).collect() } else { values })
    });
    model
}

/// The logits of the token after `ids`, without a cache and alone.
fn plain_logits(model: &Gpt2, ids: &[u32]) -> Vec<f32> {
    let data = TensorData::new(ids.iter().map(|&id| id as i32).collect::<Vec<_>>(), [1, ids.len()]);
    let logits = model.forward(Tensor::<2, Int>::from_data(data, &Device::flex()));
    let all = logits.into_data().try_to_vec::<f32>().unwrap();
    all[(ids.len() - 1) * all.len() / ids.len()..].to_vec()
}

fn assert_close(cached: &[f32], plain: &[f32]) {
    let difference = cached.iter().zip(plain).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(cached.len() == plain.len() && difference < 1e-4, "greatest difference {difference:e}");
}

/// All that `generate` takes, with a use for each test.
struct Setup {
    sampling: Sampling,
    completions: usize,
    batch: usize,
    stops: Vec<&'static str>,
    seed: u64,
    cancel: Cancel,
}

impl Default for Setup {
    fn default() -> Self {
        let sampling = Sampling { temperature: 1.0, top_p: 0.95, top_k: 0 };
        Self { sampling, completions: 3, batch: 100, stops: Vec::new(), seed: 1, cancel: Cancel::default() }
    }
}

/// In these tests an id is the letter of its number.
const LETTERS: &[u8; 37] = b"abcdefghijklmnopqrstuvwxyz0123456789.";

impl Setup {
    fn run(&self, model: &Gpt2, requests: &[Request]) -> contract::Result<Vec<Vec<Completion>>> {
        let generation = Generation {
            sampling: self.sampling,
            completions: self.completions,
            batch: self.batch,
            end_of_text: SIZES.end_of_text,
            stops: &Stops::new(self.stops.iter().copied()),
            bytes: &|id| &LETTERS[id as usize..][..1],
            draw: &Draw::new(self.seed, "test"),
            cancel: &self.cancel,
            progress: &Progress::default(),
        };
        Generator::new(SIZES, model.clone())?.complete(requests, &generation)
    }
}

fn requests(maximum: usize) -> Vec<Request> {
    [&[1, 2, 3][..], &[4], &[5, 6, 7, 8, 9, 10, 11], &[12, 13, 14]]
        .map(|prompt| Request { prompt: prompt.to_vec(), maximum })
        .into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn cached_logits_are_those_of_the_plain_forward_pass_alone(
        seed in 0u64..1000,
        prompts in prop::collection::vec((prop::collection::vec(0u32..37, 1..12), 1usize..3), 1..5),
        steps in prop::collection::vec((prop::collection::vec(0u32..37, 8), prop::bits::u8::ANY), 1..8),
    ) {
        let model = random_model(seed);
        let mut rows: Vec<Vec<u32>> = Vec::new();
        let mut caches = Vec::new();
        for (prompt, repeats) in &prompts {
            let (cache, logits) = decode::read_prompt(&model, prompt);
            assert_close(&logits.into_data().try_to_vec::<f32>().unwrap(), &plain_logits(&model, prompt));
            caches.push((cache, *repeats));
            rows.extend(vec![prompt.clone(); *repeats]);
        }
        let mut cache = Cache::join(&caches, steps.len());
        for (ids, left) in &steps {
            rows.iter_mut().zip(ids).for_each(|(row, id)| row.push(*id));
            let logits = decode::step(&model, &mut cache, &ids[..rows.len()]).into_data().try_to_vec::<f32>().unwrap();
            for (row, logits) in rows.iter().zip(logits.chunks(SIZES.vocabulary)) {
                assert_close(logits, &plain_logits(&model, row));
            }
            let left: Vec<usize> = (0..rows.len()).filter(|row| left >> row & 1 == 1 || *row == 0).collect();
            cache.keep(&left);
            rows = left.iter().map(|&row| rows[row].clone()).collect();
            prop_assert!(rows.iter().enumerate().all(|(number, row)| cache.tokens(number) == row.len()));
        }
    }

    #[test]
    fn the_nucleus_is_the_smallest_set_that_reaches_its_probability(
        weights in prop::collection::vec(0u8..20, 2..40), top_p in 0.05f64..1.0, unit in 0.0f64..1.0,
    ) {
        let logits: Vec<f32> = weights.iter().map(|&weight| f32::from(weight) / 4.0).collect();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        let probability = |id: &usize| f64::from(logits[*id]).exp();
        let total: f64 = order.iter().map(probability).sum();
        let mut sum = 0.0;
        // One token of slack, because sums of different order may round to either side.
        let nucleus = order.iter().take_while(|id| { let inside = sum < top_p * total * (1.0 + 1e-12); sum += probability(id); inside });
        let nucleus: Vec<u32> = nucleus.map(|&id| id as u32).collect();
        let chosen = Sampling { temperature: 1.0, top_p, top_k: 0 }.choose(&logits, unit).unwrap();
        prop_assert!(nucleus.contains(&chosen));
        let last = Sampling { temperature: 1.0, top_p, top_k: 0 }.choose(&logits, 1.0 - f64::EPSILON / 2.0).unwrap();
        let place = nucleus.iter().position(|&id| id == last).unwrap();
        prop_assert!(place + 2 >= nucleus.len(), "the nucleus has {} tokens, the last drawn is {place}", nucleus.len());
    }
}

#[test]
fn greedy_text_is_that_of_transformers() {
    let Some(parity) = shared("parity") else { return };
    for name in ["tiny", "accumulate", "wide"] {
        let folder = parity.join(name);
        let (config, model) = ModelFolder::at(&folder).load(&Device::flex()).unwrap();
        let reference: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("reference.json")).unwrap()).unwrap();
        let greedy: Vec<u32> = serde_json::from_value(reference["greedy"].clone()).unwrap();
        let prompt = first_ids(&folder, 8);
        let generation = Generation {
            sampling: Sampling::GREEDY,
            completions: 2,
            batch: 3,
            end_of_text: None,
            stops: &Stops::default(),
            bytes: &|_| b"",
            draw: &Draw::new(1, "test"),
            cancel: &Cancel::default(),
            progress: &Progress::default(),
        };
        // Beside a shorter prompt, so that the rows have padding.
        let other = Request { prompt: prompt[..3].to_vec(), maximum: 20 };
        let requests = [other.clone(), Request { prompt, maximum: config.positions }, other];
        let completions = Generator::new(config, model).unwrap().complete(&requests, &generation).unwrap();
        for completion in &completions[1] {
            assert_eq!(completion.tokens, greedy, "{name}");
            assert_eq!(completion.end, End::Maximum);
        }
    }
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

/// The first ids of the first sequence of `batches.safetensors`.
fn first_ids(folder: &Path, count: usize) -> Vec<u32> {
    let bytes = std::fs::read(folder.join("batches.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let ids = file.tensor("ids").unwrap();
    ids.data().as_chunks::<8>().0[..count].iter().map(|id| i64::from_le_bytes(*id) as u32).collect()
}

#[test]
fn a_completion_does_not_depend_on_its_batch() {
    let model = random_model(3);
    let together = Setup::default().run(&model, &requests(20)).unwrap();
    assert!(together.iter().flatten().any(|completion| completion.tokens.len() > 5));
    for batch in [1, 2, 5] {
        assert_eq!(Setup { batch, ..Setup::default() }.run(&model, &requests(20)).unwrap(), together, "batch {batch}");
    }
    let alone = Setup::default().run(&model, &requests(20)[..1]).unwrap();
    assert_eq!(alone[0], together[0]);
    let fewer = Setup { completions: 1, ..Setup::default() }.run(&model, &requests(20)).unwrap();
    assert!(fewer.iter().zip(&together).all(|(fewer, together)| fewer[0] == together[0]));
}

#[test]
fn another_seed_gives_other_completions_and_the_same_seed_the_same() {
    let model = random_model(3);
    let completions = |seed| Setup { seed, ..Setup::default() }.run(&model, &requests(20)).unwrap();
    assert_eq!(completions(1), completions(1));
    assert_ne!(completions(1), completions(2));
    let of_one = &completions(1)[0];
    assert!(of_one.windows(2).any(|pair| pair[0] != pair[1]), "the completions of one prompt differ");
}

#[test]
fn a_completion_ends_at_its_length_the_models_length_or_has_no_room() {
    let model = random_model(4);
    let setup = Setup { sampling: Sampling::GREEDY, completions: 1, ..Setup::default() };
    let ends = |maximum| -> Vec<(usize, End)> {
        let completions = setup.run(&model, &requests(maximum)).unwrap();
        let last = |mut all: Vec<Completion>| all.pop().map(|one| (one.tokens.len(), one.end)).unwrap();
        completions.into_iter().map(last).collect()
    };
    let lengths = [3, 1, 7, 3];
    for (end, length) in ends(7).into_iter().zip(lengths) {
        let expected = if length == 7 { (0, End::NoRoom) } else { (7 - length, End::Maximum) };
        assert!(end == expected || end.1 == End::EndOfText, "{end:?}");
    }
    for (end, length) in ends(1000).into_iter().zip(lengths) {
        assert!(end == (24 - length, End::Positions) || end.1 == End::EndOfText, "{end:?}");
    }
}

#[test]
fn a_completion_ends_with_the_token_that_completes_a_stop_text() {
    let model = random_model(3);
    let text = |completion: &Completion| -> String {
        completion.tokens.iter().map(|&id| char::from(LETTERS[id as usize])).collect()
    };
    let free = Setup::default().run(&model, &requests(20)).unwrap();
    let longest = free.iter().flatten().max_by_key(|completion| completion.tokens.len()).unwrap();
    let stop: &'static str = String::leak(text(longest)[3..5].to_owned());
    let stopped = Setup { stops: vec![stop, "not there"], ..Setup::default() }.run(&model, &requests(20)).unwrap();
    let mut stops = 0;
    for (free, stopped) in free.iter().flatten().zip(stopped.iter().flatten()) {
        match text(free).find(stop) {
            Some(at) => {
                assert_eq!((text(stopped).as_str(), stopped.end), (&text(free)[..at + stop.len()], End::Stop));
                stops += 1;
            }
            None => assert_eq!(stopped, free),
        }
    }
    assert!(stops > 0);
}

#[test]
fn the_end_of_text_is_not_part_of_a_completion() {
    // The head prefers the end-of-text token after whatever it reads.
    let Ok(model) = Gpt2::new(&SIZES, &Device::flex(), |tensor| {
        let mut values = vec![0.0; tensor.size()];
        match tensor.name.as_str() {
            "wte.weight" => values[36 * SIZES.width..].fill(1.0),
            "ln_f.bias" => values.fill(1.0),
            _ => {}
        }
        Ok::<_, std::convert::Infallible>(values)
    });
    let completions = Setup { sampling: Sampling::GREEDY, ..Setup::default() }.run(&model, &requests(20)).unwrap();
    let ended = Completion { tokens: Vec::new(), end: End::EndOfText };
    assert!(completions.iter().flatten().all(|completion| *completion == ended));
}

#[test]
fn logits_that_are_no_numbers_are_an_error_with_a_hint() {
    let Ok(model) =
        Gpt2::new(&SIZES, &Device::flex(), |tensor| Ok::<_, std::convert::Infallible>(vec![f32::NAN; tensor.size()]));
    let error = Setup::default().run(&model, &requests(20)).unwrap_err();
    let StageError::Failed(failure) = error else { panic!("{error}") };
    assert_eq!(failure.message, "the model's logits at position 3 of prompt 1 are not finite");
    assert!(failure.hint.is_some());
}

#[test]
fn prompts_that_a_model_cannot_read_are_errors() {
    let model = random_model(1);
    let run = |prompt: &[u32]| {
        let requests = [Request { prompt: prompt.to_vec(), maximum: 10 }];
        Setup::default().run(&model, &requests).unwrap_err().to_string()
    };
    assert_eq!(run(&[]), "prompt 1 has no tokens");
    assert_eq!(run(&[1, 37]), "prompt 1 has the id 37, but the model's vocabulary has 37 ids");
}

#[test]
fn generation_stops_when_it_is_asked_to() {
    let setup = Setup::default();
    setup.cancel.set();
    assert!(matches!(setup.run(&random_model(1), &requests(20)), Err(StageError::Interrupted)));
}

#[test]
fn equal_logits_go_to_the_lower_id() {
    let logits = [1.0, 3.0, 3.0, 0.0];
    assert_eq!(Sampling::GREEDY.choose(&logits, 0.9), Some(1));
    let first = Sampling { temperature: 1.0, top_p: 1.0, top_k: 1 };
    assert_eq!(first.choose(&logits, 0.9), Some(1));
    let nucleus = Sampling { temperature: 1.0, top_p: 0.3, top_k: 0 };
    assert_eq!(nucleus.choose(&logits, 0.9), Some(1));
}

#[test]
fn tokens_are_drawn_in_proportion_to_their_probability() {
    let logits = [2.0f32, 1.0, 0.0, -1.0];
    let sampling = Sampling { temperature: 0.5, top_p: 1.0, top_k: 3 };
    let mut counts = [0u32; 4];
    let draws = 20_000;
    for draw in 0..draws {
        counts[sampling.choose(&logits, f64::from(draw) / f64::from(draws)).unwrap() as usize] += 1;
    }
    let weights = [4.0f64, 2.0, 0.0].map(f64::exp);
    let total: f64 = weights.iter().sum();
    for (count, weight) in counts.iter().zip(weights) {
        let expected = f64::from(draws) * weight / total;
        assert!((f64::from(*count) - expected).abs() <= 1.0, "{counts:?}");
    }
    assert_eq!(counts[3], 0, "top_k keeps three");
}

#[test]
fn a_completion_is_cut_before_the_first_stop_text() {
    let stops = Stops::new(["\ndef", "\n#", ""]);
    assert_eq!(stops.cut(b"    return 1\n# next\ndef f"), b"    return 1");
    assert_eq!(stops.cut(b"# no line before"), b"# no line before");
    assert!(stops.ends(b"x\ndef", 1) && stops.ends(b"x\ndef f", 3));
    assert!(!stops.ends(b"x\ndef f", 2), "the text was complete before the newest bytes");
}
