//! Files of problems and samples, and whether this machine has a sandbox.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};

use contract::{Cancel, Digest, InputFile, InputTree, Progress};
use sandbox::{Sandbox, Settings};
use score::evaluator::{RunOptions, default_limits};
use score::truncate::Preset;
use score::{Scored, Scoring};
use serde_json::{Value, json};

/// Whether programs can run here; prints why not.
pub fn has_sandbox() -> bool {
    match Sandbox::new(Settings::default()) {
        Ok(_) => true,
        Err(reason) if reason.is_lasting() => {
            eprintln!("skipped: {reason}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

/// HumanEval's problems: the file that `HUMAN_EVAL` names, else `shared/data` beside the repository. Prints why there are none.
pub fn human_eval() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/HumanEval.jsonl.gz");
    let path = std::env::var_os("HUMAN_EVAL").map_or_else(beside, PathBuf::from);
    if !path.is_file() {
        eprintln!("skipped: no HumanEval.jsonl.gz; set HUMAN_EVAL to its path");
        return None;
    }
    Some(path)
}

pub fn options(truncation: Preset, workers: usize) -> RunOptions {
    RunOptions {
        truncation: truncation.truncation(),
        limits: default_limits(),
        python: "python3".into(),
        dangerously_run_without: [].into(),
        workers,
    }
}

/// Scores files without truncation; `settings` are those of the kinds.
pub fn score(problems: &Path, samples: &Path, settings: Value) -> contract::Result<Scored> {
    let mut all = json!({"truncation": "none", "draws": 1000});
    all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    score::score(&Scoring {
        samples,
        baseline: None,
        problems,
        settings: &serde_json::from_value(all).unwrap(),
        threads: 2,
        seed: 1,
        cache: None,
        cancel: &Cancel::default(),
        progress: &Progress::default(),
    })
}

/// Writes JSON lines.
pub fn write_lines(path: &Path, lines: &[Value]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(path, text).unwrap();
}

/// A small problem in human-eval's form: `fN` returns the N-th multiple of its argument.
pub fn multiple(number: usize) -> Value {
    json!({
        "task_id": format!("multiple/{number}"),
        "prompt": format!("def f{number}(x):\n    \"\"\"Multiplies by {number}.\"\"\"\n"),
        "canonical_solution": format!("    return {number} * x\n"),
        "test": format!("def check(candidate):\n    assert candidate(2) == {}\n    assert candidate(-1) == -{number}\n", 2 * number),
        "entry_point": format!("f{number}"),
    })
}

/// A tree of the store with one file.
pub fn tree(name: &str, location: &Path) -> InputTree {
    let digest = Digest::of_file(location).unwrap();
    let size = std::fs::metadata(location).unwrap().len();
    InputTree {
        digest,
        files: vec![InputFile { path: name.parse().unwrap(), location: location.to_owned(), digest, size }],
    }
}
