//! Kills, and two runs on one store.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use contract::Draw;
use nix::sys::signal::{Signal, kill};
use pipeline::store::{KeyLock, LockHolder, Store};
use serde_json::Value;

use crate::bench::{Bench, Ran, pid, shell, told};

const ALL: [&str; 10] =
    ["export", "license", "quality", "dedup", "split", "tokenizer", "pack", "train", "loss", "completions"];

#[test]
fn a_run_killed_at_any_point_ends_with_the_same_bytes_when_it_is_run_again() {
    let whole = Bench::small();
    whole.run();
    let expected = whole.digests(&ALL);
    let killed = Bench::small();
    let mut landed = 0;
    for stage in ["sample", "license", "dedup", "tokenizer", "train", "loss"] {
        let mut child = killed.start(&["run", "run.toml", "--json"]);
        let mut lines = told(&mut child);
        let started =
            |line: &str| line.contains("\"stage-started\"") && line.contains(&format!("\"stage\":\"{stage}\""));
        assert!(lines.any(|line| started(&line)), "{stage} never started");
        child.kill().unwrap();
        let status = child.wait().unwrap();
        let cached = killed.plan().values().filter(|state| *state == "cached").count();
        landed += usize::from(status.signal() == Some(9) && cached < killed.plan().len());
    }
    // A stage may be done before the kill comes, the whole run only after the last stage has started.
    assert!(landed >= 4, "only {landed} of 6 kills came before the run was done");
    killed.run();
    assert_eq!(killed.digests(&ALL), expected);
    assert!(killed.plan().values().all(|state| state == "cached"));
}

/// `KILL_MOMENTS=1000` kills at a thousand moments; `KILL_SEED` changes them.
#[test]
fn a_real_run_killed_at_a_random_moment_loses_nothing() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (moments, seed) = (number("KILL_MOMENTS", 6), number("KILL_SEED", 1));
    let whole = Bench::small();
    let started = Instant::now();
    whole.run();
    let (length, expected) = (started.elapsed(), whole.digests(&ALL));
    let mut landed = 0;
    for moment in 0..moments {
        let bench = Bench::small();
        let mut child = bench.start(&["run", "run.toml", "--quiet"]);
        std::thread::sleep(length.mul_f64(Draw::new(seed, "kill").unit(&moment.to_le_bytes())));
        child.kill().unwrap();
        landed += u64::from(child.wait().unwrap().signal() == Some(9));
        let when = format!("moment {moment} of seed {seed}");
        let again = bench.pipeline(&["run", "run.toml", "--quiet"]);
        assert_eq!(again.code, 0, "{when}: {}", again.stderr);
        assert_eq!(bench.digests(&ALL), expected, "{when}");
        assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0, "{when}");
        assert!(bench.plan().values().all(|state| state == "cached"), "{when}");
    }
    println!("{landed} of {moments} kills came before the run was done");
    assert!(landed * 2 >= moments, "only {landed} of {moments} kills came before the run was done");
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

/// Ctrl-C.
fn interrupt(child: &Child) {
    assert!(Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap().success());
}

#[test]
fn an_interrupted_training_says_so_and_resumes_to_the_same_bytes() {
    let long = ["--set", "stages.train.steps=600", "--set", "stages.train.checkpoint_every=50"];
    let run = [&["run", "run.toml", "--json"], &long[..]].concat();
    let whole = Bench::small();
    assert_eq!(whole.pipeline(&run).code, 0);

    let bench = Bench::small();
    let mut child = bench.start(&run);
    let mut lines = told(&mut child);
    // Steps are done: some line of the training's metrics has come.
    let began = lines.any(|line| line.contains("\"note\":\"metric\""));
    assert!(began, "the training never began");
    interrupt(&child);
    let last = lines.last().unwrap();
    assert!(last.contains("\"event\":\"run-finished\"") && last.contains("\"interrupted\""), "{last}");
    assert_eq!(child.wait().unwrap().code(), Some(130));

    // The plan says where it goes on, and how long that takes.
    let plan = bench.json(&[&["plan", "run.toml"], &long[..]].concat());
    let planned = plan["stages"].as_array().unwrap().iter().find(|stage| stage["name"] == "train").unwrap();
    let reason = &planned["reasons"][0];
    assert_eq!(
        (&reason["reason"], &reason["total"], &reason["unit"]),
        (&"resumes".into(), &600.into(), &"steps".into())
    );
    assert_eq!(planned["reasons"].as_array().unwrap().len(), 1, "it was begun: {planned}");
    let (done, left) = (reason["done"].as_u64().unwrap(), reason["left"].as_f64().unwrap());
    let before = left * done as f64 / (600 - done) as f64;
    let estimate = &planned["estimate"];
    assert_eq!((&estimate["basis"], estimate["least"].as_f64()), (&"checkpoint".into(), Some(left)));
    let text = reason["text"].as_str().unwrap();
    assert!(text.starts_with(&format!("resumes at step {done} of 600 (checkpoint ")), "{text}");
    assert!(text.contains(" old), about ") && text.ends_with(" left"), "{text}");

    let resumed = bench.pipeline(&run);
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    assert!(resumed.stdout.contains("resumed after step"), "{}", resumed.stdout);
    let events = resumed.events();
    let of_train = |event: &str| events.iter().find(|one| one["event"] == event && one["stage"] == "train").unwrap();
    let started = of_train("stage-started")["reasons"][0].as_str().unwrap();
    assert!(started.starts_with(&format!("resumes at step {done} of 600")), "{started}");
    // The time on record is that of both runs.
    let builds = bench.json(&["cache", "ls"])["builds"].clone();
    let build = builds.as_array().unwrap().iter().find(|build| build["kind"] == "train").unwrap();
    let (recorded, rest) =
        (build["seconds"].as_f64().unwrap(), of_train("stage-finished")["seconds"].as_f64().unwrap());
    assert!((recorded - before - rest).abs() < 1e-6, "{recorded} is not {before} and {rest}");
    let digests = |bench: &Bench| {
        let shown = bench.pipeline(&[&["show", "run.toml", "train", "--json"], &long[..]].concat());
        let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
        (shown["outputs"]["model"]["digest"].clone(), shown["outputs"]["metrics"]["digest"].clone())
    };
    assert_eq!(digests(&bench), digests(&whole));
}

#[test]
fn a_second_interrupt_ends_the_program_at_once_and_the_store_works() {
    let bench = Bench::new("");
    let [begun, quick] = ["begun", "quick"].map(|name| bench.path().join(name).display().to_string());
    assert!(Command::new("mkfifo").arg(&begun).status().unwrap().success());
    // A program that is asked to stop has two seconds to do so; this one takes them all.
    let script = format!(
        "trap '' TERM; if [ ! -e '{quick}' ]; then echo > '{begun}'; sleep 10; fi; echo done > {{output:files}}/result"
    );
    let first = "[stages.first]\nkind = \"sample\"\nrepositories = 1\n";
    bench.write("run.toml", [first, &shell("slow", &script, "inputs = { files = \"first\" }")].concat());

    let mut child = bench.start(&["run", "run.toml", "--json"]);
    fs::read(&begun).unwrap();
    interrupt(&child);
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(stderr.any(|line| line.unwrap().contains("press Ctrl-C again")));
    interrupt(&child);
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 130);
    assert_eq!(ran.stages("stage-finished"), ["first"]);
    assert!(!ran.stdout.contains("run-finished"), "it waited for the stage\n{}", ran.stdout);

    bench.write("quick", "");
    assert_eq!(bench.run(), ["slow"]);
    assert!(bench.plan().values().all(|state| state == "cached"));
}

#[test]
fn scripts_that_swap_contents_are_other_sources() {
    let manifest = r#"
[stages.both]
kind = "command"
program = "/bin/sh"
arguments = ["-c", "cp {source:a.txt} {output:files}/a"]
files = ["*.txt"]
"#;
    let bench = Bench::new(manifest);
    bench.write("a.txt", "one").write("b.txt", "two");
    assert_eq!(bench.run(), ["both"]);
    bench.write("a.txt", "two").write("b.txt", "one");
    assert_eq!(bench.run(), ["both"]);
}

#[test]
fn a_run_that_ends_while_room_is_made_keeps_what_it_gave() {
    let bench = Bench::new(&shell("one", "echo 1 > {output:files}/out", ""));
    let ending = bench.start_until("lock-before-write", &["run", "run.toml", "--quiet"]);
    // From here on nothing but the lease of the first run holds what it gave.
    bench.edit("echo 1", "echo 2").run();
    let making = bench.start_until("gc-after-leases", &["cache", "gc", "--keep-size", "1B"]);
    for stopped in [ending, making] {
        kill(pid(&stopped), Signal::SIGCONT).unwrap();
        let ended = stopped.wait_with_output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    bench.edit("echo 2", "echo 1");
    assert_eq!(bench.plan()["one"], "cached");
    assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0);
}

/// The lock of the key that a plan has for a stage.
fn lock(store: &Store, stage: &Value) -> KeyLock {
    let key = stage["key"].as_str().unwrap().parse().unwrap();
    store.work.lock(key, &LockHolder::this("test")).unwrap().expect("it is free")
}

#[test]
fn a_stage_that_waits_is_told_of_once_and_skipped_when_the_run_is_to_stop() {
    let bench = Bench::new(&(shell("held", "true", "") + &shell("wrong", "false", "")));
    let store = Store::open(&bench.cache()).unwrap();
    let _lock = lock(&store, &bench.json(&["plan", "run.toml"])["stages"][0]);
    for (options, code, because) in
        [(&["--until", "held"][..], 130, "the run was interrupted"), (&["--fail-fast"], 1, "another stage failed")]
    {
        let mut run = bench.start(&[&["run", "run.toml", "--json"], options].concat());
        let mut told = told(&mut run);
        if code == 130 {
            let waiting = told.find(|line| line.contains("\"stage-waiting\"")).unwrap();
            assert!(waiting.contains("stage test"), "{waiting}");
            // A few looks at the lock later.
            sleep(Duration::from_millis(350));
            kill(pid(&run), Signal::SIGINT).unwrap();
        }
        let rest: Vec<_> = told.collect();
        assert_eq!(run.wait().unwrap().code(), Some(code), "{rest:?}");
        let skipped = rest.iter().find(|line| line.contains("\"stage-skipped\"")).unwrap();
        assert!(skipped.contains("\"held\"") && skipped.contains(because), "{skipped}");
        assert!(code != 130 || !rest.iter().any(|line| line.contains("\"stage-waiting\"")), "{rest:?}");
    }
}

#[test]
fn what_another_process_has_built_needs_no_share() {
    let waits = |name: &str, file: &str| {
        shell(name, &format!("while [ ! -e '@{file}@' ]; do sleep 0.02; done; echo 1 > {{output:files}}/out"), "")
    };
    let bench = Bench::new("");
    let place = |text: String| {
        ["first", "second"]
            .iter()
            .fold(text, |text, file| text.replace(&format!("@{file}@"), &bench.path().join(file).display().to_string()))
    };
    bench.write("one.toml", place(waits("a", "first")));
    bench.write("two.toml", place(waits("a", "first") + &waits("b", "second")));
    let mut one = bench.start(&["run", "one.toml", "--json"]);
    let mut of_one = told(&mut one);
    assert!(of_one.any(|line| line.contains("\"stage-started\"")));
    let mut two = bench.start(&["run", "two.toml", "--json", "--jobs", "1"]);
    let mut of_two = told(&mut two);
    assert!(of_two.any(|line| line.contains("\"stage-started\"") && line.contains("\"b\"")));
    bench.write("first", "");
    // The only share is b's, which goes on until the second file is there.
    assert!(of_two.any(|line| line.contains("\"stage-cached\"") && line.contains("\"a\"")));
    bench.write("second", "");
    assert!(of_two.any(|line| line.contains("\"run-finished\"") && line.contains("\"done\"")));
    of_one.for_each(drop);
    assert_eq!([one.wait().unwrap().code(), two.wait().unwrap().code()], [Some(0), Some(0)]);
}

#[test]
fn builds_of_another_process_keep_no_other_stage_from_running() {
    let held = |number| shell(&format!("held{number:02}"), &format!("echo {number} > {{output:files}}/out"), "");
    let free = shell("zfree", "echo free > {output:files}/out", "");
    let bench = Bench::new(&((0..40).map(held).collect::<String>() + &free));
    let store = Store::open(&bench.cache()).unwrap();
    let plan = bench.json(&["plan", "run.toml"]);
    let held = plan["stages"].as_array().unwrap().iter().filter(|stage| stage["name"] != "zfree");
    let locks: Vec<_> = held.map(|stage| lock(&store, stage)).collect();
    assert_eq!(locks.len(), 40);
    let mut run = bench.start(&["run", "run.toml", "--json"]);
    let mut told = told(&mut run);
    assert!(told.any(|line| line.contains("\"stage-finished\"") && line.contains("\"zfree\"")));
    drop(locks);
    let rest: Vec<_> = told.collect();
    assert_eq!(rest.iter().filter(|line| line.contains("\"stage-finished\"")).count(), 40, "{rest:?}");
    assert_eq!(run.wait().unwrap().code(), Some(0));
}

#[test]
fn a_plan_and_another_run_say_who_builds_what_they_need() {
    let slow = shell("slow", "while [ ! -e \"$0\" ]; do sleep 0.02; done; echo done > {output:files}/out", "");
    let below = shell("below", "cat {input:up}/out > {output:files}/out", "inputs = { up = \"slow\" }");
    let bench = Bench::new("");
    let go = bench.path().join("go").display().to_string();
    bench.write("run.toml", slow.replace("\"$0\"", &format!("\"{go}\"")) + &below);
    let mut first = bench.start(&["run", "run.toml", "--json"]);
    let mut lines = told(&mut first);
    assert!(lines.any(|line| line.contains("\"stage-started\"")));
    let plan = bench.json(&["plan", "run.toml"]);
    let (slow, below) = (&plan["stages"][0], &plan["stages"][1]);
    assert_eq!((&slow["name"], &slow["state"]), (&"slow".into(), &"waiting".into()), "{plan}");
    assert_eq!(slow["reasons"][0]["reason"], "held");
    assert_eq!(slow["reasons"][0]["holder"]["pid"], first.id());
    assert_eq!(below["state"], "may-run", "the other run may build it too: {plan}");
    let reasons: Vec<_> = below["reasons"].as_array().unwrap().iter().map(|reason| reason["text"].clone()).collect();
    assert_eq!(reasons, ["never built", "unless the process that now builds slow builds it too"]);
    let text = bench.pipeline(&["plan", "run.toml"]).stdout;
    assert!(text.contains(&format!(" waiting  slow   waiting for pid {}", first.id())), "{text}");

    let mut second = bench.start(&["run", "run.toml", "--json"]);
    let mut told = told(&mut second);
    let waits = told.find(|line| line.contains("\"stage-waiting\"")).unwrap();
    assert!(waits.contains(&format!("pid {}", first.id())) && waits.contains("stage slow"), "{waits}");
    bench.write("go", "");
    let rest: Vec<_> = told.collect();
    assert!(rest.iter().any(|line| line.contains("\"stage-cached\"") && line.contains("\"slow\"")), "{rest:?}");
    assert!(lines.any(|line| line.contains("\"run-finished\"")));
    assert_eq!([first.wait().unwrap().code(), second.wait().unwrap().code()], [Some(0), Some(0)]);
}

#[test]
fn what_a_killed_run_left_running_writes_to_no_later_output() {
    // The grandchild outlives the kill, and writes by full path when it is told to, or soon after.
    let script = "d=$PWD; (while [ ! -e '@GO@' ]; do sleep 0.02; done; echo stray >> $d/{output:files}/out) & \
                  touch '@BEGUN@'; while [ ! -e '@GO@' ]; do sleep 0.02; done; sleep 0.3; echo done >> {output:files}/out";
    let bench = Bench::new("");
    let place = |name: &str| bench.path().join(name).display().to_string();
    bench.write(
        "run.toml",
        shell("writer", &script.replace("@GO@", &place("go")).replace("@BEGUN@", &place("begun")), ""),
    );
    let mut run = bench.start(&["run", "run.toml"]);
    while !bench.path().join("begun").exists() {
        sleep(Duration::from_millis(5));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    fs::remove_file(bench.path().join("begun")).unwrap();
    let mut again = bench.start(&["run", "run.toml"]);
    while !bench.path().join("begun").exists() {
        sleep(Duration::from_millis(5));
    }
    bench.write("go", "");
    assert!(again.wait().unwrap().success());
    let output = fs::read_to_string(bench.cache().join("runs/run/latest/writer/files/out")).unwrap();
    // One of this run's own, which the script started too.
    assert_eq!(output.matches("stray").count(), 1, "{output}");
}
