//! What a program left running when the engine that started it was killed: the kernel ends the program alone, and what that
//! had started might write to the next try's outputs, by their full path.
//!
//! Every program finds [`VARIABLE`] in its environment, the folder that it works in, and hands it on to what it starts. Before
//! a folder is used again, whoever says that it works there is killed: the caller holds the lock of the stage's key, so
//! nobody is there by right. On Linux alone; a program that empties the environment of what it starts is not found.

use std::io;
use std::path::Path;

/// The folder that a program works in, as an absolute path.
pub const VARIABLE: &str = "PIPELINE_WORK";

/// Ends what is left of programs that worked in this folder, and waits until it is gone.
///
/// # Errors
/// When one does not end within a second, or may not be signalled.
#[cfg(target_os = "linux")]
pub fn end(folder: &Path) -> io::Result<()> {
    use std::time::{Duration, Instant};

    use nix::errno::Errno;
    use nix::sys::signal::{Signal, kill};

    const PATIENCE: Duration = Duration::from_secs(1);
    let began = Instant::now();
    loop {
        let left = left_in(folder);
        if left.is_empty() {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(io::Error::other(format!("process {} does not end", left[0])));
        }
        for process in &left {
            tracing::warn!(%process, folder = %folder.display(), "ends what a killed run left running");
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

/// The processes that see the same files as this one, and whose environment says that they work in a folder.
#[cfg(target_os = "linux")]
fn left_in(folder: &Path) -> Vec<nix::unistd::Pid> {
    use std::fs;
    use std::os::unix::ffi::OsStrExt;

    let mark = [VARIABLE.as_bytes(), b"=", folder.as_os_str().as_bytes()].concat();
    let mounts = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let here = mounts("self");
    let is_left = |name: &str| {
        // Of other users nothing can be read.
        let environment = fs::read(format!("/proc/{name}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark) && mounts(name) == here
    };
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let left = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && is_left(name));
    let own = nix::unistd::Pid::this();
    left.filter_map(|name| name.parse().ok())
        .map(nix::unistd::Pid::from_raw)
        .filter(|process| *process != own)
        .collect()
}
