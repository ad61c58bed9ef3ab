//! `pipeline generate`: the text of a manifest's model, and of an exported one.

use crate::bench::Bench;

#[test]
fn a_model_completes_a_prompt_from_anywhere_with_equal_text() {
    let bench = Bench::small();
    bench.run();
    let prompt = "def add(a, b):\n";
    let generate = |arguments: &[&str]| {
        let ran = bench.pipeline(&[&["generate"], arguments, &["--device", "cpu"]].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.stdout
    };
    let text = generate(&["run.toml", prompt]);
    assert!(text.starts_with(prompt), "{text}");
    let exported = bench.pipeline(&["export", "run.toml", "train.model", "model"]);
    assert_eq!(exported.code, 0, "{}", exported.stderr);
    assert_eq!(generate(&["model", prompt]), text);
    bench.write("prompt.py", prompt);
    assert_eq!(generate(&["model", "--file", "prompt.py"]), text);
    assert_eq!(generate(&["run.toml", prompt, "--stage", "train", "--seed", "1"]), text);

    let json =
        bench.json(&["generate", "model", prompt, "--device", "cpu", "-n", "3", "--max-tokens", "5", "--no-stop"]);
    let completions = json["completions"].as_array().unwrap();
    assert_eq!((&json["prompt"], completions.len()), (&prompt.into(), 3));
    assert!(completions.iter().all(|completion| completion["tokens"].as_u64().unwrap() <= 5), "{json}");
    let greedy = generate(&["model", prompt, "--temperature", "0", "--no-stop"]);
    assert_eq!(generate(&["model", prompt, "--temperature", "0", "--no-stop", "--seed", "2"]), greedy);
}

#[test]
fn what_cannot_be_completed_is_refused() {
    let bench = Bench::small();
    for (arguments, code, message) in [
        (&["run.toml", "x"][..], 1, "stage 'train' has no output yet"),
        (&["run.toml", "x", "--stage", "pack"], 2, "stage 'pack' gives no model"),
        (&["none", "x"], 2, "'none' is neither a directory nor a manifest"),
        (&[".", "x"], 1, "has no tokenizer.json"),
        (&["run.toml", "x", "--file", "y"], 2, "cannot be used with"),
        (&["run.toml", "x", "--temperature", "nan"], 2, "expected a number from 0 to 1000"),
        (&["run.toml", "x", "--top-p", "0"], 2, "expected a number above 0"),
        (&["run.toml", "x", "-n", "0"], 2, "invalid value '0'"),
    ] {
        let ran = bench.pipeline(&[&["generate"], arguments].concat());
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(message), "{arguments:?}: {}", ran.stderr);
    }
}
