//! The stage kind `command`, with the programs that every Unix has.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use command::Command;
use contract::error::Failure;
use contract::harness::Harness;
use contract::{InputTree, Kind, PortType, Result, Stage, StageError, Unit};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A harness in a folder of its own, with a file tree to read.
struct Fixture {
    harness: Harness,
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { harness: Harness::new(folder.path()), folder }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn run(&mut self, settings: Value) -> Result<BTreeMap<String, InputTree>> {
        self.harness.run::<Command>(settings)
    }

    /// Runs a script in `sh`.
    fn shell(&mut self, script: &str) -> Result<BTreeMap<String, InputTree>> {
        self.run(json!({ "program": "sh", "arguments": ["-c", script] }))
    }

    fn failure(&mut self, settings: Value) -> Failure {
        match self.run(settings) {
            Err(StageError::Failed(failure)) => *failure,
            other => panic!("{other:?}"),
        }
    }

    fn shell_failure(&mut self, script: &str) -> Failure {
        self.failure(json!({ "program": "sh", "arguments": ["-c", script] }))
    }

    /// Connects a tree with these files.
    fn connect(&mut self, port: &str, script: &str) -> InputTree {
        let tree = self.shell(script).unwrap().remove("files").unwrap();
        self.harness.connect(port, &tree);
        tree
    }
}

fn content(tree: &InputTree, path: &str) -> String {
    fs::read_to_string(&tree.required(path).unwrap().location).unwrap()
}

fn paths(tree: &InputTree) -> Vec<&str> {
    tree.files.iter().map(|file| file.path.as_str()).collect()
}

#[test]
fn every_regular_file_that_a_program_writes_is_the_output() {
    let mut fixture = Fixture::new();
    let outputs =
        fixture.shell("mkdir -p out/files/deep/er && echo one > out/files/a && echo two > out/files/deep/er/b");
    let tree = &outputs.unwrap()["files"];
    assert_eq!(paths(tree), ["a", "deep/er/b"]);
    assert_eq!(content(tree, "deep/er/b"), "two\n");
}

#[test]
fn placeholders_stand_for_paths() {
    let mut fixture = Fixture::new();
    fixture.connect("words", "echo hello > out/files/list");
    let script =
        fixture.file("scripts/upper.sh", "tr a-z A-Z < \"$1/list\" > \"$2/big\"; echo \"$NOTE\" > \"$2/note\"");
    let outputs = fixture
        .run(json!({
            "program": "sh",
            "arguments": ["{source:upper.sh}", "{input:words}", "{output:report}"],
            "outputs": { "report": "report" },
            "environment": { "NOTE": "from {input:words} {{1}}" },
            "files": [script],
        }))
        .unwrap();
    assert_eq!(content(&outputs["report"], "big"), "HELLO\n");
    assert_eq!(content(&outputs["report"], "note"), "from in/words {1}\n");
}

#[test]
fn no_shell_looks_at_the_arguments() {
    let mut fixture = Fixture::new();
    let outputs = fixture.run(json!({
        "program": "cp",
        "arguments": ["{source}", "{output}/$HOME; *"],
        "files": [fixture.file("x", "1")],
    }));
    assert_eq!(paths(&outputs.unwrap()["files"]), ["$HOME; *"]);
}

#[test]
fn the_environment_is_what_the_settings_say() {
    let mut fixture = Fixture::new();
    let settings = json!({ "program": "/usr/bin/env", "pass": [], "environment": { "A": "1", "B": "two words" } });
    // `env` writes to its standard output, which is the log: it leaves the output empty.
    assert_eq!(fixture.failure(settings).message, "output 'files' is empty");
    let log = fs::read_to_string(fixture.folder.path().join("1/scratch/log")).unwrap();
    assert_eq!(log, "A=1\nB=two words\n");
    let outputs = fixture.shell("echo ${{PATH:+path}} ${{USER:-nobody}} > out/files/x").unwrap();
    assert_eq!(content(&outputs["files"], "x"), "path nobody\n");
}

#[test]
fn outputs_are_ports_of_their_types() {
    let settings = json!({ "program": "x", "outputs": { "rows": "documents", "about": "report" } });
    let stage = Kind::of::<Command>().parse(settings.as_object().unwrap()).unwrap();
    let ports = stage.ports();
    let outputs: Vec<_> = ports.outputs.iter().map(|port| (port.name.as_ref(), port.ty)).collect();
    assert_eq!(outputs, [("about", PortType::Report), ("rows", PortType::Documents)]);
    assert!(ports.open);
    let default = Kind::of::<Command>().parse(json!({ "program": "x" }).as_object().unwrap()).unwrap();
    assert_eq!(default.ports().outputs.len(), 1);
    assert_eq!(default.ports().outputs[0].name, "files");
}

#[test]
fn what_does_not_change_the_output_is_not_in_the_key() {
    let spec = |settings: Value| {
        Value::Object(Kind::of::<Command>().parse(settings.as_object().unwrap()).unwrap().spec().clone())
    };
    let all = json!({ "program": "x", "arguments": [], "pass": ["LANG"], "timeout_seconds": 5, "files": ["y"] });
    assert_eq!(spec(all), json!({ "program": "x" }));
    let environment = json!({ "program": "x", "environment": { "A": "1" }, "outputs": { "files": "files" } });
    assert_eq!(spec(environment.clone()), environment);
    let without = json!({ "program": "x", "sandbox": false, "readable": ["/opt/x"] });
    assert_eq!(spec(without), json!({ "program": "x" }), "keys of before the setting hold");
    let within = json!({ "program": "x", "sandbox": true });
    assert_eq!(spec(within.clone()), within);
}

#[test]
fn wrong_settings_are_named() {
    let problems = |settings: Value| -> Vec<String> {
        let spec = serde_json::from_value(settings.clone()).unwrap();
        let exec = serde_json::from_value(settings).unwrap();
        let problems = Command::check(&spec, &exec);
        problems.into_iter().map(|problem| format!("{}: {}", problem.setting, problem.message)).collect()
    };
    let wrong = json!({
        "program": "scripts/run.sh",
        "arguments": ["ok", "{inptu:x}", "{output:nope}", "{source:a}"],
        "outputs": { "Bad Name": "files", "b": "report" },
        "environment": { "A=": "{output}" },
        "pass": [""],
        "readable": ["/opt", "opt/x", "/"],
    });
    assert_eq!(
        problems(wrong),
        [
            "program: 'scripts/run.sh' is a relative path",
            "readable[1]: 'opt/x' is not an absolute path below /",
            "readable[2]: '/' is not an absolute path below /",
            "arguments[1]: unknown placeholder '{inptu:x}'",
            "arguments[2]: there is no output 'nope'",
            "arguments[3]: names a file, but `files` lists none",
            "environment.\"A=\": '{output}' is ambiguous: there are several outputs",
            "outputs.\"Bad Name\": invalid port name 'Bad Name'",
            "environment.\"A=\": invalid variable name 'A='",
            "pass[0]: invalid variable name ''",
        ]
    );
}

#[test]
fn a_failure_tells_the_status_and_the_last_twenty_lines() {
    let mut fixture = Fixture::new();
    let failure =
        fixture.shell_failure("i=0; while [ $i -lt 50 ]; do echo line $i; i=$((i+1)); done; echo bad >&2; exit 3");
    let lines: Vec<&str> = failure.message.lines().collect();
    assert_eq!(lines[0], "'sh' exited with status 3; it last wrote:");
    assert_eq!((lines[1], lines[20], lines.len()), ("  line 31", "  bad", 21));
    assert!(failure.hint.unwrap().ends_with("scratch/log"));
    assert_eq!(fixture.shell_failure("exit 1").message, "'sh' exited with status 1; it wrote nothing");
}

#[test]
fn what_a_program_wrote_cannot_play_with_the_terminal() {
    let failure = Fixture::new().shell_failure(r"printf 'a\033[31mb\n'; exit 1");
    assert!(failure.message.ends_with(r"  a\u{1b}[31mb"), "{}", failure.message);
}

#[test]
fn a_signal_is_told_by_its_name() {
    let failure = Fixture::new().shell_failure("kill -SEGV $$");
    assert_eq!(failure.message, "'sh' was ended by signal SIGSEGV; it wrote nothing");
}

#[test]
fn a_program_that_is_not_there_is_an_error_with_a_hint() {
    let mut fixture = Fixture::new();
    let failure = fixture.failure(json!({ "program": "no-such-program-here" }));
    assert_eq!(failure.message, "the program 'no-such-program-here' was not found");
    assert!(failure.hint.unwrap().contains("PATH"));
    let script = fixture.file("plain.txt", "no program");
    let failure = fixture.failure(json!({ "program": "{source}", "files": [script] }));
    assert!(failure.message.ends_with("plain.txt' is not executable"), "{}", failure.message);
}

#[test]
fn a_file_or_input_that_is_not_there_is_an_error_with_a_hint() {
    let mut fixture = Fixture::new();
    let failure = fixture.failure(json!({ "program": "cat", "arguments": ["{input:words}"] }));
    assert_eq!(failure.message, "'{input:words}' refers to the input 'words', which is not connected");
    let (one, other) = (fixture.file("a/run.sh", "1"), fixture.file("b/run.sh", "2"));
    let settings = |name: &str| json!({ "program": "cat", "arguments": [name], "files": [&one, &other] });
    assert_eq!(fixture.failure(settings("{source:run.sh}")).message, "'{source:run.sh}' may match several files");
    assert_eq!(fixture.failure(settings("{source:x.sh}")).message, "arguments[0]: no file in `files` is named 'x.sh'");
    assert_eq!(fixture.failure(settings("{source:a/run.sh}")).message, "output 'files' is empty");
}

#[test]
fn outputs_hold_regular_files_only() {
    let mut fixture = Fixture::new();
    for (script, message) in [
        ("ln -s /etc/passwd out/files/link", "output 'files' contains 'link', which is a symbolic link"),
        ("mkdir out/files/d && mkfifo out/files/d/pipe", "output 'files' contains 'd/pipe', which is a pipe"),
        ("rm -r out/files && ln -s /etc out/files", "output 'files' is no longer a directory"),
        ("mkdir out/files/empty", "output 'files' is empty"),
    ] {
        assert_eq!(fixture.shell_failure(script).message, message);
    }
    let failure = fixture.shell_failure(r"touch 'out/files/a\b'");
    assert!(failure.message.starts_with("output 'files' contains a file that cannot be stored"), "{}", failure.message);
}

#[test]
fn a_name_that_is_no_text_is_an_error() {
    let failure = Fixture::new().shell_failure(r#"touch "out/files/$(printf '\377')""#);
    assert!(failure.message.ends_with("whose name is not UTF-8"), "{}", failure.message);
}

#[test]
fn a_file_with_a_second_name_is_copied() {
    let mut fixture = Fixture::new();
    let outside = fixture.file("outside", "before");
    let settings = json!({ "program": "ln", "arguments": ["{source}", "{output}/x"], "files": [outside] });
    let outputs = fixture.run(settings).unwrap();
    fs::write(&outside, "after").unwrap();
    assert_eq!(content(&outputs["files"], "x"), "before");
}

#[test]
fn a_changed_input_is_an_error() {
    let mut fixture = Fixture::new();
    fixture.connect("words", "echo hello > out/files/list");
    let failure = fixture.shell_failure("echo more >> in/words/list; echo 1 > out/files/x");
    assert_eq!(failure.message, "the program changed its input 'list' in the store");
    assert!(failure.file.is_some());
}

#[test]
fn a_program_may_replace_what_it_was_given_in_its_own_folder() {
    let mut fixture = Fixture::new();
    let tree = fixture.connect("words", "mkdir -p out/files/deep && echo hello > out/files/deep/list");
    let outputs = fixture.shell("cp -rL in/words/. out/files && rm in/words/deep/list && echo x > in/words/deep/list");
    assert_eq!(content(&outputs.unwrap()["files"], "deep/list"), "hello\n");
    assert_eq!(content(&tree, "deep/list"), "hello\n");
}

#[test]
fn what_an_earlier_run_left_is_gone() {
    let mut fixture = Fixture::new();
    fixture.harness.scratch = Some(fixture.folder.path().join("scratch"));
    fixture.shell_failure("echo old > out/files/old; echo old > left; exit 1");
    let outputs = fixture.shell("ls > out/files/seen").unwrap();
    assert_eq!(content(&outputs["files"], "seen"), "out\n");
    assert_eq!(paths(&outputs["files"]), ["seen"]);
}

#[test]
fn standard_input_is_empty() {
    let mut fixture = Fixture::new();
    let outputs = fixture.shell("cat > out/files/input").unwrap();
    assert_eq!(content(&outputs["files"], "input"), "");
}

#[test]
fn a_program_that_runs_too_long_is_stopped() {
    let mut fixture = Fixture::new();
    let settings = json!({ "program": "tail", "arguments": ["-f", "/dev/null"], "timeout_seconds": 1 });
    let failure = fixture.failure(settings);
    assert_eq!(failure.message, "'tail' ran longer than 1 s and was stopped; it wrote nothing");
}

#[test]
fn progress_is_the_time_that_a_program_has_run_and_its_last_line() {
    let mut fixture = Fixture::new();
    let script = "echo first; echo second; exec tail -f /dev/null";
    fixture.failure(json!({ "program": "sh", "arguments": ["-c", script], "timeout_seconds": 1 }));
    let sample = fixture.harness.progress.sample();
    assert_eq!((sample.unit, sample.done, sample.total, sample.phase.as_str()), (Unit::Seconds, 1, None, "second"));
}

/// Runs a script that writes the number of a process to `pid`, sets the cancel flag once it did, and gives that process.
fn cancelled(script: &str) -> u32 {
    let mut fixture = Fixture::new();
    let scratch = fixture.folder.path().join("scratch");
    fixture.harness.scratch = Some(scratch.clone());
    let cancel = fixture.harness.cancel.clone();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            let number =
                wait_for(|| fs::read_to_string(scratch.join("work/pid")).ok()?.strip_suffix('\n')?.parse().ok());
            cancel.set();
            number
        });
        assert!(matches!(fixture.shell(script), Err(StageError::Interrupted)));
        waiter.join().unwrap()
    })
}

/// Waits until something is there.
fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "it never came");
        std::thread::yield_now();
    }
}

/// Waits until a process is dead, reaped or not.
fn wait_for_death(process: u32) {
    wait_for(|| match fs::read_to_string(format!("/proc/{process}/stat")) {
        Ok(stat) => stat.rsplit(')').next()?.trim_start().starts_with('Z').then_some(()),
        Err(_) => Some(()),
    });
}

#[test]
fn cancelling_kills_the_program_and_what_it_started() {
    if Path::new("/proc/self/stat").exists() {
        wait_for_death(cancelled("tail -f /dev/null & echo $! > pid; wait"));
    }
}

#[test]
fn a_program_that_ignores_the_request_is_killed_after_the_grace() {
    if Path::new("/proc/self/stat").exists() {
        wait_for_death(cancelled("trap '' TERM; echo $$ > pid; while :; do tail -f /dev/null; done"));
    }
}

#[test]
fn what_a_program_leaves_running_is_killed_before_its_output_is_taken() {
    if Path::new("/proc/self/stat").exists() {
        let mut fixture = Fixture::new();
        let outputs = fixture.shell("tail -f /dev/null & echo $! > out/files/pid").unwrap();
        wait_for_death(content(&outputs["files"], "pid").trim().parse().unwrap());
    }
}

#[test]
fn equal_settings_and_inputs_give_equal_bytes_anywhere() {
    let digest = || {
        let mut fixture = Fixture::new();
        fixture.connect("words", "echo hello > out/files/list");
        let settings = json!({
            "program": "sh",
            "arguments": ["-c", "echo \"$@\" > out/files/x", "name", "{input:words}", "{output:files}"],
        });
        fixture.run(settings).unwrap()["files"].digest
    };
    assert_eq!(digest(), digest());
}
