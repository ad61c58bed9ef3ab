//! Kills, and two runs on one store.

use std::thread::sleep;
use std::time::Duration;

use crate::bench::{Bench, Ran};

const ALL: [&str; 10] =
    ["export", "license", "quality", "dedup", "split", "tokenizer", "pack", "train", "loss", "completions"];

#[test]
fn a_run_killed_at_any_point_ends_with_the_same_bytes_when_it_is_run_again() {
    let whole = Bench::small();
    whole.run();
    let expected = whole.digests(&ALL);
    let killed = Bench::small();
    // Not a timing assertion: wherever the kill falls, the next run must come out right.
    for milliseconds in [20, 150, 400, 700, 1100, 1500] {
        let mut child = killed.start(&["run", "run.toml", "--quiet"]);
        sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    killed.run();
    assert_eq!(killed.digests(&ALL), expected);
    assert!(killed.plan().values().all(|state| state == "cached"));
}

#[test]
fn two_runs_at_once_build_each_key_once() {
    let bench = Bench::small();
    let runs = [bench.start(&["run", "run.toml", "--json"]), bench.start(&["run", "run.toml", "--json"])];
    let runs = runs.map(|child| Ran::of(child.wait_with_output().unwrap()));
    assert_eq!(runs.each_ref().map(|run| run.code), [0, 0], "{} {}", runs[0].stderr, runs[1].stderr);
    let mut finished = [runs[0].stages("stage-finished"), runs[1].stages("stage-finished")].concat();
    finished.sort();
    let mut stages: Vec<_> = bench.plan().into_keys().collect();
    stages.sort();
    assert_eq!(finished, stages, "each stage ran in exactly one of the two");
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_says_so_and_goes_on_later() {
    let bench = Bench::small();
    bench.edit("steps = 20", "steps = 100000");
    let child = bench.start(&["run", "run.toml", "--json"]);
    let cache = bench.cache().join("runs");
    // Waits for the training to begin, as long as it takes.
    while !std::fs::read_to_string(cache.join("run/events.jsonl"))
        .is_ok_and(|text| text.contains("\"stage\":\"train\""))
    {
        sleep(Duration::from_millis(20));
    }
    std::process::Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 130, "{}", ran.stderr);
    bench.edit("steps = 100000", "steps = 20");
    assert_eq!(bench.run(), ["completions", "loss", "train"]);
}
