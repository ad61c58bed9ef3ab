//! Tests of completions in the stage kind `eval-completions`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;

use contract::error::Failure;
use contract::harness::Harness;
use contract::{Cancel, InputTree, Kind, Note, Progress, StageError};
use evaluate::EvalCompletions;
use evaluate::completion_tests::{CompletionTests, WithoutSandbox};
use evaluate::default_prompts::default_prompts;
use sandbox::{Sandbox, Settings};
use serde_json::{Value, json};
use support::{model_tree, reciting_gpt2, tokenizer_tree};
use tempfile::TempDir;

/// Whether programs can run here; prints why not.
fn has_sandbox() -> bool {
    match Sandbox::new(Settings::default()) {
        Ok(_) => true,
        Err(reason) if reason.is_lasting() => {
            eprintln!("skipped: {reason}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

struct Fixture {
    harness: Harness,
    _folder: TempDir,
}

/// A fixture whose model writes `text` after each prompt that ends with none of its letters.
fn reciting(text: &str) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(folder.path());
    let (config, model) = reciting_gpt2(text);
    harness
        .connect("model", &model_tree(&folder.path().join("model"), &config, &model))
        .connect("tokenizer", &tokenizer_tree(&folder.path().join("tokenizer"), 0));
    Fixture { harness, _folder: folder }
}

impl Fixture {
    fn tree(&mut self, settings: Value) -> InputTree {
        self.harness.run::<EvalCompletions>(settings).unwrap().remove("report").unwrap()
    }

    fn report(&mut self, settings: Value) -> Value {
        let tree = self.tree(settings);
        serde_json::from_slice(&fs::read(&tree.required("completions.json").unwrap().location).unwrap()).unwrap()
    }

    fn failure(&mut self, settings: Value) -> Failure {
        match self.harness.run::<EvalCompletions>(settings) {
            Err(StageError::Failed(failure)) => *failure,
            other => panic!("{other:?}"),
        }
    }
}

/// These prompts, each completed twice and greedily.
fn twice(prompts: Value) -> Value {
    json!({ "prompts": prompts, "completions": 2, "temperature": 0.0 })
}

fn function(tests: &str, solution: &str) -> Value {
    json!({ "text": "def f(x): return ", "tests": tests, "solution": solution })
}

#[test]
fn completions_pass_or_fail_by_the_tests_of_their_prompt() {
    if !has_sandbox() {
        return;
    }
    let prompts = json!([
        function("assert f(2) == 18\nassert f(-1) == -9", "9*x"),
        { "text": "def f(x): return ", "max_length": 40 },
        function("assert f(2) == 4", "x+x"),
        { "text": "y = [x, ", "parses": true },
        { "text": "f(x) = ", "parses": true },
        { "text": "def f(z): return ", "setup": "x = 5", "tests": "assert f(0) == 45", "solution": "45" },
        { "text": "def f(z): return ", "tests": "assert f(0) == 45", "solution": "45" },
    ]);
    let report = reciting("x*9").report(twice(prompts));
    let results = report["prompts"].as_array().unwrap().iter().map(|prompt| {
        let completion = &prompt["completions"][1];
        (prompt["passed"].clone(), completion["passed"].clone(), completion["result"].as_str().map(str::to_owned))
    });
    let results: Vec<_> = results.collect();
    let passed = |result: &str| (json!(2), json!(true), Some(result.to_owned()));
    let failed = |result: &str| (json!(0), json!(false), Some(result.to_owned()));
    assert_eq!(results[0], passed("passed"));
    assert_eq!(results[1], (Value::Null, Value::Null, None), "a prompt without tests");
    assert_eq!(results[2], failed("failed: AssertionError"));
    // `y = [x, x*9` lacks its bracket.
    assert!(results[3].2.as_ref().unwrap().starts_with("failed: SyntaxError"), "{:?}", results[3]);
    assert!(results[4].2.as_ref().unwrap().starts_with("failed: SyntaxError"), "{:?}", results[4]);
    assert_eq!(results[5], passed("passed"), "the setup runs before the text");
    assert!(results[6].2.as_ref().unwrap().starts_with("failed: NameError"), "{:?}", results[6]);
    assert_eq!(report["tests"]["sandbox"], sandbox::REVISION);
    assert!(report["tests"]["python"].as_str().unwrap().starts_with("3."));
    assert_eq!(report["prompts"][1]["completions"][0].as_object().unwrap().len(), 4);
}

#[test]
fn what_parses_is_not_run_and_a_blank_completion_does_not_pass() {
    if !has_sandbox() {
        return;
    }
    // It would fail, or take all its time, if it ran. The text has quotes, a backslash and letters of several bytes.
    let text = "raise ValueError('\"\\\\é\u{1f600}') ; y = ";
    let prompts = json!([{ "text": text, "parses": true }]);
    assert_eq!(reciting("x*9").report(twice(prompts.clone()))["prompts"][0]["passed"], 2);
    let report = reciting(" \t\n#").report(twice(json!([{ "text": "y = 1", "parses": true }])));
    let completion = &report["prompts"][0]["completions"][0];
    assert_eq!((&completion["blank"], &completion["passed"]), (&json!(true), &json!(false)));
    assert_eq!(completion["result"], "failed: blank");
}

#[test]
fn the_page_says_how_many_completions_of_each_prompt_passed() {
    if !has_sandbox() {
        return;
    }
    let mut fixture = reciting("x*9");
    let prompts =
        json!([function("assert f(2) == 18", "9*x"), { "text": "y = " }, function("assert f(2) == 4", "x+x")]);
    let tree = fixture.tree(twice(prompts));
    let page = fs::read_to_string(&tree.required("completions.md").unwrap().location).unwrap();
    assert!(
        page.contains("\n| prompt | passed |\n|---|---:|\n| 1 | 2 of 2 |\n| 2 | not tested |\n| 3 | 0 of 2 |\n"),
        "{page}"
    );
    assert!(
        page.contains("1 of 2 completions distinct, 2 passed.\n\n1 of 2 (3 tokens, ended by end-of-text; passed):\n"),
        "{page}"
    );
    assert!(page.contains("2 of 2 (3 tokens, ended by end-of-text; failed: AssertionError):\n"), "{page}");
    assert!(page.contains("1 of 2 completions distinct.\n\n1 of 2 (3 tokens, ended by end-of-text):\n"), "{page}");
}

#[test]
fn results_are_the_same_for_any_number_of_workers() {
    if !has_sandbox() {
        return;
    }
    let mut fixture = reciting("x*9");
    let settings = twice(json!([function("assert f(2) == 18", "9*x"), function("assert f(2) == 4", "x+x")]));
    let first = fixture.tree(settings.clone()).digest;
    fixture.harness.resources.threads = 1;
    assert_eq!(fixture.tree(settings).digest, first);
}

#[test]
fn tests_that_their_solution_does_not_pass_are_refused() {
    if !has_sandbox() {
        return;
    }
    let failure = reciting("x*9").failure(twice(json!([{ "text": "a" }, function("assert f(2) == 18", "x")])));
    let message = "the evaluator's self-test failed: 1 of 1 reference solution did not pass: prompt 2 (assertion: AssertionError)";
    assert_eq!(failure.message, message);
    // So are tests that an empty completion passes.
    let prompt = json!({ "text": "def f(x):\n    return 1\n", "tests": "assert f(2) == 1", "solution": "#" });
    let failure = reciting("x*9").failure(twice(json!([prompt])));
    assert_eq!(failure.message, "the evaluator's self-test failed: 1 of 1 empty completion passed: prompt 1");
}

#[test]
fn without_an_interpreter_completions_are_written_or_the_stage_fails() {
    let mut fixture = reciting("x*9");
    let mut settings = twice(json!([function("assert f(2) == 18", "9*x")]));
    settings["python"] = json!("/nowhere/python3");
    let tree = fixture.tree(settings.clone());
    let page = fs::read_to_string(&tree.required("completions.md").unwrap().location).unwrap();
    assert!(page.contains("\nThe completions were not tested: ") && page.contains("```python\nx*9\n```"), "{page}");
    let warning = |note| if let Note::Warning { text } = note { Some(text) } else { None };
    let warnings: Vec<_> = fixture.harness.progress.drain().into_iter().filter_map(warning).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("without_sandbox = \"fail\""), "{warnings:?}");
    let report = fixture.report(settings.clone());
    assert!(report["tests"]["skipped"].is_string() && report["prompts"][0].get("passed").is_none(), "{report}");
    settings["without_sandbox"] = json!("fail");
    let failure = fixture.failure(settings.clone());
    let lacks = failure.message.contains("/nowhere/python3") || failure.message.contains("needs Linux");
    assert!(lacks && failure.hint.is_some(), "{failure}");
    // Without tests it is not looked for.
    settings["prompts"] = json!([{ "text": "x" }]);
    reciting("abc").tree(settings);
}

#[test]
fn settings_of_tests_that_do_not_fit_are_problems() {
    let problems = |prompt: Value| {
        let settings = json!({ "prompts": [{ "text": "x" }, prompt] });
        let problems = Kind::of::<EvalCompletions>().parse(settings.as_object().unwrap()).err().unwrap_or_default();
        problems.into_iter().map(|problem| (problem.setting, problem.message)).collect::<Vec<_>>()
    };
    let of = |setting: &str, message: &str| vec![(format!("prompts[1].{setting}"), message.to_owned())];
    assert_eq!(problems(function("assert f(1)", "x")), []);
    assert_eq!(problems(json!({ "text": "", "tests": "assert f(1)" })), of("tests", "requires a solution"));
    assert_eq!(problems(json!({ "text": "", "solution": "x" })), of("solution", "requires tests"));
    assert_eq!(problems(json!({ "text": "", "setup": "x", "parses": true })), of("setup", "requires tests"));
    assert_eq!(problems(function("assert g(1)", "x")), of("tests", "names no function of the program"));
    let both = json!({ "text": "def f(x): return ", "tests": "f(1)", "solution": "x", "parses": true });
    assert_eq!(problems(both), of("parses", "cannot be combined with tests"));
}

#[test]
fn a_prompt_without_tests_has_the_key_that_it_had_before_there_were_tests() {
    let stage = Kind::of::<EvalCompletions>()
        .parse(json!({ "prompts": [{ "text": "x" }], "python": "p" }).as_object().unwrap());
    assert_eq!(stage.unwrap().spec()["prompts"], json!([{ "text": "x", "max_length": 64 }]));
}

#[test]
fn the_tests_of_the_default_prompts_take_right_completions_and_no_wrong_ones() {
    let passes = |text| (text, true);
    let fails = |text| (text, false);
    let completions = [
        vec![
            passes("\n    return b * a"),
            passes("\n    \"\"\"Multiplies.\"\"\"\n    area = a * b\n    return area"),
            fails("\n    return a * b / 2"),
            fails("\n    return a + b"),
            fails("\n    return 6"),
            fails(""),
        ],
        vec![
            passes("\n    return re.findall(r'href=\"([^\"]+)\"', html)"),
            passes("\n    if not html:\n        return []\n    return set(re.findall('https?://[^\"]+', html))"),
            fails("\n    return re.findall(r'href=\"(/[^\"]+)\"', html)"),
            fails("\n    return html"),
            fails("\n    return []"),
        ],
        vec![
            passes("\n    return np.mean(a)"),
            passes("\n    return sum(a)/len(a)"),
            passes("\n    return np.array(np.sum(a) / np.size(a)) if False else np.average(a)"),
            fails("\n    return np.sum(a)"),
            fails("\n    return np.median(a)"),
            fails("\n    return a[0]"),
        ],
        vec![
            passes("\nforest = RandomForestClassifier(n_estimators=20)\nforest.fit(X, y)"),
            fails("\nforest = RandomForestClassifier(n_estimators=20"),
            fails(" \n"),
        ],
    ];
    let texts: Vec<Vec<&str>> = completions.iter().map(|of| of.iter().map(|(text, _)| *text).collect()).collect();
    let expected: Vec<Vec<bool>> =
        completions.iter().map(|of| of.iter().map(|(_, passes)| *passes).collect()).collect();
    let prompts = default_prompts();
    let prepared = CompletionTests::prepare(&prompts, "python3", &[].into(), WithoutSandbox::Fail, 2);
    let tests = match prepared {
        Ok(tests) => tests.unwrap(),
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let (_, results) = tests.run(&texts, &Cancel::default(), &Progress::default()).unwrap();
    let found: Vec<Vec<bool>> = results.iter().map(|of| of.iter().map(|result| result.passed).collect()).collect();
    assert_eq!(found, expected, "{results:#?}");
}
