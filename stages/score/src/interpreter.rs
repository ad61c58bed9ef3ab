//! The version of a Python interpreter, which is in the key of each stage that runs programs: another version gives other results.
//!
//! It is that of [`sandbox::Sandbox::python_version`], found without a sandbox: a plan asks for it, too.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The name of the fact.
const PYTHON: &str = "python";
/// How long an interpreter may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns the version of the interpreter as a fact of the machine ([`contract::Stage::machine_facts`]): empty if there is none that answers.
pub fn facts(python: &str) -> BTreeMap<String, String> {
    version(python).map(|version| (PYTHON.to_owned(), version)).into_iter().collect()
}

/// Returns the version of an interpreter, such as `3.12.1`. Asks it once in the life of the process.
fn version(python: &str) -> Option<String> {
    static KNOWN: Mutex<BTreeMap<String, Option<String>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(python.to_owned()).or_insert_with(|| asked(python, PATIENCE)).clone()
}

fn asked(python: &str, patience: Duration) -> Option<String> {
    // A relative path starts at the working directory, of which the interpreter itself sees nothing.
    let path = std::path::Path::new(python);
    let program = if path.components().count() > 1 { std::path::absolute(path).ok()? } else { path.to_owned() };
    let mut child = Command::new(program)
        .args(["-I", "-S", "-B", "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let begun = Instant::now();
    while child.try_wait().ok()?.is_none() {
        if begun.elapsed() > patience {
            // Reaped whether the kill worked or not.
            let _ = child.kill().and_then(|()| child.wait());
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    let is_version = version.split('.').count() == 3 && version.split('.').all(|part| part.parse::<u32>().is_ok());
    (output.status.success() && is_version).then_some(version)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use sandbox::{Sandbox, Settings};

    use super::*;

    #[test]
    fn the_version_is_that_of_the_sandbox() {
        match Sandbox::new(Settings::default()) {
            Ok(sandbox) => assert_eq!(facts("python3")["python"], sandbox.python_version()),
            Err(reason) => eprintln!("skipped: {reason}"),
        }
    }

    #[test]
    fn what_is_no_interpreter_has_no_version() {
        let folder = tempfile::tempdir().unwrap();
        let program = |name: &str, script: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        for (name, script) in [("text", "echo Python 3.12.1"), ("fails", "echo 3.12.1; exit 1"), ("silent", "true")] {
            assert_eq!(facts(&program(name, script)), BTreeMap::new(), "{name}");
        }
        assert_eq!(facts("/nowhere/python3"), BTreeMap::new());
        assert_eq!(facts(&program("good", "echo 3.12.1"))["python"], "3.12.1");
        let begun = Instant::now();
        assert_eq!(asked(&program("slow", "exec sleep 1000"), Duration::from_millis(50)), None);
        assert!(begun.elapsed() < PATIENCE);
    }
}
