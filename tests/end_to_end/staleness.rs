//! What reruns after a change, and what does not.

use crate::bench::{Bench, SMALL};

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
            let renamed = std::fs::read_to_string(bench.path().join("run.toml"))
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
fn the_order_of_stages_and_settings_reruns_nothing() {
    let bench = Bench::small();
    bench.run();
    // Every table below the first, each with its settings from the last to the first.
    let (head, tables) = SMALL.split_once("\n\n").unwrap();
    let reversed = |table: &str| {
        let (name, settings) = table.trim_end().split_once('\n').unwrap();
        format!("{name}\n{}\n", settings.lines().rev().collect::<Vec<_>>().join("\n"))
    };
    let tables: Vec<_> = tables.split("\n\n").map(reversed).collect();
    let manifest: String = tables.into_iter().rev().collect();
    bench.write("run.toml", format!("{manifest}{head}\n"));
    bench.edit(
        "inputs = { train = \"split.train\", valid = \"split.valid\", tokenizer = \"tokenizer\" }",
        "inputs = { tokenizer = \"tokenizer\", valid = \"split.valid\", train = \"split.train\" }",
    );
    assert_eq!(bench.run(), [""; 0]);
}

#[test]
fn a_moved_store_reruns_nothing() {
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
    let before = std::fs::read_to_string(bench.path().join("run.toml")).unwrap();
    let ran = bench.pipeline(&["plan", "run.toml", "--set", "stages.train.steps=5"]);
    assert!(ran.stdout.contains("will run  train"), "{}", ran.stdout);
    assert_eq!(bench.plan()["train"], "cached");
    assert_eq!(std::fs::read_to_string(bench.path().join("run.toml")).unwrap(), before);
}
