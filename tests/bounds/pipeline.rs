//! A manifest with a stage of every kind, small enough to run, and the same with one setting changed.

use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;

use contract::harness::Harness;
use contract::{InputTree, Kind, StageError};
use pipeline::kinds::kinds;
use pipeline::manifest::{Diagnostics, Manifest, Overrides};
use serde_json::Map;
use tempfile::TempDir;

/// A file with one problem.
const PROBLEMS: &str = concat!("'", env!("CARGO_MANIFEST_DIR"), "/tests/bounds/problems.jsonl'");

/// Kind, inputs and settings of each stage; it is named after its kind.
const STAGES: [(&str, &str, &[(&str, &str)]); 16] = [
    ("sample", "", &[("repositories", "3"), ("files_per_repository", "2"), ("shards", "2")]),
    ("import", "export = 'sample'", &[("min_size", "1")]),
    ("license", "documents = 'import'", &[("allow", "['mit', 'apache-2.0', 'bsd-3-clause', 'gpl-3.0']")]),
    ("quality", "documents = 'license'", &[]),
    ("dedup", "documents = 'license'", &[]),
    ("split", "documents = 'license'", &[("fraction", "0.4")]),
    ("tokenizer", "documents = 'license'", &[("vocabulary", "300")]),
    ("pack", "train = 'license', valid = 'license', tokenizer = 'tokenizer'", &[("sequence_length", "8")]),
    (
        "train",
        "train = 'pack.train', valid = 'pack.valid', tokenizer = 'tokenizer'",
        &[
            ("layers", "1"),
            ("width", "4"),
            ("heads", "1"),
            ("batch", "1"),
            ("steps", "1"),
            ("learning_rate", "0.01"),
            ("validate_sequences", "2"),
        ],
    ),
    ("eval-loss", "model = 'train', tokens = 'pack.valid', tokenizer = 'tokenizer'", &[("sequences", "64")]),
    (
        "eval-completions",
        "model = 'train', tokenizer = 'tokenizer'",
        &[("prompts", "[{ text = 'x', max_length = 6 }]"), ("completions", "1")],
    ),
    ("problems", "", &[("source", PROBLEMS)]),
    ("sample-code", "model = 'train', tokenizer = 'tokenizer', problems = 'problems'", &[]),
    ("run-code", "samples = 'sample-code', problems = 'problems'", &[]),
    ("eval-code", "results = 'run-code'", &[]),
    ("command", "", &[("program", "'/bin/sh'"), ("arguments", "['-c', 'echo x > {output}/x']")]),
];

/// The real kinds; making their schemas takes longer than reading a manifest.
pub static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(kinds);

/// A path as it is written: the one prompt has the index 0.
pub fn written(path: &str) -> String {
    path.replace("[]", "[0]")
}

/// The manifest with one setting changed.
pub struct Stages {
    folder: TempDir,
    text: String,
}

impl Stages {
    pub fn with(kind: &str, path: &str, value: &str) -> Self {
        let mut text = String::new();
        for (name, inputs, settings) in STAGES {
            text += &format!("[stages.{name}]\nkind = '{name}'\n");
            if !inputs.is_empty() {
                text += &format!("inputs = {{ {inputs} }}\n");
            }
            let changed = |key: &str| name == kind && (key == path || path.starts_with(&format!("{key}[]")));
            let kept = settings.iter().filter(|(key, _)| !changed(key));
            let others: String = kept.map(|(key, value)| format!("{key} = {value}\n")).collect();
            if name == kind {
                text += &match path.split_once("[]") {
                    Some((list, "")) => format!("{list} = [{value}]\n"),
                    Some((list, item)) => format!("{list} = [{{ text = 'x', {} = {value} }}]\n", &item[1..]),
                    None => format!("{path} = {value}\n"),
                };
            }
            text += &others;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("m.toml"), &text).unwrap();
        Self { folder, text }
    }

    pub fn load(&self) -> Result<Manifest, Diagnostics> {
        let path = self.folder.path().join("m.toml");
        pipeline::manifest::load(&path, &Overrides::default(), &KINDS)
    }

    /// The line of the changed setting.
    pub fn line(&self, kind: &str) -> usize {
        let header = self.text.lines().position(|line| line == format!("[stages.{kind}]")).unwrap();
        let after = self
            .text
            .lines()
            .skip(header)
            .position(|line| ["[", "kind = ", "inputs = "].iter().all(|start| !line.starts_with(start)));
        header + after.unwrap() + 1
    }
}

/// The stages, run once; any one of them runs again with a setting changed.
pub struct Built {
    folder: TempDir,
    outputs: BTreeMap<String, BTreeMap<String, InputTree>>,
    manifest: Manifest,
}

impl Built {
    pub fn new() -> Self {
        let manifest = Stages::with("sample", "bad_rows", "0").load().unwrap_or_else(|problems| panic!("{problems}"));
        let folder = tempfile::tempdir().unwrap();
        let mut built = Self { folder, outputs: BTreeMap::new(), manifest };
        for (name, ..) in STAGES {
            let stage = &built.manifest.stages[name];
            let settings = stage.stage.spec().iter().chain(stage.stage.exec());
            let settings = settings.map(|(key, value)| (key.clone(), value.clone())).collect();
            let outputs = built.harness(name).run_kind(&stage.kind, &settings);
            match outputs {
                Ok(outputs) => drop(built.outputs.insert(name.to_owned(), outputs)),
                // It needs Python, and namespaces.
                Err(error) if name == "run-code" => eprintln!("skipped: run-code and eval-code: {error}"),
                Err(_) if name == "eval-code" => {}
                Err(error) => panic!("{name}: {error}"),
            }
        }
        built
    }

    fn harness(&self, name: &str) -> Harness {
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        let mut harness = Harness::new(&folder);
        for (port, edge) in &self.manifest.stages[name].inputs {
            if let Some(outputs) = self.outputs.get(edge.stage.as_str()) {
                harness.connect(port, &outputs[&edge.output]);
            }
        }
        harness
    }

    /// Runs a stage with one setting changed; `None` where the manifest is refused, or the memory that it asks for would
    /// be. One that takes long is asked to stop before it starts.
    pub fn run(&self, kind: &Kind, path: &str, value: &str) -> Option<Result<(), StageError>> {
        let manifest = Stages::with(kind.name, path, value).load().ok()?;
        let stage = &manifest.stages[kind.name];
        let settings: Map<_, _> = stage.stage.spec().clone().into_iter().chain(stage.stage.exec().clone()).collect();
        let mut harness = self.harness(kind.name);
        let memory = stage.cost.memory.unwrap_or(0).max(stage.stage.needs().memory);
        if memory > 4 << 30 {
            return None;
        }
        let long = ["repositories", "files_per_repository", "shards", "bad_rows", "layers", "completions", "samples"];
        if long.contains(&path) && value.len() > 3 || stage.cost.flops.is_some_and(|flops| flops > 1e10) {
            harness.cancel.set();
        }
        Some(harness.run_kind(kind, &settings).map(drop))
    }
}
