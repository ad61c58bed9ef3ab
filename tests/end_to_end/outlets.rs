//! Where a command's words go: pipes that are closed, disks that are full, terminals, and folders of other things.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};

use crate::bench::{Bench, DATA, Ran, pid, shell};

/// Runs a shell script in which `$P` is the program, in the bench's folder.
fn sh(bench: &Bench, script: &str) -> Ran {
    sh_to(bench, script, Stdio::piped())
}

/// The same, with this standard output.
fn sh_to(bench: &Bench, script: &str, output: Stdio) -> Ran {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).current_dir(bench.path()).env("P", env!("CARGO_BIN_EXE_pipeline"));
    shell.stdout(output).stderr(Stdio::piped());
    Ran::of(shell.env_remove("PIPELINE_CACHE").env("NO_COLOR", "1").spawn().unwrap().wait_with_output().unwrap())
}

#[test]
fn a_standard_error_that_is_full_stops_nothing() {
    let bench = Bench::new(DATA);
    assert_eq!(sh(&bench, "$P run run.toml 2>/dev/full").code, 0);
    assert!(bench.plan().values().all(|state| state == "cached"));
    let recorded = bench.pipeline(&["replay", "run", "--json"]).stdout;
    assert!(recorded.lines().last().unwrap().contains("\"run-finished\""), "{recorded}");
    // What goes wrong still ends with its code.
    for (command, code) in
        [("plan nope.toml", 2), ("sql run.toml 'select nope'", 2), ("run run.toml --json", 0), ("nope", 2), ("", 2)]
    {
        assert_eq!(sh(&bench, &format!("$P {command} 2>/dev/full")).code, code, "{command}");
    }
    let lost = sh(&bench, "$P run run.toml --json >/dev/full");
    assert_eq!(lost.code, 1, "{}", lost.stderr);
    assert!(lost.stderr.contains("no longer printed") && !lost.stderr.contains("recorded"), "{}", lost.stderr);
    let (_, closed) = std::io::pipe().unwrap();
    assert_eq!(sh_to(&bench, "$P run run.toml --json", closed.into()).code, 0, "who stops reading has read enough");
}

#[test]
fn a_standard_output_that_is_closed_or_full_is_no_panic() {
    let bench = Bench::new(DATA);
    bench.run();
    let all =
        ["completions bash", "completions zsh", "plan run.toml", "sql run.toml", "stages", "runs", "graph run.toml"];
    let help = ["--help", "-V", "run --help", "help plan"];
    let cache = ["cache ls", "cache verify", "cache gc --dry-run", "cache gc --keep-runs 1"];
    let rows = ["show run.toml export", "sql run.toml 'select * from export' --format csv"];
    for command in all.iter().chain(&help).chain(&rows).chain(&cache) {
        let full = sh(&bench, &format!("$P {command} >/dev/full"));
        assert_eq!(full.code, 1, "{command}: {}", full.stderr);
        assert!(full.stderr.contains("No space left") && !full.stderr.contains("internal error"), "{}", full.stderr);
        // The reader is gone before anything is written.
        let (_, closed) = std::io::pipe().unwrap();
        let closed = sh_to(&bench, &format!("$P {command}"), closed.into());
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
    // A report is text of anyone's, too.
    let report = shell(
        "evil",
        "printf 'a\\033[2Jb\\233c\\tend' > {output:report}/report.md",
        "outputs = { report = \"report\" }",
    );
    bench.write("evil.toml", report);
    assert_eq!(bench.pipeline(&["run", "evil.toml", "--quiet"]).code, 0);
    let page = bench.pipeline(&["show", "evil.toml", "evil"]).stdout;
    assert!(page.contains("a\\u{1b}[2Jb") && page.contains("c\tend"), "{page}");
    for said in wrong.iter().map(|command| sh(&bench, &format!("$P {command}"))).chain([shown]) {
        let steers = |c: char| c.is_control() && c != '\n';
        assert!(!said.stdout.contains(steers) && !said.stderr.contains(steers), "{}{}", said.stdout, said.stderr);
    }
}

#[test]
fn an_export_creates_a_new_directory_as_a_whole_and_changes_no_other() {
    let bench = Bench::new(DATA);
    bench.run();
    let export = |folder: &str| bench.pipeline(&["export", "run.toml", "split", folder]);
    fs::create_dir(bench.path().join("there")).unwrap();
    symlink("there", bench.path().join("link")).unwrap();
    for wrong in ["", ".", "there", "link", "cache/blobs/new", "cache/new/a/b", "run.toml", "run.toml/below"] {
        let refused = export(wrong);
        assert_eq!(refused.code, 2, "'{wrong}': {}", refused.stderr);
        assert!(refused.stderr.contains("name a new directory"), "'{wrong}': {}", refused.stderr);
    }
    assert!(!bench.cache().join("new").exists(), "something was made in the store");
    for right in ["new/below", "link/below"] {
        let done = export(right);
        assert_eq!(done.code, 0, "{right}: {}", done.stderr);
        let names = fs::read_dir(bench.path().join(right)).unwrap().map(|entry| entry.unwrap().file_name());
        let mut held: Vec<_> = names.collect();
        held.sort();
        assert_eq!(held, ["README.md", "report", "train", "valid"]);
    }
    let left = fs::read_dir(bench.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(left.into_iter().all(|name| !name.starts_with(".pipeline-export")), "nothing is left over");
    assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0);
}

/// What an export left in the bench's folder: what is in `out`, and temporary folders beside it.
fn exported(bench: &Bench) -> (Vec<String>, usize) {
    let names = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let beside = names(bench.path());
    (names(&bench.path().join("out")), beside.iter().filter(|name| name.starts_with(".pipeline-export")).count())
}

/// Sends signals to a process that was stopped at a point, has it go on, and gives its exit code.
fn signalled(stopped: Child, signal: Signal) -> Option<i32> {
    let pid = pid(&stopped);
    kill(pid, signal).unwrap();
    kill(pid, Signal::SIGCONT).unwrap();
    stopped.wait_with_output().unwrap().status.code()
}

#[test]
fn an_export_that_is_interrupted_leaves_nothing_or_all() {
    let bench = Bench::new(DATA);
    bench.run();
    let (all, out) = (["README.md", "report", "train", "valid"], bench.path().join("out"));
    let export = ["export", "run.toml", "split", "out"];
    let stopped = bench.start_until("export-after-claim", &export);
    assert_eq!(exported(&bench), (Vec::new(), 1));
    // The signal is a race: before the export is through, or after it.
    let code = signalled(stopped, Signal::SIGINT);
    assert!(matches!(code, Some(0 | 130)), "{code:?}");
    let (held, temporary) = exported(&bench);
    assert!(temporary == 0 && (held == all || (held.is_empty() && !out.exists())), "{held:?}, {temporary}");
    let _ = fs::remove_dir_all(&out);
    // The next export removes what a killed one left.
    let stopped = bench.start_until("export-after-claim", &export);
    assert_eq!(signalled(stopped, Signal::SIGKILL), None);
    assert_eq!(exported(&bench), (Vec::new(), 1));
    assert_eq!(bench.pipeline(&export).code, 0);
    assert_eq!(exported(&bench), (all.map(str::to_owned).to_vec(), 0));
}

#[test]
fn an_export_is_ended_at_any_moment() {
    let bench = Bench::new(DATA);
    bench.run();
    let mut stopped = 0;
    for milliseconds in (1..60).step_by(2) {
        let script = format!("timeout -s INT 0.{milliseconds:03} $P export run.toml split out");
        stopped += usize::from(sh(&bench, &script).code != 0);
        let (held, temporary) = exported(&bench);
        assert!(temporary == 0 && (held.is_empty() || held.len() == 4), "{milliseconds} ms: {held:?}, {temporary}");
        let _ = fs::remove_dir_all(bench.path().join("out"));
    }
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
        assert!(
            logs.stderr.contains("split did not run in run.2; these are its events of run.1"),
            "{place:?}: {}",
            logs.stderr
        );
    }
    assert_eq!(bench.pipeline(&["logs", "run.1", "split"]).stderr, "");
    // A run that ends before any stage is done is nothing to reproduce.
    bench.write("run.toml", DATA.to_owned() + &shell("bad", "exit 1", ""));
    assert_eq!(bench.pipeline(&["run", "run.toml", "--until", "bad"]).code, 1);
    let reproduced = bench.pipeline(&["reproduce", "run"]);
    assert_eq!(reproduced.code, 0, "{}", reproduced.stderr);
}
