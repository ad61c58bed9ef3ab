//! The stage kind `command` with `sandbox = true`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use command::{Command, confined};
use contract::error::Failure;
use contract::harness::Harness;
use contract::{InputTree, Kind, Note, Result, StageError};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A harness in a folder of its own.
struct Fixture {
    harness: Harness,
    folder: TempDir,
}

impl Fixture {
    /// Returns `None` where the machine has no sandbox.
    fn new() -> Option<Self> {
        let check = confined::check_machine();
        if check.missing.is_some() {
            eprintln!("skipped: {}", check.text);
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut harness = Harness::new(folder.path());
        harness.scratch = Some(folder.path().join("scratch"));
        Some(Self { harness, folder })
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().canonicalize().unwrap().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Runs a script in `sh` with further settings.
    fn shell(&mut self, script: &str, more: Value) -> Result<BTreeMap<String, InputTree>> {
        let mut settings = json!({ "program": "sh", "arguments": ["-c", script], "sandbox": true });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.harness.run::<Command>(settings)
    }

    fn failure(&mut self, script: &str, more: Value) -> Failure {
        match self.shell(script, more) {
            Err(StageError::Failed(failure)) => *failure,
            other => panic!("{other:?}"),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let warning = |note| match note {
            Note::Warning { text } => Some(text),
            _ => None,
        };
        self.harness.progress.drain().into_iter().filter_map(warning).collect()
    }
}

fn content(tree: &InputTree, path: &str) -> String {
    fs::read_to_string(&tree.required(path).unwrap().location).unwrap()
}

#[test]
fn declared_inputs_and_files_are_read_and_outputs_are_written() {
    let Some(mut fixture) = Fixture::new() else { return };
    let words = fixture.shell("mkdir out/files/deep; echo hello >out/files/deep/list", json!({})).unwrap();
    fixture.harness.connect("words", &words["files"]);
    let script = fixture.file("scripts/upper.sh", "tr a-z A-Z <\"$1/deep/list\" >\"$2/big\"; pwd >\"$2/place\"");
    let settings = json!({
        "arguments": ["{source:upper.sh}", "{input:words}", "{output:report}"],
        "outputs": { "report": "report" },
        "files": [script],
    });
    let outputs = fixture.shell("", settings).unwrap();
    assert_eq!(content(&outputs["report"], "big"), "HELLO\n");
    assert!(content(&outputs["report"], "place").ends_with("/scratch/work\n"), "the paths are those of the machine");
    let metadata = fs::metadata(&outputs["report"].required("big").unwrap().location).unwrap();
    assert_eq!(metadata.uid(), nix::unistd::geteuid().as_raw());
    assert!(!fixture.folder.path().join("scratch/tmp").exists());
    assert_eq!(fixture.warnings(), [] as [&str; 0]);
}

#[test]
fn the_sandbox_changes_no_byte_of_what_needs_nothing_else() {
    let Some(mut fixture) = Fixture::new() else { return };
    let script = "i=0; while [ $i -lt 100 ]; do echo $i; i=$((i+1)); done | sort -r >out/files/x";
    let confined = fixture.shell(script, json!({})).unwrap();
    let free = fixture.shell(script, json!({ "sandbox": false })).unwrap();
    assert_eq!(confined["files"].digest, free["files"].digest);
}

#[test]
fn an_undeclared_read_is_refused_and_named_in_the_error() {
    let Some(mut fixture) = Fixture::new() else { return };
    let other = fixture.file("home/x.txt", "secret");
    let failure = fixture.failure(&format!("cat {}", other.display()), json!({}));
    let expected = format!("\nundeclared reads: {}", other.display());
    assert!(failure.message.starts_with("'sh' exited with status 1; it last wrote:\n  cat: "), "{}", failure.message);
    assert!(failure.message.ends_with(&expected), "{}", failure.message);
    assert!(
        failure.hint.unwrap().starts_with("declare what it needs in `files` or `readable`; the full output is in ")
    );
    let outputs = fixture.shell(&format!("cat {} >out/files/x", other.display()), json!({ "files": [other] }));
    assert_eq!(content(&outputs.unwrap()["files"], "x"), "secret");
}

#[test]
fn an_undeclared_read_that_a_program_does_without_is_a_warning() {
    let Some(mut fixture) = Fixture::new() else { return };
    let other = fixture.file("home/settings", "debug");
    let script = format!("[ -e {0} ] && cat {0} >out/files/x || echo default >out/files/x", other.display());
    let outputs = fixture.shell(&script, json!({})).unwrap();
    assert_eq!(content(&outputs["files"], "x"), "default\n");
    let expected = format!(
        "undeclared reads: {} (the program ran without them; declare what it needs in `files` or `readable`)",
        other.display()
    );
    assert_eq!(fixture.warnings(), [expected]);
}

#[test]
fn a_readable_directory_is_seen_with_all_that_is_in_it() {
    let Some(mut fixture) = Fixture::new() else { return };
    let tool = fixture.file("installed/bin/tool", "#!/bin/sh\ncat \"$0.txt\" >\"$1/x\"\n");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let (text, folder) = (fixture.file("installed/bin/tool.txt", "text\n"), tool.parent().unwrap());
    let settings = json!({
        "program": "tool",
        "arguments": ["{output}"],
        "environment": { "PATH": format!("{}:/usr/bin:/bin", folder.display()) },
    });
    let failure = fixture.failure("", settings.clone());
    assert_eq!(failure.message, format!("the program '{}' is not visible in the sandbox", tool.display()));
    let mut settings = settings;
    settings["readable"] = json!([folder]);
    let outputs = fixture.shell("", settings.clone()).unwrap();
    assert_eq!(content(&outputs["files"], "x"), fs::read_to_string(text).unwrap());
    settings["readable"] = json!(["/no/such/directory"]);
    let failure = fixture.failure("", settings);
    assert_eq!(failure.file.as_deref(), Some(Path::new("/no/such/directory")));
}

#[test]
fn inputs_cannot_be_changed() {
    let Some(mut fixture) = Fixture::new() else { return };
    let words = fixture.shell("echo hello >out/files/list", json!({})).unwrap();
    let location = words["files"].required("list").unwrap().location.clone();
    fs::set_permissions(&location, fs::Permissions::from_mode(0o666)).unwrap();
    fixture.harness.connect("words", &words["files"]);
    let script = "(echo more >>in/words/list; rm in/words/list; echo x >in/new) 2>out/files/errors; wc -l <out/files/errors >out/files/x";
    let outputs = fixture.shell(script, json!({})).unwrap();
    assert_eq!(content(&outputs["files"], "x").trim(), "3");
    assert_eq!(fs::read_to_string(location).unwrap(), "hello\n");
}

#[test]
fn a_program_in_the_sandbox_ends_as_one_outside() {
    let Some(mut fixture) = Fixture::new() else { return };
    let failure = fixture.failure("kill -SEGV $$", json!({}));
    assert_eq!(failure.message, "'sh' was ended by signal SIGSEGV; it wrote nothing");
    let settings = json!({ "program": "tail", "arguments": ["-f", "/dev/null"], "timeout_seconds": 1 });
    let failure = fixture.failure("", settings);
    assert_eq!(failure.message, "'tail' ran longer than 1 s and was stopped; it wrote nothing");
    let failure = fixture.failure("", json!({ "program": "no-such-program-here" }));
    assert_eq!(failure.message, "the program 'no-such-program-here' was not found");
}

#[test]
fn a_program_is_asked_to_stop_before_it_is_killed() {
    let Some(mut fixture) = Fixture::new() else { return };
    let script = "trap 'echo asked; exit 3' TERM; while :; do sleep 0.05; done";
    let failure = fixture.failure(script, json!({ "timeout_seconds": 1 }));
    assert!(failure.message.ends_with("\n  asked"), "{}", failure.message);
}

#[test]
fn the_machine_is_checked_only_for_a_sandbox() {
    let checks = |settings: Value| Kind::of::<Command>().parse(settings.as_object().unwrap()).unwrap().check_machine();
    assert_eq!(checks(json!({ "program": "x" })), []);
    let found = checks(json!({ "program": "x", "sandbox": true }));
    assert_eq!((found.len(), found[0].setting), (1, "sandbox"));
    match &found[0].missing {
        None => assert!(found[0].text.starts_with("this machine provides the layers root, pid, "), "{found:?}"),
        Some(hint) => assert!(hint.starts_with("with sandbox = false "), "{found:?}"),
    }
}

/// Where the second process of the test below works; the first has no such variable.
const FOLDER: &str = "COMMAND_SANDBOX_TEST_FOLDER";

#[test]
fn all_of_a_program_in_the_sandbox_dies_with_a_pipeline_that_is_killed() {
    let Some(mut fixture) = Fixture::new() else { return };
    if let Some(folder) = std::env::var_os(FOLDER) {
        fixture.harness.scratch = Some(Path::new(&folder).join("scratch"));
        // What it starts leaves the group and the session; both hold the lock.
        let script = "exec 9>lock; flock -x 9; setsid tail -f /dev/null & echo >ready; exec tail -f /dev/null";
        fixture.shell(script, json!({})).unwrap();
        return;
    }
    let mut pipeline = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "all_of_a_program_in_the_sandbox_dies_with_a_pipeline_that_is_killed"])
        .env(FOLDER, fixture.folder.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let work = fixture.folder.path().join("scratch/work");
    let started = std::time::Instant::now();
    let wait_for = |is_there: &dyn Fn() -> bool| {
        while !is_there() {
            assert!(started.elapsed() < std::time::Duration::from_secs(120), "it never came");
            std::thread::yield_now();
        }
    };
    wait_for(&|| work.join("ready").exists());
    let lock = fs::File::open(work.join("lock")).unwrap();
    assert!(lock.try_lock().is_err(), "the program holds it");
    pipeline.kill().unwrap();
    pipeline.wait().unwrap();
    wait_for(&|| lock.try_lock().is_ok());
}
