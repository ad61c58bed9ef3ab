//! Samples of code against unit tests: `pipeline score`, and the stage kinds `run-code` and `eval-code`.

use crate::bench::{Bench, shell};

const PROBLEMS: &str = r#"{"task_id": "one", "prompt": "def one():\n", "canonical_solution": "    return 1\n", "test": "def check(candidate):\n    assert candidate() == 1\n", "entry_point": "one"}
{"task_id": "two", "prompt": "def two():\n", "canonical_solution": "    return 2\n", "test": "def check(candidate):\n    assert candidate() == 2\n", "entry_point": "two"}
"#;
/// Right for the first problem; of the second, one sample of two.
const SAMPLES: &str = r#"{"task_id": "one", "completion": "    return 1\n"}
{"task_id": "one", "completion": "    return 2 - 1\n"}
{"task_id": "two", "completion": "    return 2\n"}
{"task_id": "two", "completion": "    import os; os._exit(0)\n"}
"#;

/// A project with the samples, or nothing where there is no Python.
fn project() -> Option<Bench> {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: there is no python3");
        return None;
    }
    let samples = shell("samples", "cp \"$0\" {output:files}/samples.jsonl", "files = [\"samples.jsonl\"]");
    let samples = samples.replace("samples.jsonl''']", "samples.jsonl''', \"{source:samples.jsonl}\"]");
    let bench = Bench::new(&format!(
        "{samples}[stages.problems]\nkind = \"problems\"\nsource = \"problems.jsonl\"\n\
         [stages.tests]\nkind = \"run-code\"\ninputs = {{ samples = \"samples\", problems = \"problems\" }}\n\
         [stages.score]\nkind = \"eval-code\"\ninput = \"tests\"\nks = [1]\n"
    ));
    bench.write("problems.jsonl", PROBLEMS).write("samples.jsonl", SAMPLES);
    Some(bench)
}

#[test]
fn a_file_of_samples_is_scored() {
    let Some(bench) = project() else { return };
    let score = ["score", "samples.jsonl", "--problems", "problems.jsonl"];
    let scored = bench.pipeline(&score);
    assert_eq!(scored.code, 0, "{}", scored.stderr);
    assert!(scored.stdout.starts_with("pass@1 75.00% ["), "{}", scored.stdout);
    assert!(scored.stdout.ends_with("]; 2 of 2 problems solved\n"), "{}", scored.stdout);
    let report = bench.json(&[&score[..], &["--k", "1,2", "--workers", "1", "--report", "report"]].concat());
    assert_eq!(report["best"][1]["pass_at_k"], 1.0, "{report}");
    for file in ["report.json", "report.md", "report.html", "pass-at-k.svg"] {
        assert!(bench.path().join("report").join(file).is_file(), "{file}");
    }
    for (arguments, code, message) in [
        (&["--k", "3"][..], 1, "pass@3 needs at least 3 samples"),
        (&["--form", "other"], 2, "expected one of `human-eval`"),
        (&["--baseline", "none.jsonl"], 1, "none.jsonl: cannot read the file"),
        (&["--python", "/nowhere/python3"], 1, "Python"),
    ] {
        let ran = bench.pipeline(&[&score[..], arguments].concat());
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(message), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn a_changed_k_runs_no_program_and_a_changed_limit_makes_no_samples() {
    let Some(bench) = project() else { return };
    assert_eq!(bench.run(), ["problems", "samples", "score", "tests"]);
    assert_eq!(bench.run_with(&["--set", "stages.score.ks=[1,2]"]), ["score"]);
    assert_eq!(bench.run_with(&["--set", "stages.tests.limits.cpu_seconds=2.5"]), ["score", "tests"]);
    bench.write("problems.jsonl", PROBLEMS.replace("== 2", "== 2.0"));
    assert_eq!(bench.run(), ["problems", "score", "tests"]);
}

#[test]
fn tests_that_no_reference_solution_passes_are_refused() {
    let Some(bench) = project() else { return };
    bench.write("problems.jsonl", PROBLEMS.replace("== 2", "== 3"));
    let ran = bench.pipeline(&["run", "run.toml"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("two"), "{}", ran.stderr);
}

#[test]
fn an_optional_stage_without_python_is_skipped_and_the_run_is_done() {
    let Some(bench) = project() else { return };
    let without = ["run", "run.toml", "--set", "stages.tests.python=\"/nowhere/python3\""];
    let failed = bench.pipeline(&without);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    let ran = bench.pipeline(&[&without[..], &["--set", "stages.tests.optional=true"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines: Vec<_> = ran.stderr.lines().filter(|line| line.contains("skipped")).collect();
    assert!(lines[0].contains("tests") && lines[0].contains("/nowhere/python3"), "{lines:?}");
    assert!(lines[1].contains("score") && lines[1].contains("it depends on tests"), "{lines:?}");
    assert!(bench.path().join("cache/runs/run/latest/run.lock").is_file());
    // With Python the skipped stages run.
    assert_eq!(bench.run(), ["score", "tests"]);
}

/// The text of a file of the latest run.
fn latest(bench: &Bench, path: &str) -> String {
    std::fs::read_to_string(bench.cache().join("runs/run/latest").join(path)).unwrap()
}

#[test]
fn without_python_completions_are_written_and_one_line_says_that_they_are_not_tested() {
    let bench = Bench::small();
    let tested = "prompts = [{ text = \"def add(a, b):\", max_length = 48, solution = \" return a + b\", tests = \"assert add(1, 2) == 3\" }]";
    bench.edit("prompts = [{ text = \"def add(a, b):\\n\", max_length = 48 }]", tested);
    let ran = bench.pipeline_with(&[("PATH", "/nowhere")], &["run", "run.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines: Vec<_> = ran.stderr.lines().filter(|line| line.contains("not tested")).collect();
    assert_eq!(lines.len(), 1, "{}", ran.stderr);
    assert!(lines[0].contains("python3") && lines[0].contains("without_sandbox"), "{}", lines[0]);
    let page = latest(&bench, "completions/report/completions.md");
    assert!(page.contains("The completions were not tested: ") && page.contains("2 of 2 ("), "{page}");
    if project().is_none() {
        return;
    }
    // Python is not in the key, the setting is.
    assert_eq!(bench.run(), [""; 0]);
    let strict = ["--set", "stages.completions.without_sandbox=\"fail\""];
    assert_eq!(bench.run_with(&strict), ["completions"]);
    let page = latest(&bench, "completions/report/completions.md");
    assert!(page.contains("Tested in a sandbox with Python 3.") && page.contains("| 1 | 0 of 2 |"), "{page}");
}

#[test]
fn check_says_which_layers_of_the_sandbox_the_machine_provides() {
    let Some(bench) = project() else { return };
    let checked = bench.pipeline(&["check", "run.toml"]);
    match checked.code {
        0 => {
            assert!(checked.stdout.contains("\n  tests: this machine provides Python 3."), "{}", checked.stdout);
            assert!(checked.stdout.contains(" and the layers root, pid, network, "), "{}", checked.stdout);
        }
        _ => assert!(checked.stderr.contains("stage 'tests': cannot confine programs: layer '"), "{}", checked.stderr),
    }
    let missing = ["check", "run.toml", "--set", "stages.tests.python=\"/nowhere/python3\""];
    let checked = bench.pipeline(&missing);
    assert_eq!(checked.code, 2, "{}", checked.stdout);
    assert!(
        checked.stderr.contains("stage 'tests': cannot use Python interpreter '/nowhere/python3'"),
        "{}",
        checked.stderr
    );
    let checked = bench.pipeline(&[&missing[..], &["--json"]].concat());
    let problems: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
    let problem = &problems["problems"][0];
    assert_eq!((checked.code, &problem["severity"]), (2, &"error".into()), "{problem}");
    let layers = ["check", "run.toml", "--set", "stages.tests.dangerously_run_without=[\"landlock\"]"];
    assert!(!bench.pipeline(&layers).stdout.contains("landlock"));
}
