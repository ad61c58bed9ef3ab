//! Finds an interpreter and the files that it needs.

use std::{
    fs::File,
    io::{self, Read, Seek},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::memfd::{MFdFlags, memfd_create},
    unistd::{AccessFlags, access},
};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{Broken, Unavailable};

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

/// How long an interpreter may take to reply.
const PATIENCE: Duration = Duration::from_secs(60);

/// Prints the version that [`Python::version`] holds.
const VERSION: &str = "import sys; print('%d.%d.%d' % sys.version_info[:3])";

impl Python {
    /// Runs an interpreter to find out what it needs: a path, or a name that is looked up in `PATH`. It imports nothing from the caller's
    /// working directory or environment, because it is not confined here.
    pub fn find(python: &Path) -> Result<Self, Unavailable> {
        let text = reply(python, &[include_str!("../python/probe.py"), SERVER], PATIENCE)?;
        serde_json::from_str(&text).map_err(|error| unusable(python, error.to_string()))
    }
}

/// Returns the version of an interpreter, such as `3.11.7`: that of a sandbox with the same setting, without building one.
///
/// # Errors
/// Returns an error if there is no usable interpreter; one that is not lasting if the machine could not run it this time.
pub fn python_version(python: &Path) -> Result<String, Unavailable> {
    let text = reply(python, &[VERSION], PATIENCE)?;
    let version = text.trim();
    let is_version = version.split('.').count() == 3 && version.split('.').all(|part| part.parse::<u32>().is_ok());
    match is_version {
        true => Ok(version.to_owned()),
        false => Err(unusable(python, "it did not print its version".to_owned())),
    }
}

/// Runs code in an interpreter that is not confined, and returns what it printed.
fn reply(python: &Path, code: &[&str], patience: Duration) -> Result<String, Unavailable> {
    let failed = |error| refused(python, error);
    let program = located(python).map_err(failed)?;
    let (mut output, mut errors) = (file("output")?, file("errors")?);
    let copy = |file: &File| file.try_clone().map_err(Broken::system("cannot copy a descriptor"));
    let mut child = Command::new(program)
        .args(["-I", "-S", "-B", "-c"])
        .args(code)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(copy(&output)?)
        .stderr(copy(&errors)?)
        .spawn()
        .map_err(failed)?;
    let status = wait(&mut child, patience).map_err(Broken::system("cannot wait for the interpreter"))?;
    let ended = |how: String| {
        let error = io::Error::other(format!("'{}' {how}", python.display()));
        Unavailable::Start(Broken::System { action: "cannot query the Python interpreter", error })
    };
    let Some(status) = status else {
        return Err(ended(format!("did not reply within {} seconds", patience.as_secs())));
    };
    let content = |file: &mut File| content(file).map_err(Broken::system("cannot read an anonymous file"));
    if let Some(signal) = status.signal() {
        // A machine that is short of memory kills processes.
        return Err(ended(format!("was ended by signal {signal}")));
    }
    if !status.success() {
        let text = content(&mut errors)?;
        return Err(unusable(python, text.lines().last().unwrap_or("it ended without an error message").to_owned()));
    }
    Ok(content(&mut output)?)
}

fn unusable(python: &Path, reason: String) -> Unavailable {
    Unavailable::Python { python: python.display().to_string(), reason }
}

/// Returns the error for an interpreter that could not be started: a lack of the machine if the path is not that of a program, but not if
/// the machine had no memory, process or descriptor left.
fn refused(python: &Path, error: io::Error) -> Unavailable {
    use io::ErrorKind::{InvalidInput, NotADirectory, NotFound, PermissionDenied};
    let is_path = matches!(error.kind(), NotFound | PermissionDenied | NotADirectory | InvalidInput);
    match is_path || error.raw_os_error() == Some(libc::ENOEXEC) {
        true => unusable(python, error.to_string()),
        false => Unavailable::Start(Broken::System { action: "cannot start the Python interpreter", error }),
    }
}

/// Creates an anonymous file, which needs no room on disk.
fn file(name: &str) -> Result<File, Broken> {
    let file = memfd_create(name, MFdFlags::MFD_CLOEXEC).map_err(Broken::system("cannot make an anonymous file"))?;
    Ok(file.into())
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

    fn script(folder: &Path, name: &str, script: &str) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_lack_of_the_machine_is_told_from_what_may_pass() {
        let folder = tempfile::tempdir().unwrap();
        let reply = |name: &str, text: &str, patience| reply(&script(folder.path(), name, text), &[VERSION], patience);
        let slow = reply("slow", "exec sleep 1000", Duration::ZERO).unwrap_err();
        assert!(slow.to_string().contains("did not reply within 0 seconds") && !slow.is_lasting(), "{slow}");
        let killed = reply("killed", "kill -9 $$", PATIENCE).unwrap_err();
        assert!(killed.to_string().contains("signal 9") && !killed.is_lasting(), "{killed}");
        let failed = reply("failed", "echo why >&2; exit 1", PATIENCE).unwrap_err();
        assert!(failed.to_string().ends_with(": why") && failed.is_lasting(), "{failed}");
        let not_a_program = folder.path().join("text");
        fs::write(&not_a_program, "text").unwrap();
        for path in [&not_a_program, &not_a_program.join("python"), Path::new("/nowhere/python3"), Path::new("nowhere")]
        {
            let error = python_version(path).unwrap_err();
            assert!(matches!(error, Unavailable::Python { .. }), "{error:?}");
        }
        for errno in [libc::EAGAIN, libc::ENOMEM, libc::ENFILE, libc::EMFILE, libc::EIO, libc::ENOSPC, libc::ETXTBSY] {
            let error = refused(Path::new("python3"), io::Error::from_raw_os_error(errno));
            assert!(!error.is_lasting(), "{error}");
        }
        let error = refused(Path::new("python3"), io::Error::from_raw_os_error(libc::ENOEXEC));
        assert!(error.is_lasting(), "a program of another architecture: {error}");
    }

    #[test]
    fn a_version_is_three_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let version = |name: &str, text: &str| python_version(&script(folder.path(), name, text));
        for (name, text) in [("text", "echo Python 3.12.1"), ("fails", "echo 3.12.1; exit 1"), ("silent", "true")] {
            assert!(version(name, text).unwrap_err().is_lasting(), "{name}");
        }
        assert_eq!(version("good", "echo 3.12.1").unwrap(), "3.12.1");
    }

    #[test]
    fn a_bare_name_is_found_in_path_alone() {
        assert!(located(Path::new("sh")).unwrap().is_absolute());
        assert_eq!(located(Path::new("no-such-program")).unwrap_err().kind(), io::ErrorKind::NotFound);
        let here = std::env::current_dir().unwrap();
        assert_eq!(located(Path::new("venv/python")).unwrap(), here.join("venv/python"));
    }
}
