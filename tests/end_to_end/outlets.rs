//! Where a command's words go: pipes that are closed, disks that are full, terminals, and folders of other things.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use crate::bench::{Bench, DATA, Ran, shell};

/// Runs a shell script in which `$P` is the program, in the bench's folder.
fn sh(bench: &Bench, script: &str) -> Ran {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).current_dir(bench.path()).env("P", env!("CARGO_BIN_EXE_pipeline"));
    Ran::of(shell.env_remove("PIPELINE_CACHE").env("NO_COLOR", "1").output().unwrap())
}

#[test]
fn a_standard_error_that_is_full_stops_nothing() {
    let bench = Bench::new(DATA);
    assert_eq!(sh(&bench, "$P run run.toml 2>/dev/full").code, 0);
    assert!(bench.plan().values().all(|state| state == "cached"));
    let recorded = bench.pipeline(&["replay", "run", "--json"]).stdout;
    assert!(recorded.lines().last().unwrap().contains("\"run-finished\""), "{recorded}");
    // What goes wrong still ends with its code.
    for (command, code) in [("plan nope.toml", 2), ("sql run.toml 'select nope'", 2), ("run run.toml --json", 0)] {
        assert_eq!(sh(&bench, &format!("$P {command} 2>/dev/full")).code, code, "{command}");
    }
    let lost = sh(&bench, "$P run run.toml --json >/dev/full");
    assert!(lost.stderr.contains("no longer shown") && !lost.stderr.contains("recorded"), "{}", lost.stderr);
}

#[test]
fn a_standard_output_that_is_closed_or_full_is_no_panic() {
    let bench = Bench::new(DATA);
    bench.run();
    let all =
        ["completions bash", "completions zsh", "plan run.toml", "sql run.toml", "stages", "runs", "graph run.toml"];
    let cache = ["cache ls", "cache verify", "cache gc --dry-run", "cache gc --keep-runs 1"];
    let rows = ["show run.toml export", "sql run.toml 'select * from export' --format csv"];
    for command in all.iter().chain(&rows).chain(&cache) {
        let full = sh(&bench, &format!("$P {command} >/dev/full"));
        assert_eq!(full.code, 1, "{command}: {}", full.stderr);
        assert!(full.stderr.contains("No space left") && !full.stderr.contains("internal error"), "{}", full.stderr);
        // The reader is gone before anything is written.
        let closed = sh(&bench, &format!("{{ sleep 0.05; $P {command}; echo $? >code; }} | true; exit $(cat code)"));
        assert_eq!((closed.code, closed.stderr.as_str()), (0, ""), "{command}");
    }
}

#[test]
fn nothing_in_data_or_names_steers_a_terminal() {
    let bench = Bench::new(DATA);
    bench.run();
    let query = "select chr(27) || '[2J' || chr(155) as \"a\u{1b}[31m\" from export limit 1";
    let shown = bench.pipeline(&["sql", "run.toml", query]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    assert!(shown.stdout.contains("\\u{1b}[2J\\u{9b}"), "{}", shown.stdout);
    let wrong = ["sql run.toml 'select * from \"x\u{1b}[31m\"'", "replay 'x\u{1b}[31m'", "runs --cache 'x\u{1b}[31m'"];
    for said in wrong.iter().map(|command| sh(&bench, &format!("$P {command}"))).chain([shown]) {
        let steers = |c: char| c.is_control() && c != '\n';
        assert!(!said.stdout.contains(steers) && !said.stderr.contains(steers), "{}{}", said.stdout, said.stderr);
    }
}

#[test]
fn an_export_fills_a_new_or_an_empty_folder_as_a_whole_and_no_other() {
    let bench = Bench::new(DATA);
    bench.run();
    let export = |folder: &str| bench.pipeline(&["export", "run.toml", "split", folder]);
    for wrong in ["", ".", "cache/blobs/new", "run.toml", "run.toml/below"] {
        let refused = export(wrong);
        assert_eq!(refused.code, 2, "'{wrong}': {}", refused.stderr);
        assert!(refused.stderr.contains("give a new or an empty folder"), "'{wrong}': {}", refused.stderr);
    }
    fs::create_dir(bench.path().join("empty")).unwrap();
    symlink("empty", bench.path().join("link")).unwrap();
    for right in ["new/below", "link"] {
        let done = export(right);
        assert_eq!(done.code, 0, "{right}: {}", done.stderr);
        assert!(bench.path().join(right).join("train").is_dir(), "{right}");
    }
    assert_eq!(export("empty").code, 2, "it was filled by its link");
    // What is there stays what it is, and may be the folder one is in.
    let folder = bench.path().join("there");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
    let before = folder.metadata().unwrap();
    let done = sh(&bench, "cd there && $P export ../run.toml split . --cache ../cache");
    assert_eq!(done.code, 0, "{}", done.stderr);
    let after = folder.metadata().unwrap();
    assert_eq!((after.ino(), after.mode()), (before.ino(), before.mode()));
    let mut held: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    held.sort();
    assert_eq!(held, ["report", "train", "valid"]);
    let left = fs::read_dir(bench.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(left.into_iter().all(|name| !name.starts_with(".export")), "nothing is left over");
    assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0);
}

#[test]
fn an_interrupted_export_leaves_nothing() {
    let bench = Bench::new(DATA);
    bench.run();
    let (mut stopped, mut done) = (0, 0);
    for tenth in 0..60 {
        let script = format!("timeout -s INT 0.{tenth:03} $P export run.toml split out");
        let code = sh(&bench, &script).code;
        let names = fs::read_dir(bench.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let left: Vec<_> = names.filter(|name| name.starts_with(".export") || name == "out").collect();
        match code {
            0 => done += 1,
            _ => stopped += 1,
        }
        // `timeout` may come just after the end.
        let whole = bench.path().join("out").exists();
        assert_eq!(left.len(), usize::from(whole), "{left:?}");
        if whole {
            assert!(["report", "train", "valid"].iter().all(|port| bench.path().join("out").join(port).is_dir()));
            fs::remove_dir_all(bench.path().join("out")).unwrap();
        }
    }
    println!("{stopped} stopped, {done} done");
    assert!(stopped > 0, "none was stopped");
}

#[test]
fn logs_are_those_of_the_run_in_which_the_stage_ran() {
    let bench = Bench::new(DATA);
    bench.run();
    bench.run();
    for place in [&["split"][..], &["run", "split"], &["run.2", "split"]] {
        let logs = bench.pipeline(&[&["logs"], place].concat());
        assert!(logs.stdout.contains("never built"), "{place:?}: {}", logs.stdout);
        assert!(logs.stderr.contains("run.2 found it cached; this is run.1"), "{place:?}: {}", logs.stderr);
    }
    assert_eq!(bench.pipeline(&["logs", "run.1", "split"]).stderr, "");
    // A run that ends before any stage is done is nothing to reproduce.
    bench.write("run.toml", DATA.to_owned() + &shell("bad", "exit 1", ""));
    assert_eq!(bench.pipeline(&["run", "run.toml", "--until", "bad"]).code, 1);
    let reproduced = bench.pipeline(&["reproduce", "run"]);
    assert_eq!(reproduced.code, 0, "{}", reproduced.stderr);
}
