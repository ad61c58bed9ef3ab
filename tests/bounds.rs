//! Every number that a setting of the real kinds may be: bounded in the schema, held to it by `check`, and harmless at the
//! bounds.

#[path = "bounds/numbers.rs"]
mod numbers;
#[path = "bounds/pipeline.rs"]
mod pipeline_of_all_kinds;

use contract::Kind;
use numbers::{Number, numbers};
use pipeline_of_all_kinds::{KINDS, Stages, written};
use proptest::prelude::*;
use serde_json::Value;

/// Every number of every kind, with its kind.
fn all() -> Vec<(Kind, Number)> {
    let numbers = |kind: Kind| {
        let schemas = [kind.spec_schema.clone(), kind.exec_schema.clone()];
        let found: Vec<_> = schemas.iter().flat_map(|schema| numbers(schema)).collect();
        found.into_iter().map(move |number| (kind.clone(), number))
    };
    KINDS.iter().cloned().flat_map(numbers).collect()
}

#[test]
fn every_number_of_every_kind_has_a_least_and_a_greatest_value() {
    let all = all();
    assert!(all.len() > 45, "{} numbers", all.len());
    for (kind, number) in all {
        assert!(number.least.is_some() && number.most.is_some(), "{} {number:?}", kind.name);
    }
}

/// What every setting is tried with, as TOML.
const EXTREMES: [&str; 24] = [
    "0",
    "1",
    "-1",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740992",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "340282366920938463463374607431768211456",
    "0.0",
    "-0.0",
    "0.5",
    "5e-324",
    "-5e-324",
    "1.7976931348623157e308",
    "1e400",
    "inf",
    "-inf",
    "nan",
];

/// Holds one value against its bounds: `check` takes it where they do, and else names it at its line with its range.
fn held(kind: &Kind, number: &Number, value: &str) -> Result<(), String> {
    let stages = Stages::with(kind.name, &number.path, value);
    let told = |text: &str| format!("{} {} = {value}: {text}", kind.name, number.path);
    match stages.load() {
        Ok(manifest) => {
            if !number.takes(value) {
                return Err(told("was taken"));
            }
            // What is known before a run.
            for stage in manifest.stages.values() {
                let (needs, cost) = (stage.stage.needs(), stage.cost);
                if needs.memory == 0 || cost.flops.is_some_and(|flops| !flops.is_finite() || flops < 0.0) {
                    return Err(told(&format!("{needs:?}, {cost:?}")));
                }
            }
            Ok(())
        }
        Err(diagnostics) => {
            let text = diagnostics.to_string();
            let line = stages.line(kind.name);
            let placed = diagnostics.placed();
            let own = placed.iter().find(|problem| problem.places.iter().any(|at| at.place.line == line));
            let Some(own) = own else { return Err(told(&text)) };
            if number.takes(value) {
                // Settings that do not fit one another.
                let fits = !own.message.contains("out of range") && !own.message.contains("not finite");
                return if fits { Ok(()) } else { Err(told(&text)) };
            }
            let names = own.message.contains(&format!("'{}'", written(&number.path)));
            let integer = !value.contains(['.', 'e', 'n']);
            let (least, most) = (number.shown(number.least), number.shown(number.most));
            let ranges = own.places[0].text.contains(&least) && own.places[0].text.contains(&most);
            // A float where an integer belongs is of the wrong type.
            if names && (ranges || (number.integer && !integer)) { Ok(()) } else { Err(told(&text)) }
        }
    }
}

#[test]
fn every_number_is_held_to_its_bounds_at_its_line() {
    let mut wrong = Vec::new();
    for (kind, number) in all() {
        let around = number.around();
        let values = EXTREMES.iter().map(|value| (*value).to_owned()).chain(around);
        wrong.extend(values.filter_map(|value| held(&kind, &number, &value).err()));
    }
    assert!(wrong.is_empty(), "{} wrong, the first ones:\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_number_is_held_to_its_bounds(
        chosen in any::<prop::sample::Index>(),
        value in prop_oneof![
            any::<i128>().prop_map(|number| number.to_string()),
            any::<u64>().prop_map(|number| number.to_string()),
            any::<i32>().prop_map(|number| number.to_string()),
            any::<f64>().prop_map(|number| format!("{number:e}")),
            (-2.0..2.0).prop_map(|number: f64| format!("{number:e}")),
        ],
    ) {
        let all = all();
        let (kind, number) = chosen.get(&all);
        // TOML spells these in one way only.
        let value = value.replace("NaN", "nan");
        prop_assert_eq!(held(kind, number, &value), Ok(()));
    }
}

#[test]
fn a_setting_at_its_bounds_runs_or_says_why_not() {
    let tree = pipeline_of_all_kinds::Built::new();
    let mut tried = 0;
    for (kind, number) in all() {
        for value in number.inside() {
            let Some(outcome) = tree.run(&kind, &number.path, &value) else { continue };
            // Whatever it says, it says it: nothing panics and nothing aborts.
            if let Err(error) = outcome {
                assert!(!error.to_string().is_empty(), "{} {} = {value}", kind.name, number.path);
            }
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried} runs");
}

#[test]
fn what_costs_memory_says_so() {
    let memory = |stage: &str, path: &str, value: &str| {
        let manifest = Stages::with(stage, path, value).load().unwrap_or_else(|problems| panic!("{problems}"));
        let stage = &manifest.stages[stage];
        stage.cost.memory.unwrap_or(stage.stage.needs().memory)
    };
    for (stage, path, few, many) in [
        ("train", "batch", "1", "1048576"),
        ("train", "layers", "1", "1024"),
        ("eval-loss", "batch", "1", "1048576"),
        ("eval-completions", "completions", "1", "10000"),
        ("tokenizer", "word_bytes", "1", "1073741824"),
    ] {
        let (few, many) = (memory(stage, path, few), memory(stage, path, many));
        assert!(many > few, "{stage} {path}: {few} and {many} bytes");
    }
}

#[test]
fn the_schema_of_a_kind_is_what_check_holds_settings_to() {
    let kind = KINDS.iter().find(|kind| kind.name == "eval-loss").unwrap();
    let batch: &Value = &kind.spec_schema["properties"]["batch"];
    assert_eq!((batch["minimum"].as_u64(), batch["maximum"].as_u64()), (Some(1), Some(1 << 20)));
    let text = Stages::with("eval-loss", "batch", "0").load().unwrap_err().to_string();
    assert!(text.contains("'batch' is out of range") && text.contains("expected 1 to 1048576"), "{text}");
}
