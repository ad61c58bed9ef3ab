//! Finds an interpreter and the files that it needs.

use std::{
    fs::File,
    io::{self, Read, Seek},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::Unavailable;

/// An interpreter, with the files that a root directory must contain to run it.
#[derive(Debug, Deserialize)]
pub(super) struct Python {
    /// The version, such as `3.11.7`.
    pub version: String,
    /// The program itself, without links.
    pub executable: PathBuf,
    /// The directories of the standard library.
    pub directories: Vec<PathBuf>,
    /// The program and the shared objects outside the library.
    pub files: Vec<PathBuf>,
    /// Symbolic links to `files`: the loader's name and the names by which shared objects are found.
    pub links: Vec<PathBuf>,
    /// Directories of installed packages inside the library, which stay hidden.
    pub hidden: Vec<PathBuf>,
    /// The server's code, as this version of the interpreter has compiled it.
    #[serde(deserialize_with = "from_hex")]
    pub server: Vec<u8>,
}

/// The server's program.
const SERVER: &str = concat!(
    include_str!("../python/values.py"),
    include_str!("../python/roles.py"),
    include_str!("../python/pages.py"),
    include_str!("../python/trial.py"),
    include_str!("../python/server.py"),
);

/// How long the interpreter may take to report what it needs.
const PATIENCE: Duration = Duration::from_secs(60);

impl Python {
    /// Runs an interpreter to find out what it needs: a path, or a name that is looked up in `PATH`. It imports nothing from the caller's
    /// working directory or environment, because it is not confined here.
    pub fn find(python: &Path) -> Result<Self, Unavailable> {
        Self::find_within(python, PATIENCE)
    }

    fn find_within(python: &Path, patience: Duration) -> Result<Self, Unavailable> {
        let unusable = |reason: String| Unavailable::Python { python: python.display().to_string(), reason };
        let failed = |error: io::Error| unusable(error.to_string());
        let program = located(python).map_err(failed)?;
        let (mut output, mut errors) = (tempfile::tempfile().map_err(failed)?, tempfile::tempfile().map_err(failed)?);
        let mut child = Command::new(program)
            .args(["-I", "-S", "-B", "-c", include_str!("../python/probe.py"), SERVER])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(errors.try_clone().map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        let Some(status) = wait(&mut child, patience).map_err(failed)? else {
            return Err(unusable(format!("it did not answer within {} seconds", patience.as_secs())));
        };
        if !status.success() {
            let text = content(&mut errors).map_err(failed)?;
            return Err(unusable(text.lines().last().unwrap_or("it ended without an error message").to_owned()));
        }
        let text = content(&mut output).map_err(failed)?;
        serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))
    }
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let byte = |digits: &[u8]| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
    bytes.ok_or_else(|| D::Error::custom("the server's code is not hexadecimal"))
}

/// Returns the absolute path of a program; for a bare name, the first executable in `PATH`.
fn located(program: &Path) -> io::Result<PathBuf> {
    if program.components().count() != 1 || program.is_absolute() {
        return std::path::absolute(program);
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&folders).map(|folder| folder.join(program));
    let is_program = |path: &PathBuf| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    let missing = || io::Error::new(io::ErrorKind::NotFound, "there is no such program in PATH");
    std::path::absolute(places.find(is_program).ok_or_else(missing)?)
}

/// Waits for the end of a process. If it takes longer than `patience`, it is killed, and `None` is returned.
fn wait(child: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() >= patience {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the data that a process wrote to a file.
fn content(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn an_interpreter_that_does_not_answer_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("python");
        fs::write(&program, "#!/bin/sh\nexec sleep 1000\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let error = Python::find_within(&program, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("did not answer"), "{error}");
    }

    #[test]
    fn a_bare_name_is_found_in_path_alone() {
        assert!(located(Path::new("sh")).unwrap().is_absolute());
        assert_eq!(located(Path::new("no-such-program")).unwrap_err().kind(), io::ErrorKind::NotFound);
        let here = std::env::current_dir().unwrap();
        assert_eq!(located(Path::new("venv/python")).unwrap(), here.join("venv/python"));
    }
}
