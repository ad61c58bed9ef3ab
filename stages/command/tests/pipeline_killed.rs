//! A command whose pipeline is killed with -9.
#![cfg(any(target_os = "linux", target_os = "android"))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use command::Command;
use contract::harness::Harness;
use serde_json::json;

/// The variable that turns [`the_pipeline_that_is_killed`] into a run of a command below its value.
const CHILD: &str = "PIPELINE_TEST_COMMAND_CHILD";
/// A program that writes its number and waits. It ends by itself in time, so that a failed test leaves nothing behind.
const PROGRAM: &str = "echo $$ > pid; exec sleep 120";

#[test]
fn the_pipeline_that_is_killed() {
    let Some(folder) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let mut harness = Harness::new(&folder);
    harness.scratch = Some(folder.join("scratch"));
    let ended = harness.run::<Command>(json!({ "program": "sh", "arguments": ["-c", PROGRAM] }));
    panic!("the program ended before its pipeline: {ended:?}");
}

fn pipeline(folder: &Path) -> Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_pipeline_that_is_killed"])
        .env(CHILD, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Looks until something is there, at most for 30 seconds.
fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(30) {
        if let Some(found) = look() {
            return Some(found);
        }
        std::thread::yield_now();
    }
    None
}

/// Whether a process is there and no zombie.
fn is_alive(process: u32) -> bool {
    let state = |stat: String| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z'));
    fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(state)
}

#[test]
fn a_program_is_killed_with_its_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let mut pipeline = pipeline(folder.path());
    let pid = folder.path().join("scratch/work/pid");
    let program: u32 = wait_for(|| fs::read_to_string(&pid).ok()?.strip_suffix('\n')?.parse().ok()).unwrap();
    assert!(is_alive(program));
    assert!(pipeline.try_wait().unwrap().is_none(), "the pipeline ended by itself");
    // On Unix this is SIGKILL: the pipeline can do nothing any more.
    pipeline.kill().unwrap();
    pipeline.wait().unwrap();
    assert!(wait_for(|| (!is_alive(program)).then_some(())).is_some(), "the program goes on");
}
