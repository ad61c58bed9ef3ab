//! The version of a Python interpreter, which is in the key of each stage that runs programs: another version may produce other results.
//!
//! It is that of [`sandbox::Sandbox::python_version`], found without a sandbox: a plan needs it, too. An interpreter may be replaced between the
//! plan and the run, so a stage [`check`]s that its sandbox has the version of its key.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use contract::{Result, StageError};
use sandbox::Sandbox;

/// The name of the fact.
const PYTHON: &str = "python";

/// Returns the version of the interpreter as a fact of the machine ([`contract::Stage::machine_facts`]): empty if there is none that replies, and on
/// systems other than Linux, which have no sandbox. Starts the interpreter the first time; then the process remembers the answer, unless
/// the machine could only not start it this time.
pub fn facts(python: &str) -> BTreeMap<String, String> {
    version(python).map(|version| (PYTHON.to_owned(), version)).into_iter().collect()
}

/// Checks that the version of a sandbox's interpreter is the one in the key of the stage, [`contract::Context::machine_facts`].
///
/// # Errors
/// Returns an error if the interpreter was replaced after the key was computed.
pub fn check(sandbox: &Sandbox, facts: &BTreeMap<String, String>) -> Result<()> {
    let (now, known) = (sandbox.python_version(), facts.get(PYTHON));
    if known.is_some_and(|known| known == now) {
        return Ok(());
    }
    let known = known.map_or("did not reply".to_owned(), |known| format!("had version {known}"));
    let message =
        format!("the Python interpreter has version {now}, but it {known} when the key of the stage was computed");
    Err(StageError::new(message).hint("run it again: the key contains the version"))
}

fn version(python: &str) -> Option<String> {
    static KNOWN: Mutex<BTreeMap<String, Option<String>>> = Mutex::new(BTreeMap::new());
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(version) = known().get(python) {
        return version.clone();
    }
    // Without the lock: other stages may have other interpreters.
    let version = match sandbox::python_version(Path::new(python)) {
        Err(error) if !error.is_lasting() => return None,
        version => version.ok(),
    };
    known().entry(python.to_owned()).or_insert(version).clone()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use sandbox::Settings;

    use super::*;

    #[test]
    fn the_version_is_that_of_the_sandbox() {
        match Sandbox::new(Settings::default()) {
            Ok(sandbox) => {
                let facts = facts("python3");
                assert_eq!(facts["python"], sandbox.python_version());
                check(&sandbox, &facts).unwrap();
                let earlier = check(&sandbox, &BTreeMap::from([(PYTHON.to_owned(), "3.1.1".to_owned())]));
                assert!(earlier.unwrap_err().to_string().contains("it had version 3.1.1 when"));
                assert!(check(&sandbox, &BTreeMap::new()).unwrap_err().to_string().contains("it did not reply when"));
            }
            Err(reason) => eprintln!("skipped: {reason}"),
        }
    }

    #[test]
    fn an_answer_is_remembered_but_not_that_the_machine_had_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let program = |name: &str, first: &str| {
            let (path, ran) = (folder.path().join(name), folder.path().join(format!("{name}.ran")));
            let script =
                format!("#!/bin/sh\ntest -e '{0}' || {{ touch '{0}'; {first}; }}\necho 3.12.1\n", ran.display());
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let killed = program("killed", "kill -9 $$");
        assert_eq!([facts(&killed).len(), facts(&killed).len()], [0, 1]);
        let failed = program("failed", "exit 1");
        assert_eq!([facts(&failed).len(), facts(&failed).len()], [0, 0]);
        assert_eq!(facts("/nowhere/python3"), BTreeMap::new());
    }
}
