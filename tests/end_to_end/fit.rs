//! A stage that needs more than the machine has is refused before anything runs.

use std::fs;
use std::process::Command;

use crate::bench::{Bench, Ran, shell};

const OVERSIZE: &str = "--allow-oversize";

/// The small run on a machine of which a manifest says that it has 1 MiB.
fn cramped() -> Bench {
    let bench = Bench::small();
    bench.edit("[run]", "[exec]\nmemory = \"1MiB\"\n[run]");
    bench
}

/// The lines of standard error that speak of memory, by their first word.
fn of_memory<'r>(ran: &'r Ran, severity: &str) -> Vec<&'r str> {
    let lines = ran.stderr.lines().filter(|line| line.starts_with(severity) && line.contains("of memory"));
    lines.collect()
}

#[test]
fn a_batch_that_no_machine_holds_stops_the_run_before_anything_runs() {
    let bench = Bench::small();
    let batch = ["--set", "stages.train.batch=1048576", "--set", "stages.train.micro_batch=1048576"];
    let ran = bench.pipeline(&[&["run", "run.toml", "--json"], &batch[..]].concat());
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{}", ran.stderr);
    let errors = of_memory(&ran, "error: ");
    let [error] = errors[..] else { panic!("{}", ran.stderr) };
    assert!(error.contains("run.toml:") && error.contains("stage 'train' needs about "), "{error}");
    assert!(error.contains(" of memory, but only ") && error.contains("lower the stage's batch"), "{error}");
    assert!(ran.stderr.contains(OVERSIZE), "{}", ran.stderr);
    assert!(!bench.cache().join("records").exists(), "nothing ran");
    bench.edit("[run]", "[exec]\nmemory = \"1048576GiB\"\n[run]");
    let more = bench.pipeline(&[&["run", "run.toml"], &batch[..]].concat());
    let errors = of_memory(&more, "error: ");
    let [error] = errors[..] else { panic!("no setting gives a machine more memory: {}", more.stderr) };
    assert!(more.code == 2 && !error.contains("set at"), "{error}");
    let part = bench.pipeline(&[&["run", "run.toml", "--until", "sample"], &batch[..]].concat());
    assert_eq!(part.code, 0, "what is not asked for may be of any size: {}", part.stderr);
}

#[test]
fn every_stage_that_cannot_fit_is_told_of_by_every_command_and_a_flag_lets_it_run() {
    let bench = cramped();
    let told = |ran: &Ran, severity: &str| {
        let lines = of_memory(ran, severity);
        ["train", "loss", "completions"].map(|stage| {
            let named = format!("stage '{stage}' ");
            lines.iter().filter(|line| line.contains(&named) && line.contains("1.0 MiB is available (set at")).count()
        })
    };
    let refused = bench.pipeline(&["run", "run.toml"]);
    assert_eq!((refused.code, told(&refused, "error: ")), (2, [1, 1, 1]), "{}", refused.stderr);
    let checked = bench.pipeline(&["check", "run.toml"]);
    assert_eq!((checked.code, told(&checked, "error: ")), (2, [1, 1, 1]), "{}", checked.stderr);
    assert!(checked.stdout.contains("3 errors, "), "{}", checked.stdout);
    let allowed = bench.pipeline(&["check", "run.toml", OVERSIZE]);
    assert_eq!((allowed.code, told(&allowed, "warning: ")), (0, [1, 1, 1]), "{}", allowed.stderr);
    let planned = bench.pipeline(&["plan", "run.toml"]);
    assert_eq!((planned.code, told(&planned, "warning: ")), (0, [1, 1, 1]), "{}", planned.stderr);
    let (refused, bounds): (Vec<_>, Vec<_>) =
        of_memory(&planned, "warning: ").into_iter().partition(|line| line.contains(OVERSIZE));
    assert_eq!(refused.len(), 3, "{}", planned.stderr);
    let [tokenizer] = bounds[..] else { panic!("a bound is no reason to refuse: {bounds:?}") };
    assert!(tokenizer.contains("stage 'tokenizer' may need up to 1.0 GiB of memory"), "{tokenizer}");

    let ran = bench.pipeline(&["run", "run.toml", OVERSIZE]);
    assert_eq!((ran.code, told(&ran, "warning: ")), (0, [1, 1, 1]), "{}", ran.stderr);
    let again = bench.pipeline(&["run", "run.toml"]);
    assert_eq!((again.code, of_memory(&again, "")), (0, vec![]), "what is cached needs nothing: {}", again.stderr);
    let forced = bench.pipeline(&["run", "run.toml", "--force", "loss"]);
    assert_eq!((forced.code, told(&forced, "error: ")), (2, [0, 1, 0]), "{}", forced.stderr);
    let reproduced = bench.pipeline(&["reproduce", "run", "--only", "loss"]);
    assert!(reproduced.code != 2, "a lock has no [exec]: {}", reproduced.stderr);
}

#[test]
fn a_memory_limit_that_no_stage_fits_into_is_refused_before_anything_runs() {
    let bench = Bench::small();
    bench.edit("[run]", "[exec]\nmemory = \"1KiB\"\n[run]");
    for command in ["run", "check"] {
        let ran = bench.pipeline(&[command, "run.toml"]);
        let errors = of_memory(&ran, "error: ");
        let expected =
            |error: &&str| error.contains("only 1.0 KiB is available (set at") && error.ends_with("[exec] memory");
        assert!(ran.code == 2 && !errors.is_empty() && errors.iter().all(expected), "{}", ran.stderr);
    }
    assert!(!bench.cache().join("records").exists(), "nothing ran");
}

#[test]
fn what_the_plan_finds_cached_is_never_refused() {
    let bench = cramped();
    let ran = bench.pipeline(&["run", "run.toml", "--until", "train", OVERSIZE]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    // Of a copied store no blob is sure before it is looked at.
    let copied = Command::new("cp").args(["-a", "cache", "copy"]).current_dir(bench.path()).status().unwrap();
    assert!(copied.success());
    let checked = bench.pipeline(&["check", "run.toml", "--cache", "copy"]);
    let errors = of_memory(&checked, "error: ");
    assert!(errors.len() == 2 && !errors.iter().any(|error| error.contains("'train'")), "{}", checked.stderr);
    let again = bench.pipeline(&["run", "run.toml", "--until", "train", "--cache", "copy"]);
    assert_eq!((again.code, of_memory(&again, "error: ")), (0, vec![]), "{}", again.stderr);
}

#[test]
fn what_settings_do_not_tell_is_told_as_soon_as_the_inputs_are_there() {
    let bench = cramped();
    // Of what a command writes nothing is known beforehand.
    let copy = shell("copy", "cp -rL {input:tokens}/. {output:tokens}", "inputs = { tokens = \"pack.train\" }");
    let text = fs::read_to_string(bench.path().join("run.toml")).unwrap();
    bench.write("run.toml", format!("{text}\n{copy}outputs = {{ tokens = \"tokens\" }}\n"));
    bench.edit("train = \"pack.train\", valid = \"pack.valid\", tokenizer", "train = \"copy.tokens\", tokenizer");
    let until = ["--until", "train"];
    let planned = bench.pipeline(&[&["plan", "run.toml"], &until[..]].concat());
    assert!(!planned.stderr.contains("'train' needs"), "rather no number than a wrong one: {}", planned.stderr);
    let first = bench.pipeline(&[&["run", "run.toml"], &until[..]].concat());
    assert_eq!(first.code, 1, "{}", first.stderr);
    let failed = first.stderr.lines().find(|line| line.trim_start().starts_with("failed  train")).unwrap();
    assert!(failed.contains("needs about ") && failed.contains("of memory, but only 1.0 MiB"), "{failed}");
    assert!(first.stderr.contains(OVERSIZE), "{}", first.stderr);
    let second = bench.pipeline(&[&["run", "run.toml"], &until[..]].concat());
    assert_eq!((second.code, of_memory(&second, "error: ").len()), (2, 1), "{}", second.stderr);
    let plan = bench.json(&["plan", "run.toml", "--until", "train"]);
    let train = plan["stages"].as_array().unwrap().iter().find(|stage| stage["name"] == "train").unwrap().clone();
    assert!(train["cost"]["memory"].as_u64().unwrap() > 1 << 20, "{train}");
    assert!(train["cost"]["flops"].as_f64().unwrap() > 0.0, "{train}");

    // What another command will write is not what the last one wrote.
    bench.edit("cp -rL", "cp -r -L");
    let planned = bench.pipeline(&[&["plan", "run.toml"], &until[..]].concat());
    assert!(!planned.stderr.contains("'train' needs"), "rather no number than a stale one: {}", planned.stderr);
    let third = bench.pipeline(&[&["run", "run.toml"], &until[..]].concat());
    assert_eq!((third.code, of_memory(&third, "error: ").len()), (1, 0), "{}", third.stderr);
}
