//! The stage kinds run one after the other, stopped, killed and run again.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use contract::harness::Harness;
use contract::{InputTree, Kind, StageError};
use score::cache::Cache;
use score::program::{Conditions, Job};
use score::run::Runner;
use score::{EvalCode, Problems, RunCode};
use serde_json::{Value, json};
use support::{has_sandbox, multiple, tree, write_lines};

const PROBLEMS: usize = 8;

/// A folder with problems and samples.
struct Files {
    folder: tempfile::TempDir,
    problems: InputTree,
    samples: PathBuf,
}

impl Files {
    /// `each` samples of each problem at each temperature, of which about a third pass and each is a program of its own.
    fn new(each: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [problems, samples] = ["problems.jsonl", "samples.jsonl"].map(|name| folder.path().join(name));
        write_lines(&problems, &(0..PROBLEMS).map(multiple).collect::<Vec<_>>());
        let mut lines = Vec::new();
        for (temperature, index) in
            [0.2, 0.8].into_iter().flat_map(|temperature| (0..each).map(move |index| (temperature, index)))
        {
            for number in 0..PROBLEMS {
                let body = match (index + number) % 6 {
                    0 | 3 => format!("    return x * {number}"),
                    1 => "    return x +".to_owned(),
                    2 => format!("    return x + {}", number + 1),
                    4 => "    return y".to_owned(),
                    _ => "    return [][x]".to_owned(),
                };
                let completion = format!("{body}  # {temperature} {index}\n\ndef other():\n    pass\n");
                let task_id = format!("multiple/{number}");
                lines.push(
                    json!({"task_id": task_id, "completion": completion, "temperature": temperature, "index": index}),
                );
            }
        }
        write_lines(&samples, &lines);
        let problems = canonical(folder.path(), &problems);
        Self { folder, problems, samples }
    }

    fn harness(&self, name: &str) -> Harness {
        let mut harness = Harness::new(&self.folder.path().join(name));
        harness.connect("samples", &tree("samples.jsonl", &self.samples)).connect("problems", &self.problems);
        harness
    }

    fn results(&self, name: &str, more: Value) -> InputTree {
        self.harness(name).run::<RunCode>(more).unwrap()["results"].clone()
    }
}

/// The output of the stage kind `problems` for a file.
fn canonical(folder: &Path, file: &Path) -> InputTree {
    let mut harness = Harness::new(&folder.join(format!("problems-{}", std::process::id())));
    harness.connect("file", &tree("problems.jsonl", file));
    harness.run::<Problems>(json!({})).unwrap()["problems"].clone()
}

fn read(tree: &InputTree, name: &str) -> String {
    std::fs::read_to_string(&tree.required(name).unwrap().location).unwrap()
}

#[test]
fn from_samples_to_a_report() {
    if !has_sandbox() {
        return;
    }
    let files = Files::new(3);
    let results = files.results("run", json!({}));
    let lines: Vec<Value> =
        read(&results, "results.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2 * 3 * PROBLEMS);
    assert_eq!(lines[0]["result"], "passed");
    assert_eq!(lines[0]["completion"], "    return x * 0  # 0.2 0\n", "truncated");
    assert_eq!((&lines[1]["passed"], &lines[1]["failure"]), (&json!(false), &json!("syntax")));

    let mut harness = Harness::new(&files.folder.path().join("eval"));
    harness.connect("results", &results).connect("baseline", &results);
    let report = harness.run::<EvalCode>(json!({"draws": 500})).unwrap()["report"].clone();
    let json: Value = serde_json::from_str(&read(&report, "report.json")).unwrap();
    assert_eq!((&json["samples"], &json["problems"]), (&json!(48), &json!(8)));
    assert_eq!(json["run"]["self_test"], json!({"canonical_passed": 8, "empty_passed": 0, "problems": 8}));
    assert_eq!(json["comparison"]["differences"][0]["difference"], json!(0.0));
    let names: Vec<_> = json["failures"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["assertion", "exception", "name", "syntax"]);
    for (name, part) in [
        ("report.md", "## Compared with the baseline"),
        ("report.html", "<h2>Samples that nearly passed</h2>"),
        ("pass-at-k.svg", "temperature 0.8"),
    ] {
        assert!(read(&report, name).contains(part), "{name}");
    }
    let notes = harness.progress.drain();
    println!("{notes:?}");
    // Another k needs no other results; one that is too large is an error.
    assert!(harness.run::<EvalCode>(json!({"ks": [2, 3]})).is_ok());
    let error = harness.run::<EvalCode>(json!({"ks": [4]})).unwrap_err().to_string();
    let expected = "pass@4 needs at least 4 samples of each problem: 'multiple/0' has 3 samples at temperature 0.2";
    assert_eq!(error, expected);
}

#[test]
fn results_are_equal_for_any_number_of_workers_and_for_every_seed() {
    if !has_sandbox() {
        return;
    }
    let files = Files::new(2);
    let one = files.results("one", json!({"workers": 1}));
    for workers in [2, 5] {
        assert_eq!(files.results(&format!("{workers}"), json!({"workers": workers})).digest, one.digest, "{workers}");
    }
    let mut harness = files.harness("seed");
    harness.seed = 99;
    assert_eq!(harness.run::<RunCode>(json!({})).unwrap()["results"].digest, one.digest);
}

#[test]
fn a_run_that_is_stopped_in_the_middle_continues_with_what_it_has() {
    if !has_sandbox() {
        return;
    }
    let files = Files::new(4);
    let whole = files.results("whole", json!({}));
    let scratch = files.folder.path().join("scratch");
    let programs = || std::fs::read_to_string(scratch.join("programs.jsonl")).unwrap_or_default();
    let mut harness = files.harness("stopped");
    harness.scratch = Some(scratch.clone());
    let cancel = harness.cancel.clone();
    // Stopped once some samples are done.
    let (kept, all) = (10, 2 * 4 * PROBLEMS);
    let stopped = std::thread::scope(|scope| {
        scope.spawn(|| {
            let begun = Instant::now();
            while programs().lines().count() < kept && begun.elapsed() < Duration::from_secs(120) {
                std::thread::yield_now();
            }
            cancel.set();
        });
        harness.run::<RunCode>(json!({"workers": 2})).map(drop)
    });
    assert!(matches!(stopped, Err(StageError::Interrupted)), "{stopped:?}");
    let before = programs();
    let count = before.lines().count();
    println!("{count} of {all} programs had run");
    assert!((kept..all).contains(&count), "{count} of {all}");
    harness.cancel = Default::default();
    assert_eq!(harness.run::<RunCode>(json!({"workers": 2})).unwrap()["results"].digest, whole.digest);
    // No program ran again: each has one line, and those of before are the first.
    let after = programs();
    assert!(after.starts_with(&before));
    assert_eq!(after.lines().collect::<std::collections::BTreeSet<_>>().len(), all);
    assert_eq!(after.lines().count(), all);
}

/// The number of programs that the killed run starts at the same time.
const WORKERS: usize = 2;

/// Runs the programs of the stage, with its cache, in the folder that `SCORE_KILLED` names, for the test that kills it. Adds a byte to `started`
/// for each program before it starts.
#[test]
fn worker_of_the_killed_run() {
    let Some(folder) = std::env::var_os("SCORE_KILLED") else { return };
    let folder = Path::new(&folder);
    let options = score::run_code::Spec::default().options(&Default::default(), WORKERS);
    let sandbox = options.sandbox().unwrap();
    let problems = score::problems::read_tree(&canonical(folder, &folder.join("problems.jsonl"))).unwrap();
    let mut samples =
        score::samples::read(&folder.join("samples.jsonl"), Path::new("samples.jsonl"), &problems).unwrap();
    samples.iter_mut().for_each(|sample| sample.truncate(&problems[sample.problem].beginning, &options.truncation));
    let jobs: Vec<_> = samples.iter().map(|sample| Job::of_sample(&problems, sample)).collect();
    let started = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("started")).unwrap();
    let execute = |program: &sandbox::Program| {
        (&started).write_all(b".").unwrap();
        sandbox.run(program, &options.limits)
    };
    let python = sandbox.python_version().to_owned();
    let conditions = Conditions { limits: options.limits.clone(), python, without: Default::default() };
    let (cancel, progress) = Default::default();
    let runner =
        Runner { execute: &execute, conditions: &conditions, workers: WORKERS, cancel: &cancel, progress: &progress };
    runner.run("", &jobs, &mut Cache::open(&folder.join("killed")).unwrap()).unwrap();
}

#[test]
fn a_killed_run_loses_few_programs_and_the_next_one_writes_the_same_bytes() {
    if !has_sandbox() {
        return;
    }
    let files = Files::new(4);
    let whole = files.results("whole", json!({}));
    let scratch = files.folder.path().join("killed");
    let known = || std::fs::read_to_string(scratch.join("programs.jsonl")).unwrap_or_default().lines().count();
    let started = || std::fs::metadata(files.folder.path().join("started")).map_or(0, |file| file.len() as usize);
    let (mut counts, mut lost) = (vec![0], 0);
    // Killed when it has added some results, three times.
    for _ in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker_of_the_killed_run"])
            .env("SCORE_KILLED", files.folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while known() < counts.last().unwrap() + 10 && begun.elapsed() < Duration::from_secs(120) {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        counts.push(known());
        // Those that were running, and one whose line was being written.
        let now = started() - known();
        assert!(now - lost <= WORKERS + 1, "{} programs were lost", now - lost);
        lost = now;
    }
    println!("programs that were kept at each kill: {counts:?}");
    assert!(counts.windows(2).all(|pair| pair[0] < pair[1]), "{counts:?}");
    let mut harness = files.harness("after");
    harness.scratch = Some(scratch.clone());
    let after = harness.run::<RunCode>(json!({})).unwrap()["results"].clone();
    assert_eq!(after.digest, whole.digest);
    // No program ran twice: a line is one program.
    let text = std::fs::read_to_string(scratch.join("programs.jsonl")).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    let all = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!((lines.len(), all), (all, 2 * 4 * PROBLEMS));
}

#[test]
fn settings_that_cannot_be_right_are_problems_of_the_manifest() {
    let problems = |settings: Value| {
        let settings = settings.as_object().unwrap().clone();
        let run = Kind::of::<RunCode>().parse(&settings).err().unwrap_or_default();
        run.iter().map(|problem| format!("{}: {}", problem.setting, problem.message)).collect::<Vec<_>>()
    };
    let short = problems(json!({"limits": {"cpu_seconds": 5, "wall_seconds": 4}}));
    assert_eq!(short, ["limits.wall_seconds: 4 is less than cpu_seconds = 5"]);
    assert!(!problems(json!({"dangerously_run_without": ["all"]})).is_empty());
    assert!(problems(json!({"dangerously_run_without": ["landlock"]})).is_empty());
    let repeated = json!({"ks": [1, 10, 1]}).as_object().unwrap().clone();
    assert_eq!(Kind::of::<EvalCode>().parse(&repeated).err().unwrap()[0].setting, "ks[2]");
}

#[test]
fn memory_is_that_of_the_files_and_of_the_programs() {
    let files = Files::new(2);
    let cost = |settings: Value, input: &dyn Fn(&str) -> Option<InputTree>| {
        let stage = Kind::of::<RunCode>().parse(settings.as_object().unwrap()).unwrap();
        let ports = ["samples", "problems"].map(|port| (port.to_owned(), Default::default()));
        let mut facts = contract::InputFacts::new(ports.into());
        stage.observe(&mut facts, input);
        stage.infer(&facts).cost
    };
    let before = cost(json!({"workers": 3, "limits": {"memory": 1 << 30}}), &|_| None);
    assert_eq!((before.memory, before.memory_bound), (None, Some(6 << 30)));
    let trees = [("samples", tree("samples.jsonl", &files.samples)), ("problems", files.problems.clone())];
    let bytes: u64 = trees.iter().flat_map(|(_, tree)| &tree.files).map(|file| file.size).sum();
    let of = |port: &str| trees.iter().find(|(name, _)| *name == port).map(|(_, tree)| tree.clone());
    let after = cost(json!({"workers": 1}), &of);
    let memory = after.memory.unwrap();
    assert_eq!(after.memory_bound, Some(memory + (1 << 30)));
    // Each sample has a result of at most 300 characters, twice.
    let each = (memory - bytes) / (2 * 2 * PROBLEMS as u64);
    assert!((600..1200).contains(&each) && (memory - bytes).is_multiple_of(each), "{each} bytes for each sample");
    assert_eq!(cost(json!({}), &of).memory_bound, None, "how many programs run at the same time is not known");
    assert_eq!(score::problems::facts(&files.problems).problems.unwrap().value, PROBLEMS as u64);
}

#[test]
fn a_report_needs_the_texts_of_few_samples() {
    if !has_sandbox() {
        return;
    }
    let files = Files::new(6);
    let results = files.results("run", json!({}));
    let read = score::results::Results::read(&results).unwrap();
    let kept = read.samples.iter().filter(|sample| !sample.text.is_empty()).count();
    // Of each problem one that passed and one of each distance.
    assert!(kept <= 4 * PROBLEMS && kept < read.samples.len(), "{kept} of {}", read.samples.len());
    // The report is that of all texts: each line is written again from what `results.jsonl` has.
    let mut whole = read.clone();
    let lines = self::read(&results, "results.jsonl");
    for (sample, line) in whole.samples.iter_mut().zip(lines.lines()) {
        let line: Value = serde_json::from_str(line).unwrap();
        sample.text = line["completion"].as_str().unwrap().to_owned();
        sample.result.detail = line["detail"].as_str().unwrap_or_default().to_owned();
    }
    let measure = score::eval_code::Spec::default().measure(1);
    let report = |results| score::report::Report::new(results, None, &measure).unwrap();
    assert_eq!(report(&read), report(&whole));
}

#[test]
fn settings_at_their_defaults_are_not_in_the_key() {
    let canonical = |settings: Value| {
        let settings = settings.as_object().unwrap().clone();
        Value::Object(
            Kind::of::<RunCode>().parse(&settings).unwrap_or_else(|problems| panic!("{problems:?}")).spec().clone(),
        )
    };
    let written = json!({
        "python": "python3.12", "workers": 3, "optional": true, "truncation": "bigcode", "rule": "first-stop",
        "limits": {"cpu_seconds": 3, "wall_seconds": 9, "memory": 536_870_912u64}, "dangerously_run_without": [],
    });
    assert_eq!(canonical(written), json!({}));
    let other = json!({"limits": {"cpu_seconds": 4}, "stops": ["\ndef"]});
    assert_eq!(canonical(other), json!({"limits": {"cpu_seconds": 4.0}, "stops": ["\ndef"]}));
}

#[test]
fn problems_are_read_from_every_form_and_written_in_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mbpp.jsonl");
    write_lines(
        &file,
        &[
            json!({"task_id": 1, "text": "Return 1.", "code": "def one():\n    return 1", "asserts": ["assert one() == 1"]}),
        ],
    );
    let mut harness = Harness::new(&folder.path().join("run"));
    harness.connect("file", &tree("mbpp.jsonl", &file));
    let settings = json!({"form": "mbpp", "fields": {"test": "asserts"}});
    let written = harness.run::<Problems>(settings).unwrap()["problems"].clone();
    let problems = score::problems::read_tree(&written).unwrap();
    assert_eq!((problems[0].task_id.as_str(), problems[0].tests.as_str()), ("1", "assert one() == 1\n"));
    let error = harness.run::<Problems>(json!({})).unwrap_err().to_string();
    assert!(error.starts_with("mbpp.jsonl:1: the field 'prompt' is missing"), "{error}");
    let both = harness.run::<Problems>(json!({"source": file.to_str().unwrap()})).unwrap_err().to_string();
    assert_eq!(both, "both 'source' and the input 'file' are set");
}

#[test]
fn a_machine_without_python_fails_the_stage_or_skips_it() {
    let files = Files::new(1);
    let settings = |optional| json!({"python": "/nowhere/python3", "optional": optional});
    let failed = files.harness("failed").run::<RunCode>(settings(false)).unwrap_err();
    assert!(matches!(&failed, StageError::Failed(failure) if failure.message.contains("/nowhere/python3")), "{failed}");
    let skipped = files.harness("skipped").run::<RunCode>(settings(true)).unwrap_err();
    assert!(matches!(&skipped, StageError::Skipped(reason) if reason.contains("/nowhere/python3")), "{skipped}");
}

#[test]
fn an_interpreter_that_was_replaced_after_the_plan_fails_the_stage() {
    if !has_sandbox() {
        return;
    }
    let files = Files::new(1);
    // It replies with an earlier version to the plan, and is the real one in the sandbox.
    let python = files.folder.path().join("python3");
    let script = "#!/bin/sh\ncase \"$5\" in *%d.%d.%d*) echo 3.1.1 ;; *) exec python3 \"$@\" ;; esac\n";
    std::fs::write(&python, script).unwrap();
    std::fs::set_permissions(&python, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let settings = json!({"python": python.to_str().unwrap(), "optional": true});
    let failed = files.harness("replaced").run::<RunCode>(settings).unwrap_err().to_string();
    assert!(failed.contains("but it had version 3.1.1 when the key of the stage was computed"), "{failed}");
}

#[test]
fn the_self_test_runs_on_this_machine_whatever_is_cached() {
    if !has_sandbox() {
        return;
    }
    let files = Files::new(1);
    let mut harness = files.harness("cached");
    harness.scratch = Some(files.folder.path().join("scratch"));
    let whole = harness.run::<RunCode>(json!({})).unwrap()["results"].clone();
    // Nothing of the self-test is cached: what another run leaves cannot pass it.
    let text = std::fs::read_to_string(files.folder.path().join("scratch/programs.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 2 * PROBLEMS, "one for each sample");
    assert_eq!(harness.run::<RunCode>(json!({})).unwrap()["results"].digest, whole.digest);
}
