//! Runs with other settings, trials, and several projects in one store: each has its own outputs, and keeps them.

use std::collections::BTreeMap;
use std::fs;

use nix::sys::signal::{Signal, kill};
use pipeline::report::RunLock;
use pipeline::store::Store;

use crate::bench::{Bench, DATA, DATA_STAGES, Ran, pid, shell, texts};

/// Two settings under which other rows are kept.
const MIT: [&str; 2] = ["--set", "stages.license.allow=[\"mit\"]"];
const APACHE: [&str; 2] = ["--set", "stages.license.allow=[\"apache-2.0\"]"];
const CHANGED: [&str; 3] = ["license", "quality", "split"];

/// The tree of each output that a run's lock names.
fn locked(bench: &Bench, run: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(bench.cache().join("runs").join(run).join("run.lock")).unwrap();
    let stages = RunLock::decode(&text).unwrap().stages.into_iter();
    let outputs = stages.flat_map(|stage| {
        stage.trees().into_iter().map(move |(port, tree)| (format!("{}/{port}", stage.name), tree.to_string()))
    });
    outputs.collect()
}

/// The tree to which each output by name leads, every file of which must be there.
fn shown(bench: &Bench, run: &str) -> BTreeMap<String, String> {
    let folder = bench.cache().join("runs").join(run);
    let mut shown = BTreeMap::new();
    for stage in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        for port in fs::read_dir(&stage).unwrap().map(|entry| entry.unwrap().path()) {
            let tree = fs::read_link(&port).unwrap().file_name().unwrap().to_string_lossy().into_owned();
            files_are_there(&port);
            let name = port.strip_prefix(&folder).unwrap().display().to_string();
            shown.insert(name, tree);
        }
    }
    shown
}

fn files_are_there(folder: &std::path::Path) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        assert!(entry.exists(), "{} leads nowhere", entry.display());
        if entry.is_dir() {
            files_are_there(&entry);
        }
    }
}

/// Whether a run shows exactly what its lock says.
fn assert_own(bench: &Bench, run: &str) {
    assert_eq!(shown(bench, run), locked(bench, run), "{run}");
}

fn latest(bench: &Bench) -> String {
    fs::read_link(bench.cache().join("runs/run/latest")).unwrap().display().to_string()
}

#[test]
fn runs_with_other_settings_in_turn_keep_their_own_outputs() {
    let bench = Bench::ran();
    assert_eq!(bench.run_with(&MIT), CHANGED);
    assert_eq!(bench.run(), [""; 0]);
    for run in ["run/1", "run/2", "run/3", "run/latest"] {
        assert_own(&bench, run);
        for file in ["run.lock", "events.jsonl", "report.html"] {
            assert!(bench.cache().join("runs").join(run).join(file).is_file(), "{run}: {file}");
        }
    }
    assert_eq!((shown(&bench, "run/1"), latest(&bench).as_str()), (shown(&bench, "run/3"), "3"));
    let [one, other] = ["run/1", "run/2"].map(|run| shown(&bench, run)["split/train"].clone());
    assert_ne!(one, other);
}

#[test]
fn runs_that_overlap_keep_their_own_outputs_and_latest_is_the_one_that_began_last() {
    let bench = Bench::ran();
    let first = bench.start_until("lock-before-write", &[&["run", "run.toml"], &MIT[..]].concat());
    assert_eq!(latest(&bench), "1");
    bench.run_with(&APACHE);
    assert_eq!(latest(&bench), "3");
    kill(pid(&first), Signal::SIGCONT).unwrap();
    let first = Ran::of(first.wait_with_output().unwrap());
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert_eq!(latest(&bench), "3");
    (1..=3).for_each(|number| assert_own(&bench, &format!("run/{number}")));
    let splits = [1, 2, 3].map(|number| shown(&bench, &format!("run/{number}"))["split/train"].clone());
    assert!(splits[0] != splits[1] && splits[1] != splits[2] && splits[0] != splits[2], "{splits:?}");
}

#[test]
fn latest_stays_where_a_run_fails_is_stopped_or_is_asked_for_less() {
    let bench = Bench::new(&(DATA.to_owned() + &shell("last", "[ ! -e '@BAD@' ] && echo $0 > {output:files}/out", "")));
    let bad = bench.path().join("bad");
    bench.edit("@BAD@", &bad.display().to_string());
    // No run has more.
    bench.run_with(&["--until", "license"]);
    assert_eq!((latest(&bench).as_str(), shown(&bench, "run/latest").contains_key("split/train")), ("1", false));
    bench.run_with(&["--until", "quality"]);
    assert_eq!(latest(&bench), "2");
    bench.run();
    assert_eq!(latest(&bench), "3");
    let less = bench.pipeline(&["run", "run.toml", "--until", "quality"]);
    assert_eq!((less.code, latest(&bench).as_str()), (0, "3"), "it has less: {}", less.stderr);
    let note = "note: the outputs of this run are in cache/runs/run/4; `latest` points to run.3\n";
    assert!(less.stderr.ends_with(note), "{}", less.stderr);
    assert_own(&bench, "run/4");
    bench.write("bad", "");
    let failed = bench.pipeline(&["run", "run.toml", "--force", "last"]);
    assert_eq!((failed.code, latest(&bench).as_str()), (1, "3"), "{}", failed.stderr);
    assert_own(&bench, "run/5");
    assert!(shown(&bench, "run/5").contains_key("split/train"), "what it gave is there");
    let mut killed = bench.start_until("lock-before-write", &["run", "run.toml", "--until", "split"]);
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(latest(&bench), "3");
    // A stage that the manifest has no longer is not missed.
    let manifest = fs::read_to_string(bench.path().join("run.toml")).unwrap();
    bench.write("run.toml", manifest.split("[stages.last]").next().unwrap());
    bench.run();
    assert_eq!(latest(&bench), "7");
    let list = bench.pipeline(&["runs"]).stdout;
    assert!(list.contains("run.6  ended without a run.lock"), "{list}");
}

#[test]
fn a_trial_has_a_name_of_its_own() {
    let bench = Bench::ran();
    let before = shown(&bench, "run/latest");
    assert_eq!(bench.run_with(&[&MIT[..], &["--as", "mit"]].concat()), CHANGED);
    assert_eq!((shown(&bench, "run/latest"), latest(&bench).as_str()), (before, "1"));
    assert_own(&bench, "mit/latest");
    let show = |more: &[&str]| bench.pipeline(&[&["show", "run.toml", "split"], more].concat()).stdout;
    assert_eq!(show(&[&MIT[..], &["--as", "mit"]].concat()), show(&MIT));
    let runs = bench.pipeline(&["runs", "run.toml"]).stdout;
    assert!(runs.starts_with("mit.1 ") && runs.contains("\nrun.1 "), "{runs}");
    assert!(bench.pipeline(&["runs", "mit"]).stdout.starts_with("mit.1 "));
    for name in ["mit.2", "../up", "", "a b"] {
        let refused = bench.pipeline(&["run", "run.toml", "--as", name]);
        assert!(refused.code == 2 && refused.stderr.contains("invalid run name"), "{name:?}: {}", refused.stderr);
    }
    // It goes as a whole, and the run that it was a trial of stays.
    assert_eq!(bench.pipeline(&["runs", "forget", "mit"]).code, 0);
    assert!(!bench.pipeline(&["runs"]).stdout.contains("mit"));
    let gone = bench.json(&["cache", "gc", "--keep-size", "1B"]);
    assert_eq!(gone["builds"].as_array().unwrap().len(), CHANGED.len(), "{gone}");
    assert_own(&bench, "run/latest");
    assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0);
}

#[test]
fn two_projects_in_one_store_cannot_take_each_other_s_name_or_remove_each_other_s_outputs() {
    let bench = Bench::new("");
    bench.write("one/run.toml", DATA).write("two/run.toml", DATA.replace("fraction = 0.2", "fraction = 0.3"));
    let at =
        |folder: &str, arguments: &[&str]| bench.pipeline_in(folder, &[arguments, &["--cache", "../cache"]].concat());
    assert_eq!(at("one", &["run", "run.toml"]).code, 0);
    let refused = at("two", &["run", "run.toml"]);
    let owner = fs::canonicalize(bench.path()).unwrap().join("one/run.toml");
    assert!(
        refused.stderr.starts_with(&format!("error: run 'run' belongs to {}\nhint: ", owner.display())),
        "{}",
        refused.stderr
    );
    assert!(refused.code == 2 && refused.stderr.contains("--as NAME"), "{}", refused.stderr);
    let plan = at("two", &["plan", "run.toml"]);
    assert!(plan.code == 0 && plan.stderr.contains("warning: run 'run' belongs to "), "{}", plan.stderr);
    assert_eq!(at("two", &["run", "run.toml", "--as", "two"]).code, 0);
    for (project, name) in [("one", "run"), ("two", "two")] {
        let runs = at(project, &["runs", "run.toml"]).stdout;
        assert!(runs.starts_with(&format!("{name}.1 ")) && runs.lines().count() == 1, "{runs}");
    }
    // The outputs of both, whoever makes room and however much.
    for project in ["one", "two"] {
        let gc = at(project, &["cache", "gc", "--keep-runs", "0", "--keep-size", "1B"]);
        assert_eq!(gc.code, 0, "{}", gc.stderr);
        ["run/latest", "two/latest"].iter().for_each(|run| assert_own(&bench, run));
        assert!(
            gc.stdout.contains("  by run.1 (latest), ") && gc.stdout.contains("  by two.1 (latest), "),
            "{}",
            gc.stdout
        );
    }
    // A project that was moved carries on when it says so.
    fs::rename(bench.path().join("one"), bench.path().join("moved")).unwrap();
    assert_eq!(at("moved", &["run", "run.toml"]).code, 2);
    let carried = at("moved", &["run", "run.toml", "--adopt"]);
    assert!(carried.code == 0 && carried.stderr.contains("5 cached"), "{}", carried.stderr);
    assert_eq!((latest(&bench).as_str(), at("moved", &["run", "run.toml"]).code), ("2", 0));
}

#[test]
fn a_pinned_run_is_not_forgotten_and_gc_says_for_whom_bytes_stay() {
    let bench = Bench::ran();
    bench.run_with(&MIT);
    bench.run_with(&APACHE);
    bench.run();
    for wrong in [&["runs", "pin", "run.9"][..], &["runs", "pin", "nobody"]] {
        assert_eq!(bench.pipeline(wrong).code, 2, "{wrong:?}");
    }
    assert_eq!(bench.pipeline(&["runs", "pin", "run.2"]).stderr, "pinned run.2\n");
    let logs = bench.pipeline(&["logs", "split"]);
    assert!(logs.stderr.contains("did not run in run.4"), "the newest run is not the pinned one: {}", logs.stderr);
    let runs = bench.pipeline(&["runs"]).stdout;
    assert_eq!((runs.matches("(pinned)").count(), runs.matches("(latest)").count()), (1, 1), "{runs}");
    let json = bench.json(&["runs"]);
    assert_eq!(
        (&json[1]["pinned"], &json[1]["latest"], &json[3]["latest"]),
        (&true.into(), &false.into(), &true.into())
    );
    let refused = bench.pipeline(&["runs", "forget", "run"]);
    assert!(refused.code == 2 && refused.stderr.contains("pipeline runs unpin run.2"), "{}", refused.stderr);
    let gc = bench.pipeline(&["cache", "gc", "--keep-runs", "1", "--keep-size", "1B"]);
    assert!(gc.stdout.starts_with("forgot 2 past runs\n"), "{}", gc.stdout);
    for run in ["run.2 (pinned)", "run.4 (latest)"] {
        let line = gc.stdout.lines().find(|line| line.starts_with("kept ") && line.contains(&format!("  by {run}, ")));
        assert!(line.is_some_and(|line| line.contains("of it by nothing else")), "{run}: {}", gc.stdout);
    }
    ["run/2", "run/4"].iter().for_each(|run| assert_own(&bench, run));
    assert_eq!(bench.run_with(&MIT), [""; 0]);
    assert_eq!(bench.run_with(&APACHE), CHANGED, "nobody kept it");
    bench.run();
    assert_eq!(bench.pipeline(&["runs", "unpin", "run.2"]).code, 0);
    bench.json(&["cache", "gc", "--keep-runs", "1", "--keep-size", "1B"]);
    assert_eq!(bench.pipeline(&["runs"]).stdout.lines().count(), 1);
    assert_eq!(bench.run_with(&MIT), CHANGED);
    assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0);
    let stages = DATA_STAGES.len();
    assert_eq!(bench.json(&["plan", "run.toml"])["stages"].as_array().unwrap().len(), stages);
}

#[test]
fn a_kill_while_runs_are_forgotten_leaves_no_output_by_name_that_leads_nowhere() {
    let bench = Bench::ran();
    bench.run_with(&MIT);
    bench.run();
    let mut gc = bench.start_until("gc-before-tree", &["cache", "gc", "--keep-runs", "1", "--keep-size", "1B"]);
    gc.kill().unwrap();
    gc.wait().unwrap();
    for run in fs::read_dir(bench.cache().join("runs/run")).unwrap().map(|entry| entry.unwrap().path()) {
        for stage in DATA_STAGES {
            let ports = fs::read_dir(run.join(stage)).into_iter().flatten().map(|entry| entry.unwrap().path());
            ports.for_each(|port| assert!(port.exists(), "{}", port.display()));
        }
    }
    assert_own(&bench, "run/latest");
    assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0);
}

#[test]
fn gc_counts_a_running_run_once() {
    let bench = Bench::ran();
    let folder = bench.cache().join("runs/run");
    fs::create_dir(folder.join("2")).unwrap();
    let store = Store::open(&bench.cache()).unwrap();
    let lease = store.leases.start("run.2").unwrap();
    lease.hold(store.inventory().unwrap().trees.keys()).unwrap();
    let by = || texts(&bench.json(&["cache", "gc"])["kept"], "by");
    assert_eq!(by(), ["run.1 (latest)", "run.2 (running)"]);
    let text = bench.pipeline(&["cache", "gc"]).stdout;
    let kept = text.lines().filter(|line| line.starts_with("kept ")).count();
    assert_eq!((kept, text.contains("and by")), (2, false), "{text}");
    drop(lease);
    assert_eq!(by(), ["run.1 (latest)", "run.2"]);
}

#[test]
fn gc_names_no_run_that_keeps_nothing() {
    let bench = Bench::new(&shell("failing", "exit 1", ""));
    (0..2).for_each(|_| assert_eq!(bench.pipeline(&["run", "run.toml"]).code, 1));
    let text = bench.pipeline(&["cache", "gc", "--scratch"]).stdout;
    assert!(!text.contains("kept ") && !text.contains("and by"), "{text}");
}
