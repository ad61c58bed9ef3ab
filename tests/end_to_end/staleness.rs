//! What reruns after a change, and what does not.

use std::fs::{self, File, FileTimes};
use std::time::{Duration, SystemTime};

use crate::bench::{Bench, SMALL, shell};
use crate::failures::{IMPORT, program, row};

const DATA: [&str; 6] = ["export", "license", "quality", "dedup", "split", "tokenizer"];

#[test]
fn a_second_run_is_all_hits_and_the_plan_says_so() {
    let bench = Bench::small();
    assert!(bench.plan().values().all(|state| state == "will-run"), "{:?}", bench.plan());
    assert!(!bench.cache().exists(), "a plan writes nothing");
    let ran = bench.run();
    assert_eq!(ran.len(), bench.plan().len());
    assert!(bench.plan().values().all(|state| state == "cached"), "{:?}", bench.plan());
    assert_eq!(bench.run(), [""; 0]);
}

#[test]
fn a_learning_rate_reruns_training_and_what_follows() {
    let bench = Bench::small();
    bench.run();
    bench.edit("learning_rate = 1e-3", "learning_rate = 2e-3");
    let plan = bench.plan();
    for (stage, state) in &plan {
        let expected = match stage.as_str() {
            "train" => "will-run",
            "loss" | "completions" => "may-run",
            _ => "cached",
        };
        assert_eq!(state, expected, "{stage}");
    }
    let why = bench.pipeline(&["why", "run.toml", "train"]);
    assert!(why.stdout.contains("learning_rate: 0.001 -> 0.002"), "{}", why.stdout);
    assert!(why.stdout.contains("run.toml:"), "{}", why.stdout);
    assert_eq!(bench.run(), ["completions", "loss", "train"]);
}

#[test]
fn what_does_not_determine_the_output_reruns_nothing() {
    let bench = Bench::small();
    bench.run();
    let cases = [
        ("a comment", "[stages.quality]", "# about quality\n[stages.quality]"),
        ("number spelling", "learning_rate = 1e-3", "learning_rate = 0.001"),
        ("a default written out", "kind = \"quality\"", "kind = \"quality\"\nline_max = { threshold = 1000 }"),
        ("a stage's name", "", ""),
    ];
    for (what, old, new) in cases {
        if old.is_empty() {
            let renamed = fs::read_to_string(bench.path().join("run.toml"))
                .unwrap()
                .replace("stages.split", "stages.halves")
                .replace("\"split.", "\"halves.");
            bench.write("run.toml", renamed);
        } else {
            bench.edit(old, new);
        }
        assert_eq!(bench.run(), [""; 0], "{what}");
    }
    assert_eq!(bench.run_with(&["--threads", "1", "--jobs", "1"]), [""; 0], "thread count");
}

#[test]
fn the_order_of_stages_and_of_keys_reruns_nothing() {
    let bench = Bench::small();
    bench.run();
    let mut blocks: Vec<&str> = SMALL.split("\n[").collect();
    let head = blocks.remove(0);
    let reversed = |block: &str| {
        let (name, settings) = block.split_once('\n').unwrap();
        let settings: Vec<_> = settings.lines().filter(|line| !line.is_empty()).rev().collect();
        format!("[{name}\n{}\n", settings.join("\n"))
    };
    let text: String = blocks.into_iter().rev().map(reversed).collect();
    assert!(text.find("[stages.train]") < text.find("[stages.sample]") && text.find("steps") < text.find("layers"));
    bench.write("run.toml", format!("{head}\n{text}"));
    assert_eq!(bench.run(), [""; 0]);
}

/// An import of two files beside the manifest, run once.
fn imported() -> Bench {
    let bench = Bench::new(IMPORT);
    for file in ["a.json", "b.json"] {
        let rows: Vec<_> = (0..5).map(|number| row(&format!("{file}/{number}"), &program(number))).collect();
        bench.write(&format!("data/{file}"), rows.join("\n"));
    }
    assert_eq!(bench.run(), ["dedup", "export", "license"]);
    bench
}

#[test]
fn a_touched_source_reruns_nothing_and_a_changed_one_does() {
    let bench = imported();
    let path = bench.path().join("data/a.json");
    let text = fs::read_to_string(&path).unwrap();
    let touch = |time| File::open(&path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
    for time in [SystemTime::UNIX_EPOCH, SystemTime::now() + Duration::from_secs(3600)] {
        touch(time);
        assert_eq!(bench.run(), [""; 0], "another time of modification");
    }
    fs::remove_file(&path).unwrap();
    fs::write(&path, &text).unwrap();
    assert_eq!(bench.run(), [""; 0], "a new file of equal bytes");
    bench.write("data/a.json", text.replace("value_0_", "other_0_"));
    touch(SystemTime::UNIX_EPOCH);
    assert_eq!(bench.plan()["export"], "will-run");
    assert_eq!(bench.run(), ["dedup", "export", "license"]);
}

#[test]
fn a_source_folder_in_another_place_reruns_nothing() {
    let bench = imported();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::rename(bench.path().join("data"), elsewhere.path().join("exports")).unwrap();
    let set = format!("stages.export.source=\"{}/exports/*\"", elsewhere.path().display());
    assert_eq!(bench.run_with(&["--set", &set]), [""; 0]);
}

#[test]
fn source_files_that_are_gone_are_not_needed_by_what_is_cached() {
    let bench = imported();
    let away = bench.path().join("away");
    fs::rename(bench.path().join("data"), &away).unwrap();
    let plan = bench.json(&["plan", "run.toml"]);
    let export = plan["stages"].as_array().unwrap().iter().find(|stage| stage["name"] == "export").unwrap().clone();
    assert_eq!((&export["state"], &export["reasons"][0]["reason"]), (&"cached".into(), &"sources-absent".into()));
    let ran = bench.pipeline(&["run", "run.toml"]);
    assert!(ran.code == 0 && ran.stderr.contains("its source files are missing"), "{}", ran.stderr);
    let trial = bench.pipeline(&["run", "run.toml", "--as", "trial"]);
    assert!(trial.code == 0 && trial.stderr.contains("its source files are missing"), "{}", trial.stderr);
    bench.edit("kind = \"dedup\"", "kind = \"dedup\"\nthreshold = 0.9");
    assert_eq!(bench.run(), ["dedup"], "what reads it runs");
    let lock = fs::read_to_string(bench.cache().join("runs/run/latest/run.lock")).unwrap();
    assert!(lock.contains("data/a.json"), "the lock says what was read");
    // Another setting, another place, force, or a lost output: then they are needed.
    for (what, arguments) in [
        ("a setting", &["--set", "stages.export.min_size=3"][..]),
        ("a place", &["--set", "stages.export.source=\"other/*.json\""]),
        ("force", &["--force", "export"]),
    ] {
        let arguments = |command| [&[command, "run.toml"], arguments].concat();
        assert_eq!(bench.pipeline(&arguments("run")).code, 1, "{what}");
        assert!(bench.pipeline(&arguments("plan")).stdout.contains("will run  export"), "{what}");
    }
    // One file of two is another export.
    fs::create_dir(bench.path().join("data")).unwrap();
    fs::rename(away.join("a.json"), bench.path().join("data/a.json")).unwrap();
    assert_eq!(bench.plan()["export"], "will-run");
    fs::remove_dir_all(bench.path().join("data")).unwrap();
    fs::remove_dir_all(bench.cache().join("records")).unwrap();
    assert_eq!(bench.plan()["export"], "will-run");
    assert_eq!(bench.pipeline(&["run", "run.toml"]).code, 1);
}

#[test]
fn a_done_line_says_what_changed_and_what_made_no_difference() {
    let bench = Bench::small();
    bench.run();
    let line = |arguments: &[&str], stage: &str| {
        let ran = bench.pipeline(&[&["run", "run.toml", "--until", stage], arguments].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let verb = format!("done  {stage} ");
        ran.stderr.lines().find(|line| line.contains(&verb)).unwrap_or_default().to_owned()
    };
    // As many merges as before: no pair is as rare as the old bound or the new one.
    let same = line(&["--set", "stages.tokenizer.min_frequency=1"], "tokenizer");
    assert!(same.contains("; since run.1: 0 of 143 merges changed, output unchanged ("), "{same}");
    assert!(same.contains("(min_frequency: 0 (default) -> 1 had no effect)"), "{same}");
    let fewer = line(&["--set", "stages.tokenizer.vocabulary=380"], "tokenizer");
    assert!(fewer.contains("0 of 123 merges changed"), "{fewer}");
    let licenses = line(&["--set", "stages.license.allow=[\"mit\"]"], "license");
    assert!(licenses.contains("documents: ") && licenses.contains(" rows fewer"), "{licenses}");
}

#[test]
fn a_plan_prices_a_longer_training_by_its_operations_and_says_how_often_it_reads_its_tokens() {
    let bench = Bench::small();
    bench.run();
    let of_train = |arguments: &[&str]| {
        let plan = bench.json(&[&["plan", "run.toml"], arguments].concat());
        let stages = plan["stages"].as_array().unwrap();
        (stages.iter().find(|stage| stage["name"] == "train").unwrap().clone(), plan["remarks"].clone())
    };
    let (short, _) = of_train(&["--set", "stages.train.learning_rate=2e-3"]);
    let (long, _) = of_train(&["--set", "stages.train.steps=1000"]);
    let (longest, remarks) = of_train(&["--set", "stages.train.steps=20000", "--set", "stages.train.warmup=200"]);
    assert_eq!((&short["estimate"]["basis"], &long["estimate"]["basis"]), (&"operations".into(), &"operations".into()));
    let ratio = long["estimate"]["most"].as_f64().unwrap() / short["estimate"]["most"].as_f64().unwrap();
    assert!((ratio - 50.0).abs() < 1e-6, "1,000 steps against 20: {ratio}");
    let ratio = longest["estimate"]["most"].as_f64().unwrap() / short["estimate"]["most"].as_f64().unwrap();
    assert!((ratio - 1000.0).abs() < 1e-3, "20,000 steps against 20: {ratio}");
    let (wide, _) = of_train(&["--set", "stages.train.batch=1000"]);
    assert!(wide["estimate"].is_null() && wide["no_estimate"]["why"] == "other-operations", "{wide}");
    let remark = remarks.as_array().unwrap().iter().find(|remark| remark["stage"] == "train").unwrap();
    assert!(
        remark["text"].as_str().unwrap().starts_with("20,000 steps of 4 sequences read 5,120,000 tokens"),
        "{remark}"
    );
    assert!(remark["warning"].as_str().unwrap().contains("epochs over the same tokens"), "{remark}");
    assert!(remark["place"]["line"].is_u64() && remark["input"]["line"].is_u64(), "{remark}");
    let checked = bench.pipeline(&["check", "run.toml", "--set", "stages.train.steps=20000"]);
    assert!(checked.code == 0 && checked.stdout.contains("no errors, 1 warning"), "{}", checked.stdout);
    assert!(
        checked.stderr.contains("warning: ") && checked.stderr.contains("produced by run.toml:"),
        "{}",
        checked.stderr
    );
}

#[test]
fn a_project_in_another_place_reruns_nothing() {
    let bench = imported().moved();
    assert_eq!(bench.run(), [""; 0]);
    assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0);
    assert!(
        bench.cache().join("runs/run/latest/dedup/documents/rows").is_dir(),
        "links by name lead into the moved store"
    );
}

#[test]
fn a_moved_folder_reruns_nothing() {
    let bench = Bench::small();
    bench.run();
    let elsewhere = Bench::new(SMALL);
    std::fs::rename(bench.cache(), elsewhere.cache()).unwrap();
    assert_eq!(elsewhere.run(), [""; 0]);
}

#[test]
fn a_license_list_that_keeps_the_same_rows_stops_there() {
    let bench = Bench::small();
    bench.run();
    let before = bench.digests(&["license"])["license.documents"].clone();
    // The synthetic export has no such license.
    bench.edit("\"isc\"", "\"isc\", \"lgpl-2.1\"");
    assert_eq!(bench.plan()["license"], "will-run");
    assert_eq!(bench.plan()["quality"], "may-run");
    let ran = bench.pipeline(&["run", "run.toml", "--json"]);
    assert_eq!(ran.stages("stage-finished"), ["license"]);
    let finished = ran.events().into_iter().find(|event| event["event"] == "stage-finished").unwrap();
    assert_eq!(finished["outputs"]["documents"]["digest"], before);
}

#[test]
fn the_same_bytes_come_out_for_any_thread_count() {
    let (one, two) = (Bench::small(), Bench::small());
    one.run_with(&["--threads", "1"]);
    two.run_with(&["--threads", "2"]);
    let stages: Vec<_> = DATA.iter().copied().chain(["pack", "train", "loss", "completions"]).collect();
    assert_eq!(one.digests(&stages), two.digests(&stages));
}

#[test]
fn until_and_force_choose_stages() {
    let bench = Bench::small();
    assert_eq!(bench.run_with(&["--until", "license"]), ["export", "license", "sample"]);
    assert_eq!(bench.run_with(&["--until", "license", "--force", "license"]), ["license"]);
    let ran = bench.pipeline(&["run", "run.toml", "--until", "license", "--force", "train"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
}

#[test]
fn a_setting_changed_on_the_command_line_changes_the_plan_and_not_the_file() {
    let bench = Bench::small();
    bench.run();
    let before = fs::read_to_string(bench.path().join("run.toml")).unwrap();
    let ran = bench.pipeline(&["plan", "run.toml", "--set", "stages.train.steps=5"]);
    assert!(ran.stdout.contains("will run  train"), "{}", ran.stdout);
    assert_eq!(bench.plan()["train"], "cached");
    assert_eq!(fs::read_to_string(bench.path().join("run.toml")).unwrap(), before);
}

#[test]
fn of_stages_that_miss_the_same_bytes_each_may_run() {
    let writes = |name: &str| shell(name, &format!("echo 1 > {{output:files}}/{name}"), "");
    let bench = Bench::new(&(writes("one") + &writes("two")));
    assert_eq!(bench.run(), ["one", "two"]);
    bench.blobs().iter().for_each(|blob| fs::remove_file(blob).unwrap());
    assert!(bench.plan().values().all(|state| state == "may-run"), "{:?}", bench.plan());
    let forced = bench.json(&["plan", "run.toml", "--force", "one"]);
    assert_eq!(forced["stages"][0]["state"], "will-run", "a forced stage runs whatever others give: {forced}");
    assert_eq!(bench.run_with(&["--jobs", "1"]).len(), 1, "what one gives again serves the other");
    assert!(bench.plan().values().all(|state| state == "cached"));
}
