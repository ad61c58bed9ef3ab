//! Kills the processes that a program left running when the engine was killed: the kernel ends only the program itself, and processes that it
//! had started might write to the outputs of the next attempt, by their full path.
//!
//! These processes write to the program's log, unless their output is redirected. Before a stage is run again,
//! every process that still has the stage's log as its standard output or error is killed: the caller holds the lock of the stage's key,
//! so no other stage can be running with it. On Linux only; a process with both another output and another error is not found.

use std::io;
use std::path::Path;

/// Kills the processes with this log, an absolute path, and waits until they have exited.
///
/// # Errors
/// Returns an error if one does not exit within a second, or may not be signalled.
#[cfg(target_os = "linux")]
pub fn end(log: &Path) -> io::Result<()> {
    use std::time::{Duration, Instant};

    use nix::errno::Errno;
    use nix::sys::signal::{Signal, kill};

    const PATIENCE: Duration = Duration::from_secs(1);
    let began = Instant::now();
    loop {
        let left = left_with(log);
        if left.is_empty() {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(io::Error::other(format!("process {} does not exit", left[0])));
        }
        for process in &left {
            tracing::warn!(%process, log = %log.display(), "stops processes that a killed run left running");
            match kill(*process, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(io::Error::from(error)),
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Does nothing: other systems have no way to find such processes.
#[cfg(not(target_os = "linux"))]
pub fn end(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Returns the processes of the same mount namespace whose standard output or error is this log, even if the log has been removed.
#[cfg(target_os = "linux")]
fn left_with(log: &Path) -> Vec<nix::unistd::Pid> {
    use std::fs;
    use std::os::unix::ffi::OsStrExt;

    use nix::unistd::Pid;

    let log = log.as_os_str().as_bytes();
    // The files of other users' processes cannot be read.
    let link = |process: &str, name: &str| fs::read_link(format!("/proc/{process}/{name}")).ok();
    let is_log = |link: &Path| {
        let link = link.as_os_str().as_bytes();
        link.strip_suffix(b" (deleted)").unwrap_or(link) == log
    };
    let here = link("self", "ns/mnt");
    let is_left = |process: &str| {
        let writes = ["fd/1", "fd/2"].iter().any(|name| link(process, name).is_some_and(|link| is_log(&link)));
        writes && link(process, "ns/mnt") == here
    };
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let left = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && is_left(name));
    left.filter_map(|name| name.parse().ok()).map(Pid::from_raw).filter(|process| *process != Pid::this()).collect()
}
