//! What a program left running when the engine that started it was killed: the kernel ends the program alone, and what that
//! had started might write to the next try's outputs, by their full path.
//!
//! What a program starts writes to the program's log, unless it is told to write elsewhere. Before a stage is run again,
//! whoever still has the stage's log as its standard output or error is killed: the caller holds the lock of the stage's key,
//! so nobody has it by right. On Linux alone; what was given both another output and another error is not found.

use std::io;
use std::path::Path;

/// Ends what is left of programs with this log, an absolute path, and waits until it is gone.
///
/// # Errors
/// When one does not end within a second, or may not be signalled.
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
            return Err(io::Error::other(format!("process {} does not end", left[0])));
        }
        for process in &left {
            tracing::warn!(%process, log = %log.display(), "ends what a killed run left running");
            match kill(*process, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(io::Error::from(error)),
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Elsewhere there is no way to know.
#[cfg(not(target_os = "linux"))]
pub fn end(_: &Path) -> io::Result<()> {
    Ok(())
}

/// The processes that see the same files as this one and whose standard output or error is a log, or was before that was
/// removed.
#[cfg(target_os = "linux")]
fn left_with(log: &Path) -> Vec<nix::unistd::Pid> {
    use std::fs;
    use std::os::unix::ffi::OsStrExt;

    use nix::unistd::Pid;

    let log = log.as_os_str().as_bytes();
    // Of other users nothing can be read.
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
