//! What `eval-loss` and `eval-completions` infer before anything runs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use contract::{Fact, Facts, Inferred, InputFacts, Kind, Origin, Shape, Stage};
use evaluate::{EvalCompletions, EvalLoss, SampleCode};
use serde_json::{Value, json};

fn decided<T>(value: T, stage: &str, setting: &str) -> Option<Fact<T>> {
    Some(Fact { value, origin: Origin { stage: stage.to_owned(), setting: setting.to_owned() } })
}

fn tokenizer(stage: &str) -> Facts {
    let vocabulary = decided(32_768, stage, "vocabulary");
    Facts { tokenizer: decided((), stage, ""), vocabulary, ..Facts::default() }
}

fn tokens(stage: &str, sequence_length: u64) -> Facts {
    Facts { sequence_length: decided(sequence_length, "pack", "sequence_length"), ..tokenizer(stage) }
}

/// GPT-2 as the book trains it.
fn model(stage: &str) -> Facts {
    let positions = decided(1024, "pack", "sequence_length");
    let shape = decided(Shape { layers: 12, width: 768, heads: 12 }, "train", "");
    Facts { positions, parameters: decided(111_000_000, "train", ""), shape, ..tokenizer(stage) }
}

fn infer<S: Stage>(settings: Value, ports: &[(&str, Facts)]) -> Inferred {
    let stage = Kind::of::<S>().parse(settings.as_object().unwrap()).unwrap();
    stage.infer(&InputFacts::new(ports.iter().map(|(port, facts)| ((*port).to_owned(), facts.clone())).collect()))
}

/// The place, the message and the other place of each conflict.
fn conflicts(inferred: &Inferred) -> Vec<(&str, &str, &str)> {
    let conflicts = inferred.conflicts.iter();
    conflicts
        .map(|conflict| (conflict.setting.as_str(), conflict.message.as_str(), conflict.with.stage.as_str()))
        .collect()
}

#[test]
fn a_loss_over_fitting_tokens_has_no_conflict_and_a_cost() {
    let ports = [("model", model("a")), ("tokens", tokens("a", 1024)), ("tokenizer", tokenizer("a"))];
    let all = infer::<EvalLoss>(json!({}), &ports);
    assert_eq!(conflicts(&all), []);
    assert_eq!((all.cost.tokens, all.cost.flops), (None, None), "how many sequences there are is not known");
    let some = infer::<EvalLoss>(json!({ "sequences": 100, "batch": 1 }), &ports);
    assert_eq!(some.cost.tokens, Some(102_400));
    let flops = some.cost.flops.unwrap() / (102_400.0 * 2.0 * 111e6);
    assert!((1.0..1.3).contains(&flops), "{flops}");
    assert!(all.cost.memory > some.cost.memory && some.cost.memory > Some(444_000_000), "{:?}", some.cost);
}

#[test]
fn a_loss_reads_no_more_sequences_than_there_are() {
    let tokens = Facts { sequences: decided(7, "pack", ""), ..tokens("a", 1024) };
    let ports = [("model", model("a")), ("tokens", tokens), ("tokenizer", tokenizer("a"))];
    let cost = |settings: Value| infer::<EvalLoss>(settings, &ports).cost;
    assert_eq!(cost(json!({})).tokens, Some(7 * 1024));
    assert_eq!(cost(json!({ "batch": 1 << 20 })), cost(json!({ "batch": 7 })), "a batch holds seven sequences at most");
    assert_eq!(cost(json!({ "sequences": 3 })).tokens, Some(3 * 1024));
}

#[test]
fn a_loss_over_tokens_of_another_tokenizer_conflicts() {
    let ports = [("model", model("a")), ("tokens", tokens("b", 1024)), ("tokenizer", tokenizer("b"))];
    let expected = ("inputs.tokens", "the model and the tokens come from two tokenizers", "b");
    assert_eq!(conflicts(&infer::<EvalLoss>(json!({}), &ports)), [expected]);
    let ports = [("model", model("a")), ("tokens", tokens("a", 1024)), ("tokenizer", tokenizer("b"))];
    let expected = ("inputs.tokenizer", "the tokens and this evaluation have two tokenizers", "b");
    assert_eq!(conflicts(&infer::<EvalLoss>(json!({}), &ports)), [expected]);
}

#[test]
fn a_loss_over_sequences_that_the_model_cannot_read_conflicts() {
    let ports = [("model", model("a")), ("tokens", tokens("a", 2048))];
    let expected = ("inputs.tokens", "the model reads at most 1024 tokens, but the sequences have 2048", "pack");
    assert_eq!(conflicts(&infer::<EvalLoss>(json!({}), &ports)), [expected]);
}

#[test]
fn completions_that_fit_have_no_conflict_and_a_greatest_cost() {
    let ports = [("model", model("a")), ("tokenizer", tokenizer("a"))];
    let prompts = json!([{ "text": "x", "max_length": 1024 }, { "text": "y", "max_length": 24 }]);
    let inferred = infer::<EvalCompletions>(json!({ "prompts": prompts, "completions": 3 }), &ports);
    assert_eq!(conflicts(&inferred), []);
    assert_eq!(inferred.cost.tokens, Some(3 * (1024 + 24)));
    assert!(inferred.cost.flops.unwrap() > 3.0 * 1048.0 * 2.0 * 111e6);
    assert!(inferred.cost.memory > Some(444_000_000), "{:?}", inferred.cost);
}

#[test]
fn completions_with_another_tokenizer_conflict() {
    let ports = [("model", model("a")), ("tokenizer", tokenizer("b"))];
    let expected = ("inputs.tokenizer", "the model and this evaluation have two tokenizers", "b");
    assert_eq!(conflicts(&infer::<EvalCompletions>(json!({}), &ports)), [expected]);
}

#[test]
fn a_prompt_that_may_outgrow_the_model_conflicts() {
    let ports = [("model", model("a")), ("tokenizer", tokenizer("a"))];
    let prompts = json!([{ "text": "x", "max_length": 1024 }, { "text": "y", "max_length": 1025 }]);
    let inferred = infer::<EvalCompletions>(json!({ "prompts": prompts }), &ports);
    let message = "prompt 2 may grow to 1025 tokens, but the model reads at most 1024";
    assert_eq!(conflicts(&inferred), [("prompts[1].max_length", message, "pack")]);
    // The stage's length applies instead of each prompt's.
    let inferred =
        infer::<EvalCompletions>(json!({ "prompts": prompts, "max_length": 1024, "completions": 3 }), &ports);
    assert_eq!((conflicts(&inferred), inferred.cost.tokens), (vec![], Some(3 * 2 * 1024)));
    let inferred = infer::<EvalCompletions>(json!({ "prompts": [{ "text": "x" }], "max_length": 1025 }), &ports);
    let message = "a prompt may grow to 1025 tokens, but the model reads at most 1024";
    assert_eq!(conflicts(&inferred), [("max_length", message, "pack")]);
    assert_eq!(inferred.conflicts[0].with.setting, "sequence_length");
}

#[test]
fn of_inputs_that_nothing_is_known_of_nothing_is_told() {
    let ports = [("model", Facts::default()), ("tokens", Facts::default()), ("tokenizer", Facts::default())];
    assert_eq!(infer::<EvalLoss>(json!({}), &ports), Inferred::default());
    assert_eq!(infer::<EvalCompletions>(json!({}), &ports), Inferred::default());
}

#[test]
fn samples_of_code_have_a_cost_that_grows_with_what_is_known() {
    let known = |problems: Option<u64>| {
        let problems =
            Facts { problems: problems.and_then(|count| decided(count, "problems", "")), ..Facts::default() };
        [("model", model("a")), ("tokenizer", tokenizer("a")), ("problems", problems)]
    };
    let cost = |settings: Value, problems| infer::<SampleCode>(settings, &known(problems)).cost;
    let settings = json!({"samples": 20, "temperatures": [0.2, 0.8], "max_tokens": 255, "batch": 16});
    let without = cost(settings.clone(), None);
    assert_eq!((without.tokens, without.flops), (None, None), "how many problems there are is not known");
    assert!(without.memory > Some(444_000_000), "{without:?}");
    let with = cost(settings, Some(164));
    assert_eq!(with.tokens, Some(2 * 164 * 20 * 256));
    assert!(with.memory > without.memory, "{with:?} {without:?}");
    let one = cost(json!({"samples": 20, "max_tokens": 255, "batch": 16}), Some(164));
    assert_eq!((one.tokens.map(|tokens| 2 * tokens), one.memory), (with.tokens, with.memory));
    // No sequence is longer than the model's.
    assert_eq!(cost(json!({"max_tokens": 5000}), Some(1)).tokens, Some(1024));
}
