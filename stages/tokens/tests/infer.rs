//! What `tokenizer` and `pack` tell before anything runs.

use contract::{Fact, Facts, Inferred, InputFacts, Kind, Origin, Stage};
use serde_json::{Value, json};
use tokens::{Pack, Tokenizer};

fn infer<S: Stage>(settings: Value, ports: &[(&str, Facts)]) -> Inferred {
    let stage = Kind::of::<S>().parse(settings.as_object().unwrap()).unwrap();
    stage.infer(&InputFacts::new(ports.iter().map(|(port, facts)| ((*port).to_owned(), facts.clone())).collect()))
}

#[test]
fn a_tokenizer_tells_that_it_is_one_and_its_vocabulary() {
    let inferred = infer::<Tokenizer>(json!({ "vocabulary": 500 }), &[("documents", Facts::default())]);
    assert_eq!(inferred.conflicts, []);
    let facts = &inferred.outputs["tokenizer"];
    assert_eq!(facts.tokenizer, Some(Fact::own((), "")));
    assert_eq!(facts.vocabulary, Some(Fact::own(500, "vocabulary")));
    assert_eq!((&facts.sequence_length, &facts.positions, &facts.parameters), (&None, &None, &None));
}

#[test]
fn what_learning_takes_is_a_bound_as_the_text_decides_how_much_it_will_be() {
    let cost = infer::<Tokenizer>(json!({ "word_bytes": 1 << 30 }), &[]).cost;
    assert_eq!((cost.memory_bound, cost.memory), (Some(32 << 30), None));
}

#[test]
fn packed_tokens_have_the_sequence_length_and_what_their_tokenizer_has() {
    let origin = Origin { stage: "words".to_owned(), setting: "vocabulary".to_owned() };
    let tokenizer = Facts {
        tokenizer: Some(Fact { value: (), origin: Origin { setting: String::new(), ..origin.clone() } }),
        vocabulary: Some(Fact { value: 500, origin }),
        ..Facts::default()
    };
    let ports = [("train", Facts::default()), ("tokenizer", tokenizer.clone())];
    let inferred = infer::<Pack>(json!({ "sequence_length": 64 }), &ports);
    assert_eq!(inferred.conflicts, []);
    let expected = Facts { sequence_length: Some(Fact::own(64, "sequence_length")), ..tokenizer };
    assert_eq!(inferred.outputs["train"], expected);
    assert_eq!(inferred.outputs["valid"], expected);
    assert!(!inferred.outputs.contains_key("report"));
}

#[test]
fn a_tokenizer_that_nothing_is_known_of_leaves_the_sequence_length() {
    let inferred = infer::<Pack>(json!({}), &[("tokenizer", Facts::default())]);
    let expected = Facts { sequence_length: Some(Fact::own(1024, "sequence_length")), ..Facts::default() };
    assert_eq!(inferred.outputs["train"], expected);
}
