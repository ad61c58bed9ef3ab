//! Settings that make no sense.

use contract::Kind;
use data::dedup::Dedup;
use serde_json::{Value, json};

#[test]
fn settings_out_of_range_are_named() {
    let kind = Kind::of::<Dedup>();
    let problems = |settings: Value| {
        let problems = kind.parse(settings.as_object().unwrap()).err().unwrap_or_default();
        problems.into_iter().map(|problem| problem.setting).collect::<Vec<_>>()
    };
    assert_eq!(problems(json!({ "threshold": 0.0, "recall": 1.0, "shingle": 0 })), ["threshold", "recall", "shingle"]);
    assert_eq!(problems(json!({ "prefer": ["path", "license", "path"] })), ["prefer[2]"]);
    assert_eq!(problems(json!({ "prefer": ["stars"] })), ["prefer[0]"]);
    assert!(problems(json!({})).is_empty());
    let written_out =
        json!({ "threshold": 0.85, "prefer": ["license", "copies", "larger", "path"], "exact": "whitespace" });
    let stage = kind.parse(written_out.as_object().unwrap()).ok().unwrap();
    assert!(stage.spec().is_empty(), "a setting at its default is not in the key: {:?}", stage.spec());
}
