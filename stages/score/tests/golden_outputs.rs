//! What each kind writes for a fixed input, against `golden_outputs.txt`.
//!
//! A line that differs means that equal inputs and settings no longer give equal bytes: bump the kind's `REVISION`, so that its outputs are made
//! anew, and write the new lines down. What depends on the interpreter's version or on the sandbox's revision is left out: both are
//! in the key.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fmt::Write;
use std::path::Path;

use contract::harness::Harness;
use contract::{InputTree, Outputs};
use score::{EvalCode, Problems, RunCode};
use serde_json::{Map, Value, json};
use support::{has_sandbox, multiple};

/// A tree with one file of these lines.
fn tree(folder: &Path, name: &str, lines: &[Value]) -> InputTree {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let location = folder.join(name);
    std::fs::write(&location, text).unwrap();
    support::tree(name, &location)
}

fn problems(folder: &Path, name: &str, lines: &[Value], settings: Value) -> InputTree {
    let file = tree(folder, name, lines);
    Harness::new(&folder.join(format!("{name}.run"))).connect("file", &file).run::<Problems>(settings).unwrap()["problems"]
        .clone()
}

/// The lines of a file as objects, without the fields of an interpreter and of the sandbox's revision, which is in that of the kind.
fn objects(tree: &InputTree, name: &str) -> Vec<Map<String, Value>> {
    let content = std::fs::read_to_string(&tree.required(name).unwrap().location).unwrap();
    let object = |line: &str| {
        let mut object: Map<String, Value> = serde_json::from_str(line).unwrap();
        ["python", "program", "sandbox"].iter().for_each(|field| drop(object.remove(*field)));
        object
    };
    match name.ends_with(".jsonl") {
        true => content.lines().map(object).collect(),
        false => vec![object(&content)],
    }
}

#[test]
fn outputs_are_those_of_their_revision() {
    if !has_sandbox() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut found = String::new();
    let mbpp = json!({
        "task_id": 1, "text": "Add.", "code": "def add(a, b):\n    return a + b", "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"],
        "test_setup_code": "import math",
    });
    let evalplus = json!({
        "task_id": "e/0", "prompt": "def half(x):\n", "entry_point": "half", "canonical_solution": "    return x / 2\n",
        "base_input": [[1]], "plus_input": [[3], [1e300]], "atol": 0,
    });
    let human_eval: Vec<_> = (0..3).map(multiple).collect();
    for (name, lines, settings) in [
        ("mbpp", std::slice::from_ref(&mbpp), json!({"form": "mbpp"})),
        ("mbpp.verbatim", std::slice::from_ref(&mbpp), json!({"form": "mbpp", "mbpp_prompt": "verbatim"})),
        ("mbpp.instruction", std::slice::from_ref(&mbpp), json!({"form": "mbpp", "mbpp_prompt": "instruction"})),
        ("evalplus", std::slice::from_ref(&evalplus), json!({"form": "evalplus"})),
        ("human-eval", &human_eval, json!({})),
    ] {
        writeln!(found, "problems.{name} {}", &problems(folder, name, lines, settings).digest.to_string()[..16])
            .unwrap();
    }

    let mut samples = Vec::new();
    for temperature in [0.2, 0.8] {
        for number in 0..3 {
            let right = format!("    return x * {number}");
            let bodies = [&right, "    return x + 5", "    return y", "    return x +", "    while True: pass"];
            for (index, body) in bodies.iter().cycle().skip(2 * number).take(4).enumerate() {
                let completion = format!("{body}\n# temperature {temperature}\n");
                samples.push(json!({"task_id": format!("multiple/{number}"), "completion": completion, "temperature": temperature, "index": index}));
            }
        }
    }
    let mut harness = Harness::new(&folder.join("run-code"));
    harness
        .connect("samples", &tree(folder, "samples.jsonl", &samples))
        .connect("problems", &problems(folder, "problems.jsonl", &human_eval, json!({})));
    let results = harness.run::<RunCode>(json!({"limits": {"cpu_seconds": 0.5}})).unwrap()["results"].clone();
    for name in ["run.json", "results.jsonl"] {
        for object in objects(&results, name) {
            let text = Value::Object(object).to_string();
            // The words of a syntax error are those of the version.
            let text = text.split("SyntaxError").next().unwrap();
            writeln!(found, "run-code.{name} {text}").unwrap();
        }
    }

    // The same under a fixed version, as `eval-code` reads it.
    let outputs = Outputs::stage(&folder.join("fixed"), ["x".to_owned()]).unwrap();
    let output = outputs.tree("x").unwrap();
    let mut facts = objects(&results, "run.json").remove(0);
    facts.extend([("python".to_owned(), json!("3.12.1")), ("sandbox".to_owned(), json!(3))]);
    output.write_json("run.json", &facts).unwrap();
    let mut file = output.create("results.jsonl").unwrap();
    for mut object in objects(&results, "results.jsonl") {
        object.insert("program".to_owned(), json!("0".repeat(64)));
        if object["failure"] == "syntax" {
            object.insert("detail".to_owned(), json!("SyntaxError"));
        }
        file.write_json_line(&object).unwrap();
    }
    file.finish().unwrap();
    let (tree, files) = outputs.finish().unwrap().remove("x").unwrap();
    let files = files.into_iter().map(|(entry, location)| contract::InputFile {
        path: entry.path,
        location,
        digest: entry.digest,
        size: entry.size,
    });
    let fixed = InputTree { digest: tree.digest(), files: files.collect() };
    for (name, settings) in [("all", json!({"draws": 300})), ("one", json!({"ks": [2], "draws": 100, "level": 0.9}))] {
        let mut harness = Harness::new(&folder.join(format!("eval-code.{name}")));
        harness.connect("results", &fixed);
        if name == "one" {
            harness.connect("baseline", &fixed);
        }
        let report = harness.run::<EvalCode>(settings).unwrap()["report"].clone();
        for file in &report.files {
            writeln!(found, "eval-code.{name}.{} {}", file.path.as_str(), &file.digest.to_string()[..16]).unwrap();
        }
    }
    let golden = include_str!("golden_outputs.txt");
    assert!(
        found == golden,
        "bump the REVISION of the kind that differs, then write this to golden_outputs.txt:\n{found}"
    );
}
