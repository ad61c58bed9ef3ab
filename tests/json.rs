//! What `plan --json` and `why --json` are made of: every reason and every state, as programs read them and as people do.
//!
//! `UPDATE_GOLDEN=1 cargo test --release --test json` writes tests/json/reasons.json anew. Programs read these fields: one that
//! is there keeps its name and its meaning (docs/json.md).

use std::fs;
use std::path::Path;

use contract::{Digest, Unit};
use pipeline::manifest::{Place, StageName};
use pipeline::plan::{BuildName, Reason, State};
use pipeline::store::LockHolder;
use serde_json::{Value, json};

fn name(text: &str) -> StageName {
    text.parse().unwrap()
}

/// One of each; the match in [`tag`] is complete, so that a new one cannot be forgotten.
fn every_reason() -> Vec<Reason> {
    let place = Place { file: "quickstart.toml".into(), line: 41, column: 1 };
    let (old, new) = (Some(Digest::of(b"old")), Some(Digest::of(b"new")));
    let build = BuildName {
        key: Digest::of(b"key"),
        run: Some("other".into()),
        number: Some(2),
        started_ms: Some(1_764_000_000_000),
    };
    let changed = |setting: &str, old: Value, new: Value| Reason::SettingChanged {
        setting: setting.into(),
        old: Some(old),
        new: Some(new),
        old_is_default: false,
        new_is_default: false,
        place: None,
    };
    let holder = LockHolder { pid: 4121, host: Some("build-2".into()), task: "train".into(), since: 1_764_000_000_000 };
    vec![
        Reason::NeverBuilt { closest: None, differences: Vec::new() },
        Reason::NeverBuilt { closest: Some(build), differences: vec![changed("fraction", json!(0.1), json!(0.005))] },
        Reason::Resumes { done: 65, total: 300, unit: Unit::Steps, age: 120, left: Some(336.25) },
        Reason::SettingChanged {
            setting: "learning_rate".into(),
            old: Some(json!(5e-4)),
            new: Some(json!(6e-4)),
            old_is_default: false,
            new_is_default: false,
            place: Some(place),
        },
        Reason::SettingChanged {
            setting: "vocabulary".into(),
            old: Some(json!(1024)),
            new: Some(json!(32768)),
            old_is_default: false,
            new_is_default: true,
            place: None,
        },
        Reason::SettingChanged {
            setting: "init".into(),
            old: None,
            new: Some(Value::Null),
            old_is_default: true,
            new_is_default: true,
            place: None,
        },
        Reason::KindChanged { old: "license revision 1".into(), new: "license revision 2".into() },
        Reason::InputChanged { port: "documents".into(), from: Some(name("import")), old, new },
        Reason::InputChanged { port: "documents".into(), from: None, old: None, new },
        Reason::SourcesChanged { added: 2, removed: 1 },
        Reason::SourceMissing { problem: "no file matches 'data/*.gz'".into() },
        Reason::SourcesAbsent,
        Reason::Damaged { what: "blob 0123456789ab is missing".into() },
        Reason::Removed,
        Reason::Upstream { stages: vec![name("pack"), name("tokenizer")] },
        Reason::UpstreamHeld { stages: vec![name("pack")] },
        Reason::Held { holder: Some(holder) },
        Reason::Held { holder: None },
        Reason::SameKey { stage: name("twin") },
        Reason::SharedDamage { stage: name("twin") },
        Reason::MaybeSameKey { stage: name("twin") },
        Reason::Forced,
    ]
}

fn tag(reason: &Reason) -> &'static str {
    match reason {
        Reason::NeverBuilt { .. } => "never-built",
        Reason::Resumes { .. } => "resumes",
        Reason::SettingChanged { .. } => "setting-changed",
        Reason::KindChanged { .. } => "kind-changed",
        Reason::InputChanged { .. } => "input-changed",
        Reason::SourcesChanged { .. } => "sources-changed",
        Reason::SharedDamage { .. } => "shared-damage",
        Reason::SourceMissing { .. } => "source-missing",
        Reason::SourcesAbsent => "sources-absent",
        Reason::Damaged { .. } => "damaged",
        Reason::Removed => "removed",
        Reason::Upstream { .. } => "upstream",
        Reason::UpstreamHeld { .. } => "upstream-held",
        Reason::Held { .. } => "held",
        Reason::SameKey { .. } => "same-key",
        Reason::MaybeSameKey { .. } => "maybe-same-key",
        Reason::Forced => "forced",
    }
}

#[test]
fn reasons_and_states_are_as_published() {
    let mut reasons = Vec::new();
    for reason in every_reason() {
        let mut value = json!(reason);
        assert_eq!(value["reason"], tag(&reason));
        // How long the holder has held it is that of the day.
        let text = reason.text();
        let lasting = text.rsplit_once(", for ").map_or(text.as_str(), |(lasting, _)| lasting);
        value["text"] = lasting.into();
        reasons.push(value);
    }
    let states: Vec<Value> = State::ALL.iter().map(|state| json!({ "state": state, "text": state.text() })).collect();
    let actual = format!("{:#}\n", json!({ "reasons": reasons, "states": states }));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/json/reasons.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &actual).unwrap();
    }
    assert_eq!(actual, fs::read_to_string(&path).unwrap(), "UPDATE_GOLDEN=1 writes {}", path.display());
}

#[test]
fn every_reason_is_in_the_docs() {
    let docs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md")).unwrap();
    for reason in every_reason() {
        let row = docs.lines().find(|line| line.starts_with(&format!("| `{}`", tag(&reason))));
        let row = row.unwrap_or_else(|| panic!("docs/json.md has no row for {}", tag(&reason)));
        for field in json!(reason).as_object().unwrap().keys().filter(|field| *field != "reason") {
            assert!(row.contains(&format!("`{field}`")), "{row} does not name {field}");
        }
    }
}
