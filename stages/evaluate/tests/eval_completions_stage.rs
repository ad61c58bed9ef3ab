//! The stage kind `eval-completions`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;

use contract::error::Failure;
use contract::harness::Harness;
use contract::{InputTree, Kind, Note, StageError};
use evaluate::EvalCompletions;
use model::{Gpt2, Gpt2Config};
use serde_json::{Value, json};
use support::{SIZES, gpt2, model_tree, not_finite, random_gpt2, reciting_gpt2, tokenizer_tree};
use tempfile::TempDir;

struct Fixture {
    harness: Harness,
    folder: TempDir,
}

impl Fixture {
    fn new(config: &Gpt2Config, model: &Gpt2) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut harness = Harness::new(folder.path());
        harness
            .connect("model", &model_tree(&folder.path().join("model"), config, model))
            .connect("tokenizer", &tokenizer_tree(&folder.path().join("tokenizer"), 0));
        Self { harness, folder }
    }

    fn tree(&mut self, settings: Value) -> InputTree {
        self.harness.run::<EvalCompletions>(settings).unwrap().remove("report").unwrap()
    }

    fn report(&mut self, settings: Value) -> Value {
        let tree = self.tree(settings);
        serde_json::from_slice(&fs::read(&tree.required("completions.json").unwrap().location).unwrap()).unwrap()
    }

    fn page(&mut self, settings: Value) -> String {
        let tree = self.tree(settings);
        fs::read_to_string(&tree.required("completions.md").unwrap().location).unwrap()
    }

    fn failure(&mut self, settings: Value) -> Failure {
        match self.harness.run::<EvalCompletions>(settings) {
            Err(StageError::Failed(failure)) => *failure,
            other => panic!("{other:?}"),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let text = |note| if let Note::Warning { text } = note { Some(text) } else { None };
        self.harness.progress.drain().into_iter().filter_map(text).collect()
    }
}

/// A fixture whose model writes `text` after each prompt.
fn reciting(text: &str) -> Fixture {
    let (config, model) = reciting_gpt2(text);
    Fixture::new(&config, &model)
}

/// One prompt, completed once and greedily.
fn once(prompt: &str) -> Value {
    json!({ "prompts": [{ "text": prompt }], "completions": 1, "temperature": 0.0 })
}

#[test]
fn the_default_prompts_are_four_and_each_is_completed_four_times() {
    let report = Fixture::new(&SIZES, &random_gpt2(1)).report(json!({}));
    let prompts = report["prompts"].as_array().unwrap();
    assert_eq!(prompts.len(), 4);
    assert_eq!(
        prompts[0]["text"].as_str().unwrap().lines().next().unwrap(),
        "def area_of_rectangle(a: float, b: float):"
    );
    assert_eq!(
        [64, 64, 64, 96].map(Value::from).as_slice(),
        prompts.iter().map(|p| p["max_length"].clone()).collect::<Vec<_>>()
    );
    assert!(prompts.iter().all(|prompt| prompt["completions"].as_array().unwrap().len() == 4));
    assert_eq!((&report["temperature"], &report["top_p"], &report["top_k"]), (&json!(0.4), &json!(0.95), &json!(0)));
}

#[test]
fn the_length_of_the_stage_applies_to_every_prompt() {
    let mut fixture = reciting("abcdefghijklmnop");
    let prompts = json!([{ "text": "x", "max_length": 2 }, { "text": "xx" }]);
    let report = fixture.report(json!({ "prompts": prompts, "max_length": 5, "completions": 1, "temperature": 0.0 }));
    let found = report["prompts"].as_array().unwrap().iter().map(|prompt| {
        (prompt["max_length"].as_u64().unwrap(), prompt["completions"][0]["text"].as_str().unwrap().to_owned())
    });
    assert_eq!(found.collect::<Vec<_>>(), [(5, "abcd".to_owned()), (5, "abc".to_owned())]);
}

#[test]
fn settings_at_their_default_are_not_in_the_key() {
    let stage =
        Kind::of::<EvalCompletions>().parse(json!({ "temperature": 0.4, "top_k": 0 }).as_object().unwrap()).unwrap();
    assert!(stage.spec().is_empty(), "{:?}", stage.spec());
    let stage =
        Kind::of::<EvalCompletions>().parse(json!({ "prompts": [{ "text": "x" }] }).as_object().unwrap()).unwrap();
    assert_eq!(stage.spec()["prompts"], json!([{ "text": "x", "max_length": 64 }]));
}

#[test]
fn a_completion_is_cut_at_the_first_block_and_its_end_is_trimmed() {
    let report = reciting("abc \t\ndefghi").report(once("x"));
    let completion = &report["prompts"][0]["completions"][0];
    assert_eq!(*completion, json!({ "text": "abc", "tokens": 9, "ended": "stop", "blank": false }));
}

#[test]
fn a_completion_without_a_block_goes_on_to_the_end_of_the_text() {
    let report = reciting("    return 1".trim_start()).report(once("x"));
    // "return" has the letter r twice, so that the recital goes round; a text of distinct letters does not.
    assert_eq!(report["prompts"][0]["completions"][0]["ended"], "max-length");
    let report = reciting("abcdef").report(once("x"));
    let completion = &report["prompts"][0]["completions"][0];
    assert_eq!(*completion, json!({ "text": "abcdef", "tokens": 6, "ended": "end-of-text", "blank": false }));
}

#[test]
fn white_space_alone_is_a_blank_completion() {
    let mut fixture = reciting(" \t\n#");
    let report = fixture.report(once("x"));
    let completion = &report["prompts"][0]["completions"][0];
    assert_eq!(*completion, json!({ "text": "", "tokens": 4, "ended": "stop", "blank": true }));
    assert_eq!((&report["completions"], &report["blank"]), (&json!(1), &json!(1)));
    assert!(fixture.page(once("x")).contains("*White space only.*"));
}

#[test]
fn stops_are_settings() {
    let mut settings = once("x");
    settings["stops"] = json!(["e", "c"]);
    assert_eq!(reciting("abcdef").report(settings)["prompts"][0]["completions"][0]["text"], "ab");
}

#[test]
fn characters_of_several_bytes_come_back_whole_and_cut_ones_are_marked() {
    let report = reciting("é").report(once("x"));
    assert_eq!(report["prompts"][0]["completions"][0]["text"], "é");
    let cut = json!({ "prompts": [{ "text": "x", "max_length": 2 }], "completions": 1, "temperature": 0.0 });
    let report = reciting("é").report(cut);
    let completion = &report["prompts"][0]["completions"][0];
    assert_eq!((&completion["text"], &completion["ended"]), (&json!("\u{fffd}"), &json!("max-length")));
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let mut fixture = Fixture::new(&SIZES, &random_gpt2(2));
    let settings = json!({ "prompts": [{ "text": "def f" }, { "text": "import" }], "temperature": 1.0 });
    let first = fixture.tree(settings.clone()).digest;
    fixture.harness.resources.threads = 1;
    assert_eq!(fixture.tree(settings.clone()).digest, first);
    fixture.harness.seed = 2;
    assert_ne!(fixture.tree(settings).digest, first);
}

#[test]
fn another_prompt_at_the_end_or_another_batch_changes_no_completion() {
    let mut fixture = Fixture::new(&SIZES, &random_gpt2(2));
    let completed = |fixture: &mut Fixture, settings: Value| fixture.report(settings)["prompts"][0].clone();
    let one = json!({ "prompts": [{ "text": "def f" }], "temperature": 1.0 });
    let two = json!({ "prompts": [{ "text": "def f" }, { "text": "import os" }], "temperature": 1.0, "batch": 3 });
    assert_eq!(completed(&mut fixture, one), completed(&mut fixture, two));
}

#[test]
fn a_prompt_without_room_is_warned_of_and_the_others_are_completed() {
    let mut fixture = reciting("abc");
    let long = "y".repeat(200);
    let report = fixture.report(json!({
        "prompts": [{ "text": "yyyy", "max_length": 4 }, { "text": long, "max_length": 300 }, { "text": "y" }],
        "completions": 1,
        "temperature": 0.0,
    }));
    let ended = |number: usize| report["prompts"][number]["completions"][0]["ended"].as_str().unwrap();
    assert_eq!([ended(0), ended(1), ended(2)], ["no-room", "no-room", "end-of-text"]);
    assert_eq!(
        fixture.warnings(),
        [
            "prompt 1 has 4 tokens: its max_length of 4 leaves no room to complete it",
            "prompt 2 has 200 tokens: the model reads at most 96, which leaves no room to complete it",
        ]
    );
}

#[test]
fn an_empty_prompt_starts_a_new_document() {
    let report = reciting("abc").report(once(""));
    assert_eq!(report["prompts"][0]["completions"][0]["text"], "abc");
    assert_eq!(report["prompts"][0]["tokens"], 1);
}

#[test]
fn the_page_shows_prompts_and_completions() {
    let mut settings = once("x = ```");
    settings["completions"] = json!(2);
    assert_eq!(
        reciting("abc").page(settings),
        "# Completions\n\n\
         Temperature 0, top-p 0.95, top-k 0, seed 1. 2 completions, 0 of them blank.\n\n\
         ## Prompt 1\n\n\
         ````python\nx = ```\n````\n\n\
         7 tokens of at most 64; 1 of 2 completions distinct.\n\n\
         1 of 2 (3 tokens, ended by end-of-text):\n\n\
         ```python\nabc\n```\n\n\
         2 of 2 (3 tokens, ended by end-of-text):\n\n\
         ```python\nabc\n```\n"
    );
}

#[test]
fn completions_are_bounded_in_all() {
    let prompts: Vec<_> = (0..1000).map(|_| json!({ "text": "x" })).collect();
    let kind = Kind::of::<EvalCompletions>();
    let problems = |completions: u64| {
        let settings = json!({ "prompts": prompts, "completions": completions });
        kind.parse(settings.as_object().unwrap()).err().unwrap_or_default()
    };
    assert_eq!(problems(100), []);
    assert_eq!(problems(101)[0].setting, "completions");
    assert!(problems(101)[0].message.starts_with("must be at most 100 for 1000 prompts, not 101"));
}

#[test]
fn a_tokenizer_that_does_not_fit_is_an_error() {
    let mut fixture = Fixture::new(&SIZES, &random_gpt2(1));
    let larger = tokenizer_tree(&fixture.folder.path().join("larger"), 1);
    fixture.harness.connect("tokenizer", &larger);
    let failure = fixture.failure(json!({}));
    assert_eq!(failure.message, "the tokenizer has 258 ids, but the model's vocabulary has 257");
    assert!(failure.hint.is_some());
}

#[test]
fn a_model_that_leaves_the_range_of_numbers_is_an_error() {
    let model = gpt2(&SIZES, |tensor| vec![f32::MAX; tensor.size()]);
    let failure = Fixture::new(&SIZES, &model).failure(once("ab"));
    assert_eq!(failure.message, "the model's logits at position 2 of prompt 1 are not finite");
}

#[test]
fn it_stops_when_it_is_asked_to() {
    let mut fixture = Fixture::new(&SIZES, &random_gpt2(1));
    fixture.harness.cancel.set();
    assert!(matches!(fixture.harness.run::<EvalCompletions>(once("x")), Err(StageError::Interrupted)));
}

#[test]
fn the_json_of_this_revision_has_these_bytes() {
    let mut fixture = reciting("abc");
    let tree = fixture.tree(once("x"));
    let text = fs::read_to_string(&tree.required("completions.json").unwrap().location).unwrap();
    let golden = r#"{
  "temperature": 0.0,
  "top_p": 0.95,
  "top_k": 0,
  "seed": 1,
  "completions": 1,
  "blank": 0,
  "prompts": [
    {
      "text": "x",
      "tokens": 1,
      "max_length": 64,
      "distinct": 1,
      "completions": [
        {
          "text": "abc",
          "tokens": 3,
          "ended": "end-of-text",
          "blank": false
        }
      ]
    }
  ]
}
"#;
    assert_eq!(text, golden, "where this is meant, bump the REVISION of the kind");
}

#[test]
fn a_model_that_is_not_finite_is_refused_before_it_reads_a_token() {
    let mut fixture = Fixture::new(&SIZES, &random_gpt2(1));
    let place = fixture.folder.path().join("not-finite");
    let model = not_finite(fixture.harness.inputs["model"].clone(), &place);
    fixture.harness.connect("model", &model);
    let failure = fixture.failure(json!({}));
    assert_eq!(failure.message, "tensor 'transformer.ln_f.bias' is not finite: it contains NaN");
    assert!(failure.hint.unwrap().contains("lower learning_rate"));
    assert_eq!(fixture.harness.progress.sample().done, 0);
}
