//! Sandboxes for tests, and programs for them.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeSet;

use sandbox::{Failure, Layer, Limits, Program, Sandbox, Settings, Verdict};

/// Returns a sandbox without some layers, or prints why there is none here.
///
/// Uses the system's interpreter where it can: without the layer `root`, an ordinary user must be able to run it.
pub fn sandbox(without: impl IntoIterator<Item = Layer>) -> Option<Sandbox> {
    let without: BTreeSet<_> = without.into_iter().collect();
    let system = "/usr/bin/python3";
    let python = if std::path::Path::new(system).exists() { system } else { "python3" };
    match Sandbox::new(Settings { python: python.into(), dangerously_run_without: without }) {
        Ok(sandbox) => Some(sandbox),
        Err(reason) if reason.is_lasting() => {
            eprintln!("skipped: {reason}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A program that defines some names, and tests of them.
pub fn program(candidate: &str, calls: &[&str], tests: &str) -> Program {
    Program {
        candidate: candidate.into(),
        setup: String::new(),
        calls: calls.iter().map(|name| (*name).to_owned()).collect(),
        tests: tests.into(),
    }
}

/// Runs a program with the default limits.
pub fn run(sandbox: &Sandbox, candidate: &str, calls: &[&str], tests: &str) -> Verdict {
    sandbox.run(&program(candidate, calls, tests), &Limits::default()).unwrap()
}

/// Runs a program that must fail, and returns why it did.
pub fn failure(sandbox: &Sandbox, candidate: &str, calls: &[&str], tests: &str) -> (Failure, String) {
    match run(sandbox, candidate, calls, tests) {
        Verdict::Failed { failure, detail } => (failure, detail),
        Verdict::Passed => panic!("passed: {candidate}"),
    }
}
