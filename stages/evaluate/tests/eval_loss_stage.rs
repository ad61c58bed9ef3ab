//! The stage kind `eval-loss`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use contract::error::Failure;
use contract::harness::Harness;
use contract::{InputTree, StageError};
use evaluate::EvalLoss;
use evaluate::sums::{Nats, Prediction};
use evaluate::tally::Tally;
use model::Gpt2;
use serde_json::{Value, json};
use support::{END, SIZES, gpt2, model_tree, not_finite, random_gpt2, tokenizer_tree, tokens_tree, tree};
use tempfile::TempDir;

/// Ids that a model can read, from a formula.
fn sequences(count: usize, length: usize) -> Vec<Vec<u32>> {
    let id = |at: usize| if at % 11 == 7 { END } else { (at * at + 3 * at) as u32 % 256 };
    (0..count).map(|sequence| (0..length).map(|at| id(sequence * length + at)).collect()).collect()
}

struct Fixture {
    harness: Harness,
    folder: TempDir,
}

impl Fixture {
    fn new(model: &Gpt2, sequences: &[Vec<u32>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut harness = Harness::new(folder.path());
        harness
            .connect("model", &model_tree(&folder.path().join("model"), &SIZES, model))
            .connect("tokens", &tokens_tree(&folder.path().join("tokens"), 257, sequences))
            .connect("tokenizer", &tokenizer_tree(&folder.path().join("tokenizer"), 0));
        Self { harness, folder }
    }

    fn tree(&mut self, settings: Value) -> InputTree {
        self.harness.run::<EvalLoss>(settings).unwrap().remove("report").unwrap()
    }

    fn report(&mut self, settings: Value) -> Value {
        let tree = self.tree(settings);
        let text = std::fs::read(&tree.required("report.json").unwrap().location).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn failure(&mut self, settings: Value) -> Failure {
        match self.harness.run::<EvalLoss>(settings) {
            Err(StageError::Failed(failure)) => *failure,
            other => panic!("{other:?}"),
        }
    }
}

/// The loss of each predicted token by the plain forward pass of its sequence alone, in `f64`.
fn plain_losses(model: &Gpt2, ids: &[u32]) -> Vec<f64> {
    let data = TensorData::new(ids.iter().map(|&id| id as i32).collect::<Vec<_>>(), [1, ids.len()]);
    let logits = model.forward(Tensor::<2, Int>::from_data(data, &Device::flex()));
    let logits = logits.into_data().try_to_vec::<f32>().unwrap();
    let loss = |(row, target): (&[f32], &u32)| {
        let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
        sum.ln() - f64::from(row[*target as usize])
    };
    logits.chunks(SIZES.vocabulary).zip(&ids[1..]).map(loss).collect()
}

fn assert_close(found: &Value, expected: f64) {
    let found = found.as_f64().unwrap();
    assert!((found - expected).abs() < 1e-5 * expected.abs().max(1.0), "{found} is not {expected}");
}

#[test]
fn the_measures_are_those_of_the_plain_forward_pass() {
    let (model, sequences) = (random_gpt2(1), sequences(5, 32));
    let losses: Vec<Vec<f64>> = sequences.iter().map(|ids| plain_losses(&model, ids)).collect();
    let all: Vec<f64> = losses.concat();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let targets: Vec<u32> = sequences.iter().flat_map(|ids| ids[1..].to_vec()).collect();
    let text: Vec<f64> = all.iter().zip(&targets).filter(|(_, id)| **id != END).map(|(loss, _)| *loss).collect();
    // Each text token of this tokenizer is one byte.
    let bits = text.iter().sum::<f64>() / std::f64::consts::LN_2 / text.len() as f64;
    let means: Vec<f64> = losses.iter().map(|losses| losses.iter().sum::<f64>() / 31.0).collect();
    let variance = means.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / 4.0;

    let report = Fixture::new(&model, &sequences).report(json!({}));
    assert_close(&report["loss"], mean);
    assert_close(&report["perplexity"], mean.exp());
    assert_close(&report["bits_per_byte"], bits);
    assert_close(&report["standard_error"], (variance / 5.0).sqrt());
    assert_eq!(report["tokens"], 5 * 31);
    assert_eq!(report["text_tokens"], text.len());
    assert!(text.len() < 5 * 31, "some targets are the end of a text");
    assert_eq!((&report["sequences"], &report["sequences_in_all"]), (&json!(5), &json!(5)));
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

#[test]
fn the_loss_is_that_of_transformers() {
    let Some(parity) = shared("parity") else { return };
    for name in ["tiny", "accumulate", "wide"] {
        let folder = parity.join(name);
        let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
        let reference: Value = serde_json::from_slice(&read("reference.json")).unwrap();
        let bytes = read("batches.safetensors");
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let ids = file.tensor("ids").unwrap();
        let (batch, length) = (ids.shape()[1], ids.shape()[2]);
        let first: Vec<u32> =
            ids.data().as_chunks::<8>().0[..batch * length].iter().map(|id| i64::from_le_bytes(*id) as u32).collect();
        let sequences: Vec<Vec<u32>> = first.chunks(length).map(<[u32]>::to_vec).collect();
        let vocabulary = reference["settings"]["vocab"].as_u64().unwrap() as u32;

        let mut fixture = Fixture::new(&random_gpt2(1), &[]);
        let below = fixture.folder.path().join(name);
        let copy = |output: &contract::OutputTree| {
            for file in ["config.json", "model.safetensors"] {
                output.write(file, &read(file)).unwrap();
            }
        };
        fixture
            .harness
            .connect("model", &tree(&below.join("model"), copy))
            .connect("tokens", &tokens_tree(&below.join("tokens"), vocabulary, &sequences))
            .connect("tokenizer", &tokenizer_tree(&below.join("tokenizer"), vocabulary - END - 1));
        let found = fixture.report(json!({ "batch": 3 }))["loss"].as_f64().unwrap();
        let expected = reference["loss"].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-4, "{name}: {found} is not {expected}");
    }
}

#[test]
fn a_model_that_knows_nothing_has_the_loss_of_a_uniform_choice() {
    let model = gpt2(&SIZES, |tensor| vec![0.0; tensor.size()]);
    let report = Fixture::new(&model, &sequences(3, 16)).report(json!({}));
    assert_close(&report["loss"], 257f64.ln());
    assert_close(&report["perplexity"], 257.0);
    assert_close(&report["bits_per_byte"], 257f64.log2());
}

#[test]
fn a_batch_of_another_size_gives_the_same_measures() {
    let mut fixture = Fixture::new(&random_gpt2(2), &sequences(7, 24));
    let one = fixture.report(json!({ "batch": 1 }));
    for batch in [2, 7, 100] {
        let other = fixture.report(json!({ "batch": batch }));
        for measure in ["loss", "perplexity", "bits_per_byte", "standard_error"] {
            assert_close(&other[measure], one[measure].as_f64().unwrap());
        }
    }
}

#[test]
fn equal_inputs_give_equal_bytes_for_any_number_of_threads() {
    let mut fixture = Fixture::new(&random_gpt2(2), &sequences(7, 24));
    let two = fixture.tree(json!({}));
    fixture.harness.resources.threads = 1;
    assert_eq!(fixture.tree(json!({})).digest, two.digest);
}

#[test]
fn a_cap_takes_the_first_sequences() {
    let (model, sequences) = (random_gpt2(3), sequences(6, 16));
    let capped = Fixture::new(&model, &sequences).report(json!({ "sequences": 2 }));
    let first = Fixture::new(&model, &sequences[..2]).report(json!({}));
    assert_eq!(capped["loss"], first["loss"]);
    assert_eq!((&capped["sequences"], &capped["sequences_in_all"]), (&json!(2), &json!(6)));
    let beyond = Fixture::new(&model, &sequences).report(json!({ "sequences": 100 }));
    assert_eq!(beyond["sequences"], 6);
}

#[test]
fn a_single_sequence_has_no_standard_error_and_text_that_ends_no_bits_per_byte() {
    let report = Fixture::new(&random_gpt2(3), &[vec![1, END, END]]).report(json!({}));
    assert_eq!((&report["standard_error"], &report["bits_per_byte"]), (&Value::Null, &Value::Null));
    assert_eq!(report["tokens"], 2);
}

#[test]
fn the_report_for_people_says_what_was_measured() {
    let model = gpt2(&SIZES, |tensor| vec![0.0; tensor.size()]);
    let mut fixture = Fixture::new(&model, &[vec![1, 2, 3, END], vec![4, 5, 6, 7], vec![1, 2, 3, 4]]);
    let tree = fixture.tree(json!({ "sequences": 2 }));
    let text = std::fs::read_to_string(&tree.required("report.md").unwrap().location).unwrap();
    assert_eq!(
        text,
        "# Loss\n\n\
         | measure | value |\n\
         |---|---|\n\
         | loss (nats a token) | 5.5491 |\n\
         | standard error | 0.0000 |\n\
         | perplexity | 257.0000 |\n\
         | bits per byte | 8.0056 |\n\
         | sequences | the first 2 of 3, 4 tokens each |\n\
         | tokens predicted | 6 |\n\
         | of these, text | 5, 5 bytes |\n\n\
         ## By position in the sequence\n\n\
         | tokens before it | tokens | loss | perplexity | bits per byte |\n\
         |---|---:|---:|---:|---:|\n\
         | 1 | 2 | 5.5491 | 257.0000 | 8.0056 |\n\
         | 2 to 3 | 4 | 5.5491 | 257.0000 | 8.0056 |\n"
    );
}

#[test]
fn inputs_that_do_not_fit_are_errors_with_a_hint() {
    let model = random_gpt2(1);
    let message = |fixture: &mut Fixture| {
        let failure = fixture.failure(json!({}));
        assert!(failure.hint.is_some(), "{failure}");
        failure.message
    };
    let mut fixture = Fixture::new(&model, &sequences(2, 97));
    assert_eq!(message(&mut fixture), "the sequences have 97 tokens, but the model reads at most 96");
    let mut fixture = Fixture::new(&model, &[]);
    assert_eq!(message(&mut fixture), "there is nothing to predict: 0 sequences of 8 tokens");
    let mut fixture = Fixture::new(&model, &[vec![1], vec![2]]);
    assert_eq!(message(&mut fixture), "there is nothing to predict: 2 sequences of 1 token");
    let mut fixture = Fixture::new(&model, &sequences(2, 8));
    let larger = tokenizer_tree(&fixture.folder.path().join("larger"), 3);
    fixture.harness.connect("tokenizer", &larger);
    assert_eq!(
        message(&mut fixture),
        "the tokens were packed with another tokenizer: 257 ids, end-of-text 256, but this one has 260 ids, \
         end-of-text 256"
    );
    let tokens = tokens_tree(&fixture.folder.path().join("more"), 260, &sequences(2, 8));
    fixture.harness.connect("tokens", &tokens);
    assert_eq!(message(&mut fixture), "the tokens have 260 ids, but the model's vocabulary has 257");
}

#[test]
fn a_model_that_leaves_the_range_of_numbers_is_an_error() {
    let model = gpt2(&SIZES, |tensor| vec![f32::MAX; tensor.size()]);
    let failure = Fixture::new(&model, &sequences(2, 8)).failure(json!({}));
    assert_eq!(failure.message, "the loss of sequence 0 is not a finite number");
}

#[test]
fn it_stops_when_it_is_asked_to() {
    let mut fixture = Fixture::new(&random_gpt2(1), &sequences(2, 8));
    fixture.harness.cancel.set();
    assert!(matches!(fixture.harness.run::<EvalLoss>(json!({})), Err(StageError::Interrupted)));
}

#[test]
fn a_token_of_several_bytes_counts_them_all() {
    let mut tally = Tally::default();
    let prediction = |(loss, bytes)| Prediction { loss: Nats::of(loss).unwrap(), bytes };
    tally.add(&[(2.0, Some(4)), (1.0, Some(2)), (9.0, None)].map(prediction));
    let report = tally.report(4, 1, Vec::new()).measures;
    assert_eq!(report.loss, 4.0);
    assert_eq!(report.bits_per_byte, Some(3.0 / (std::f64::consts::LN_2 * 6.0)));
    assert_eq!((report.text_tokens, report.text_bytes, report.tokens), (2, 6, 3));
}

#[test]
fn a_model_that_is_not_finite_is_refused_before_it_reads_a_token() {
    let mut fixture = Fixture::new(&random_gpt2(1), &sequences(2, 16));
    let place = fixture.folder.path().join("not-finite");
    let model = not_finite(fixture.harness.inputs["model"].clone(), &place);
    fixture.harness.connect("model", &model);
    let failure = fixture.failure(json!({}));
    assert_eq!(failure.message, "tensor 'transformer.ln_f.bias' is not finite: it contains NaN");
    assert!(failure.hint.unwrap().contains("lower learning_rate"));
    assert_eq!(fixture.harness.progress.sample().done, 0);
}
