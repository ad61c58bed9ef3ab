//! What becomes of a program whose pipeline is killed with -9. The test's own program, run again, is the pipeline.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command as Program, Stdio};
use std::time::{Duration, Instant};

use command::Command;
use contract::harness::Harness;
use serde_json::json;

/// Where the second process of this test works; the first has no such variable.
const FOLDER: &str = "COMMAND_TEST_FOLDER";

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

/// Whether a process is there and not dead.
fn lives(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|state| !state.is_empty() && !state.trim_start().starts_with('Z'))
}

/// Runs a program that has no end, in a stage on a thread of its own as the engine runs it.
fn run_for_ever(folder: &Path) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut harness = Harness::new(folder);
            harness.scratch = Some(folder.join("scratch"));
            let script = "echo $$ > pid; exec tail -f /dev/null";
            harness.run::<Command>(json!({ "program": "sh", "arguments": ["-c", script] })).unwrap();
        });
    });
}

#[test]
fn a_program_dies_with_a_pipeline_that_is_killed() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return run_for_ever(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut pipeline = Program::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_program_dies_with_a_pipeline_that_is_killed"])
        .env(FOLDER, folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = folder.path().join("scratch/work/pid");
    let program = wait_for(|| fs::read_to_string(&pid).ok()?.strip_suffix('\n')?.parse().ok());
    assert!(lives(program));
    pipeline.kill().unwrap();
    pipeline.wait().unwrap();
    wait_for(|| (!lives(program)).then_some(()));
}
