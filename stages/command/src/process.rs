//! A program in a process group of its own.
//!
//! The group ends with the program: whatever it left running is killed when it exits, so that nothing writes to the
//! outputs while they are taken. To stop it, the group is sent SIGTERM and, after [`GRACE`], SIGKILL. The program is
//! reaped only after the group was killed: until then its id is its own and the signal reaches nobody else.
//!
//! On Linux the program ends with the pipeline too, however that ends: the kernel sends it SIGKILL (its parent-death
//! signal) when the thread that started it is gone. [`run`] starts the program and waits for it on one thread, so that
//! this happens while it is waited for only where the whole process dies. The signal is the program's alone: what the
//! program started is not sent it, and a program with set-user-ID or file capabilities loses it.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use contract::Cancel;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// What a program that is asked to stop is given to do so.
pub const GRACE: Duration = Duration::from_secs(2);
/// Between two looks at the program, the cancel flag and the clock.
const INTERVAL: Duration = Duration::from_millis(20);

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// By itself.
    Exited(ExitStatus),
    /// It was asked to stop.
    Cancelled,
    /// It ran longer than it may.
    TimedOut,
}

/// Runs a program to its end.
///
/// # Errors
/// When it cannot be started or waited for.
pub fn run(command: &mut Command, cancel: &Cancel, timeout: Option<Duration>) -> io::Result<Outcome> {
    let started = Instant::now();
    let mut group = Group::start(command)?;
    loop {
        if group.has_exited()? {
            return Ok(Outcome::Exited(group.end()?));
        }
        let timed_out = timeout.is_some_and(|limit| started.elapsed() >= limit);
        if cancel.is_set() || timed_out {
            group.stop()?;
            return Ok(if timed_out { Outcome::TimedOut } else { Outcome::Cancelled });
        }
        std::thread::sleep(INTERVAL);
    }
}

/// A failure's words: `exited with status 3`, `was ended by signal SIGSEGV`.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("was ended by signal {signal}"),
            Err(_) => format!("was ended by signal {number}"),
        },
        (None, None) => "ended without a status".to_owned(),
    }
}

/// A running program and its group; both are killed when it is dropped.
struct Group {
    leader: Child,
    reaped: bool,
}

/// Has the program killed when the calling thread ends, the death of the whole process `parent` among the causes.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn die_with(command: &mut Command, parent: Pid) {
    let bind = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // A parent that died before that call sends nothing any more, and the child has another parent by now.
        if nix::unistd::getppid() == parent { Ok(()) } else { Err(nix::errno::Errno::ESRCH.into()) }
    };
    // SAFETY: between fork and exec only async-signal-safe work is allowed. The closure owns a plain number, makes two
    // system calls (prctl and getppid), and its errors are numbers of the system in an `io::Error`: it allocates
    // nothing, takes no lock and reads no memory that another thread may have left half written.
    unsafe { command.pre_exec(bind) };
}

impl Group {
    fn start(command: &mut Command) -> io::Result<Self> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        die_with(command, Pid::this());
        Ok(Self { leader: command.process_group(0).spawn()?, reaped: false })
    }

    /// Whether the program has exited; it is not reaped.
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    fn has_exited(&mut self) -> io::Result<bool> {
        use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.id()), flags) {
            Ok(status) => Ok(status != WaitStatus::StillAlive),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the program has exited. Here it is reaped at once, so that its id may in theory be another's when the
    /// group is killed.
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    fn has_exited(&mut self) -> io::Result<bool> {
        Ok(self.leader.try_wait()?.is_some())
    }

    /// Asks the program to stop, then makes it.
    fn stop(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::SIGTERM);
        let asked = Instant::now();
        while !self.has_exited()? && asked.elapsed() < GRACE {
            std::thread::sleep(INTERVAL);
        }
        self.end()
    }

    /// Kills what is left of the group and reaps the program.
    fn end(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::SIGKILL);
        let status = self.leader.wait()?;
        self.reaped = true;
        Ok(status)
    }

    fn signal(&self, signal: Signal) {
        // The only failures are that no process is left and, on some systems, that only dead ones are.
        if let Err(error) = killpg(self.id(), signal) {
            tracing::debug!(%error, %signal, "the process group was not signalled");
        }
    }

    fn id(&self) -> Pid {
        Pid::from_raw(self.leader.id().cast_signed())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.reaped
            && let Err(error) = self.end()
        {
            tracing::warn!(%error, "a program was not reaped");
        }
    }
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use super::*;

    #[test]
    fn a_program_whose_parent_is_gone_already_does_not_start() {
        let mut command = Command::new("true");
        // What the child sees where its parent died before it asked for the signal: its parent is another process.
        die_with(&mut command, Pid::parent());
        let error = command.spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::ESRCH as i32));
        let mut command = Command::new("true");
        die_with(&mut command, Pid::this());
        assert!(command.spawn().unwrap().wait().unwrap().success());
    }
}
