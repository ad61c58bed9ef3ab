//! The content of a key, and the agreement of its explanation with its hash.

use std::collections::BTreeMap;

use contract::Digest;
use pipeline::key::{Key, KeyDifference, KeyInput, KeyPath, KeyRecord};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// The content of a key, owned.
#[derive(Debug, Clone)]
struct Parts {
    kind: &'static str,
    revision: u32,
    settings: Map<String, Value>,
    seed: Option<u64>,
    inputs: BTreeMap<String, Digest>,
    sources: Vec<Digest>,
    machine: BTreeMap<String, String>,
}

impl Parts {
    fn new(settings: Value) -> Self {
        let Value::Object(settings) = settings else { panic!("an object") };
        let (inputs, machine) = (BTreeMap::new(), BTreeMap::new());
        Self { kind: "train", revision: 1, settings, seed: None, inputs, sources: Vec::new(), machine }
    }

    fn input(&self) -> KeyInput<'_> {
        KeyInput {
            kind: self.kind,
            revision: self.revision,
            settings: &self.settings,
            seed: self.seed,
            inputs: &self.inputs,
            sources: &self.sources,
            machine: &self.machine,
        }
    }

    fn key(&self) -> Key {
        self.input().key()
    }

    fn record(&self) -> KeyRecord {
        self.input().record()
    }
}

fn key(settings: Value) -> Key {
    Parts::new(settings).key()
}

fn full() -> Parts {
    Parts {
        seed: Some(1),
        inputs: BTreeMap::from([("documents".to_owned(), Digest::of(b"tree"))]),
        sources: vec![Digest::of(b"b"), Digest::of(b"a"), Digest::of(b"a")],
        ..Parts::new(
            json!({ "learning_rate": 5e-4, "allow": ["mit", "isc"], "rules": { "line_max": { "threshold": 1000 } } }),
        )
    }
}

#[test]
fn keys_of_fixed_inputs_never_change() {
    // A change here orphans every store: it is a new format version (a new domain), on purpose or not at all.
    let golden = |parts: Parts, key: &str| assert_eq!(parts.key().to_string(), key, "{}", parts.record());
    golden(Parts::new(json!({})), "62721bd25a5a87bd2265fe1a97cf410ab79af9a11729abe83a4f67d5478f8df7");
    golden(full(), "100e9e3b9eab3ddeba7a20b5003269d8a3489caafbae3352a88daedc7ef4e9f1");
    golden(
        Parts::new(
            json!({ "null": null, "yes": true, "minus": -3, "float": -0.0, "big": u64::MAX, "lists": [[], [1], {}] }),
        ),
        "843b06cdb714fa8a0affb6a1f7f58490d37eba977c885aba274cdf26b532e8b3",
    );
}

#[test]
fn no_byte_moves_from_one_field_to_the_next() {
    assert_ne!(key(json!({ "a": "bc" })), key(json!({ "ab": "c" })));
    assert_ne!(key(json!({ "x": [["a"], ["b"]] })), key(json!({ "x": [["a", "b"]] })));
    assert_ne!(key(json!({ "x": ["ab"] })), key(json!({ "x": ["a", "b"] })));
    assert_ne!(key(json!({ "x": [{ "a": 1 }, { "b": 2 }] })), key(json!({ "x": [{ "a": 1, "b": 2 }] })));
    assert_ne!(key(json!({ "a": { "b": 1 } })), key(json!({ "a.b": 1 })));
    assert_ne!(key(json!({ "x": {} })), key(json!({ "x": [] })));
    assert_ne!(key(json!({ "x": {} })), key(json!({})));
    assert_ne!(key(json!({ "x": null })), key(json!({})));
    let digest = Digest::of(b"x");
    let settings = Parts::new(json!({ "documents": digest.to_string() }));
    let inputs = Parts { inputs: BTreeMap::from([("documents".to_owned(), digest)]), ..Parts::new(json!({})) };
    let sources = Parts { sources: vec![digest], ..Parts::new(json!({})) };
    assert_ne!(settings.key(), inputs.key());
    assert_ne!(inputs.key(), sources.key());
}

#[test]
fn facts_of_the_machine_are_in_the_key_and_without_one_it_is_as_before() {
    let with = |facts: &[(&str, &str)], settings: Value| {
        let machine = facts.iter().map(|(name, fact)| ((*name).to_owned(), (*fact).to_owned())).collect();
        Parts { machine, ..Parts::new(settings) }
    };
    let parts = [
        with(&[], json!({})),
        with(&[("python", "3.12.1")], json!({})),
        with(&[("python", "3.12.2")], json!({})),
        with(&[("other", "3.12.1")], json!({})),
        with(&[], json!({ "python": "3.12.1" })),
    ];
    assert_eq!(parts[0].key(), key(json!({})));
    for (index, one) in parts.iter().enumerate() {
        assert!(parts[index + 1..].iter().all(|other| other.key() != one.key()), "{index}");
    }
    let differences = KeyRecord::differences(&parts[1].record(), &parts[2].record());
    assert_eq!((differences.len(), differences[0].path.to_string().as_str()), (1, "machine.python"));
    assert_eq!((&differences[0].old, &differences[0].new), (&Some(json!("3.12.1")), &Some(json!("3.12.2"))));
    assert_eq!(parts[1].record().machine_facts(), parts[1].machine);
    assert_eq!(parts[4].record().machine_facts(), BTreeMap::new());
}

#[test]
fn values_of_different_types_have_different_keys() {
    let keys: Vec<_> = [json!(1), json!("1"), json!(1.0), json!(true), json!([1]), json!(-1), json!(null)]
        .into_iter()
        .map(|value| key(json!({ "x": value })))
        .collect();
    for (index, one) in keys.iter().enumerate() {
        assert!(keys[index + 1..].iter().all(|other| other != one), "{index}");
    }
}

#[test]
fn key_order_and_number_spelling_make_no_difference() {
    let read = |text: &str| key(serde_json::from_str(text).unwrap());
    assert_eq!(read(r#"{"a": 1, "b": {"c": 2, "d": 3}}"#), read(r#"{ "b":{"d":3,"c":2},"a":1}"#));
    assert_eq!(read(r#"{"x": 3e-4}"#), read(r#"{"x": 0.0003}"#));
    assert_eq!(read(r#"{"x": -0.0}"#), read(r#"{"x": 0.0}"#));
}

#[test]
fn order_of_sources_makes_no_difference_and_their_number_does() {
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    let with = |sources: &[Digest]| Parts { sources: sources.to_vec(), ..Parts::new(json!({})) };
    assert_eq!(with(&[a, b, a]).key(), with(&[a, a, b]).key());
    assert_eq!(with(&[a, b, a]).record(), with(&[a, a, b]).record());
    assert_ne!(with(&[a, b]).key(), with(&[a, a, b]).key());
}

#[test]
fn every_part_is_in_the_key_and_in_the_record() {
    let base = full();
    let changed = [
        Parts { kind: "pack", ..base.clone() },
        Parts { revision: 2, ..base.clone() },
        Parts { seed: Some(2), ..base.clone() },
        Parts { seed: None, ..base.clone() },
        Parts { inputs: BTreeMap::new(), ..base.clone() },
        Parts { inputs: BTreeMap::from([("documents".to_owned(), Digest::of(b"other"))]), ..base.clone() },
        Parts { inputs: BTreeMap::from([("tokens".to_owned(), Digest::of(b"tree"))]), ..base.clone() },
        Parts { sources: Vec::new(), ..base.clone() },
        Parts { settings: Map::new(), ..base.clone() },
    ];
    for parts in changed {
        assert_ne!(parts.key(), base.key(), "{parts:?}");
        assert_ne!(parts.record(), base.record(), "{parts:?}");
        assert!(!KeyRecord::differences(&base.record(), &parts.record()).is_empty());
    }
}

#[test]
fn a_record_reads_as_paths_and_values() {
    let (a, b, tree) = (Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"tree"));
    let mut sources = [a, a, b];
    sources.sort_unstable();
    let [first, second, third] = sources;
    assert_eq!(
        full().record().to_string(),
        format!(
            "kind = \"train\"\n\
             revision = 1\n\
             seed = 1\n\
             settings.allow = [\"mit\",\"isc\"]\n\
             settings.learning_rate = 0.0005\n\
             settings.rules.line_max.threshold = 1000\n\
             inputs.documents = \"{tree}\"\n\
             sources = [\"{first}\",\"{second}\",\"{third}\"]\n"
        )
    );
}

#[test]
fn a_difference_names_the_setting_with_its_old_and_new_value() {
    let old = Parts::new(json!({ "learning_rate": 5e-4, "allow": ["mit"], "steps": 10 }));
    let new = Parts::new(json!({ "learning_rate": 6e-4, "allow": ["mit", "isc"], "decay": 0.1 }));
    let differences = KeyRecord::differences(&old.record(), &new.record());
    let difference = |setting: &str, old, new| KeyDifference { path: KeyPath::Setting(setting.to_owned()), old, new };
    assert_eq!(
        differences,
        [
            difference("allow", Some(json!(["mit"])), Some(json!(["mit", "isc"]))),
            difference("decay", None, Some(json!(0.1))),
            difference("learning_rate", Some(json!(5e-4)), Some(json!(6e-4))),
            difference("steps", Some(json!(10)), None),
        ]
    );
}

#[test]
fn an_added_source_is_one_difference() {
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    let with = |sources: &[Digest]| Parts { sources: sources.to_vec(), ..Parts::new(json!({})) }.record();
    let added = KeyRecord::differences(&with(&[a]), &with(&[a, b]));
    assert_eq!(added, [KeyDifference { path: KeyPath::Sources, old: None, new: Some(json!(b.to_string())) }]);
    let doubled = KeyRecord::differences(&with(&[a]), &with(&[a, a]));
    assert_eq!(doubled, [KeyDifference { path: KeyPath::Sources, old: None, new: Some(json!(a.to_string())) }]);
}

#[test]
fn a_name_that_looks_like_a_path_is_quoted() {
    let record = Parts::new(json!({ "env": { "A.B": "1", "": 2 } })).record();
    let paths: Vec<_> = record.leaves().iter().map(|leaf| leaf.path.as_str()).collect();
    assert_eq!(paths[2..4], ["settings.env.\"\"", "settings.env.\"A.B\""]);
}

#[test]
fn paths_are_parsed_as_they_are_written_and_sort_as_their_text() {
    let other =
        Parts { kind: "pack", revision: 2, seed: Some(2), ..Parts::new(json!({ "inputs": 1, "a": { "b": 2 } })) };
    let differences = KeyRecord::differences(&full().record(), &other.record());
    let paths: Vec<_> = differences.iter().map(|difference| difference.path.to_string()).collect();
    let mut sorted = paths.clone();
    sorted.sort();
    assert_eq!(paths, sorted);
    for path in ["inputs.documents", "kind", "revision", "seed", "settings.a.b", "settings.inputs", "sources"] {
        assert!(paths.iter().any(|found| found == path), "{path} {paths:?}");
    }
}

/// JSON from a small alphabet, so that equal and nearly equal values meet.
fn json_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i64..3).prop_map(Value::from),
        prop_oneof![Just(0.0), Just(-0.0), Just(1.0), Just(0.1 + 0.2), Just(0.3), any::<f64>()].prop_map(Value::from),
        "[ab.\\[0\\]\"]{0,3}".prop_map(Value::from),
    ];
    scalar.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[ab.\\[0\\]]{0,2}", inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn settings() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[ab]{0,2}", json_value(), 0..4)
        .prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

/// Every value that differs from this one in one scalar.
fn mutations(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, field)| mutations(field).into_iter().map(move |field| (name.clone(), field)))
            .map(|(name, field)| {
                let mut fields = fields.clone();
                fields.insert(name, field);
                Value::Object(fields)
            })
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(index, item)| mutations(item).into_iter().map(move |item| (index, item)))
            .map(|(index, item)| {
                let mut items = items.clone();
                items[index] = item;
                Value::Array(items)
            })
            .collect(),
        Value::Null => vec![json!(false)],
        Value::Bool(value) => vec![json!(!value)],
        Value::String(text) => vec![json!(format!("{text}x")), json!([text])],
        Value::Number(number) => vec![json!(number.to_string()), json!(number.as_f64().unwrap() + 1.5)],
    }
}

proptest! {
    #[test]
    fn keys_are_equal_exactly_when_records_are(one in settings(), other in settings()) {
        let (one, other) = (Parts::new(one), Parts::new(other));
        prop_assert_eq!(one.key() == other.key(), one.record() == other.record());
        prop_assert_eq!(one.record() == other.record(), KeyRecord::differences(&one.record(), &other.record()).is_empty());
    }

    #[test]
    fn changing_any_scalar_changes_key_and_record(settings in settings()) {
        let base = Parts::new(settings.clone());
        for changed in mutations(&settings) {
            let same = changed == settings;
            let changed = Parts::new(changed);
            prop_assert_eq!(changed.key() == base.key(), same, "{:?}", changed);
            prop_assert_eq!(changed.record() == base.record(), same, "{:?}", changed);
        }
    }

    #[test]
    fn a_record_reads_back_from_its_json_bit_for_bit(settings in settings()) {
        let record = Parts::new(settings).record();
        let text = serde_json::to_string(&record).unwrap();
        prop_assert_eq!(&serde_json::from_str::<KeyRecord>(&text).unwrap(), &record);
    }
}
