//! Runs a program in its own process group.
//!
//! The group ends with the program: whatever it left running is killed when it exits, so that nothing writes to the outputs while they are
//! read. To stop the program, SIGTERM is sent to the group and, after [`GRACE`], SIGKILL. The program is reaped only after the group is
//! killed: until then its id is not reused, so the signal reaches no other process.
//!
//! On Linux the kernel kills the program when the thread that started it ends, and thus when this process is killed with
//! SIGKILL. That thread waits for the program in [`run`], so that nothing else ends it. Only the program itself is killed: processes
//! that it started continue, until the stage is run again ([`crate::leftover`]), and so does a program with the
//! set-user-ID bit, for which the kernel clears this setting.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use contract::Cancel;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The time limit for a program to exit after SIGTERM.
pub const GRACE: Duration = Duration::from_secs(2);
/// The interval at which the program, the cancel flag and the clock are checked.
const INTERVAL: Duration = Duration::from_millis(20);

/// The end of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramEnd {
    /// The program exited.
    Exited(ExitStatus),
    /// The program was stopped because the stage was cancelled.
    Cancelled,
    /// The program exceeded its time limit.
    TimedOut,
}

/// Runs a program until it ends. Calls `each_second` once a second with the seconds that it has run.
///
/// # Errors
/// Returns an error if it cannot be started or waited for.
pub fn run(
    command: &mut Command,
    cancel: &Cancel,
    timeout: Option<Duration>,
    mut each_second: impl FnMut(u64),
) -> io::Result<ProgramEnd> {
    let started = Instant::now();
    let mut seconds = 0;
    let mut group = Group::start(command)?;
    loop {
        if group.has_exited()? {
            return Ok(ProgramEnd::Exited(group.end()?));
        }
        if started.elapsed().as_secs() > seconds {
            seconds = started.elapsed().as_secs();
            each_second(seconds);
        }
        let timed_out = timeout.is_some_and(|limit| started.elapsed() >= limit);
        if cancel.is_set() || timed_out {
            group.stop()?;
            return Ok(if timed_out { ProgramEnd::TimedOut } else { ProgramEnd::Cancelled });
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Describes a failure: `exited with status 3`, `was ended by signal SIGSEGV`.
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

/// The running groups.
static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Kills every program that [`run`] waits for, with its group. Call it before the process exits: no program is started afterwards.
pub fn kill_all() {
    // The lock is never released.
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    for group in running.iter() {
        let _ = killpg(Pid::from_raw(*group), Signal::SIGKILL);
    }
    std::mem::forget(running);
}

/// A running program and its group; both are killed when it is dropped.
struct Group {
    leader: Child,
    reaped: bool,
}

/// Makes the kernel kill the program when the thread that started it ends. (A sandbox does so itself.)
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn end_with_this_thread(command: &mut Command) {
    let parent = Pid::this();
    let before_exec = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // If the parent was killed before the line above, no signal would follow: the child already has another parent.
        if nix::unistd::getppid() == parent { Ok(()) } else { Err(nix::errno::Errno::ESRCH.into()) }
    };
    // SAFETY: between fork and exec a child of a process with threads may call async-signal-safe functions only. The
    // closure makes two system calls, prctl and getppid, and holds a number; its errors are numbers of the operating
    // system, so that it neither allocates nor takes a lock, and it touches no memory of the parent.
    unsafe { command.pre_exec(before_exec) };
}

/// Does nothing: on other systems, the program outlives a killed parent.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn end_with_this_thread(_: &mut Command) {}

impl Group {
    fn start(command: &mut Command) -> io::Result<Self> {
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let group = Self { leader: command.process_group(0).spawn()?, reaped: false };
        running.insert(group.id().as_raw());
        Ok(group)
    }

    /// Returns whether the program has exited; it is not reaped.
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

    /// Returns whether the program has exited. On these systems it is reaped at once, so in theory another process may have its id when the
    /// group is killed.
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    fn has_exited(&mut self) -> io::Result<bool> {
        Ok(self.leader.try_wait()?.is_some())
    }

    /// Asks the program to stop, then kills it.
    fn stop(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::SIGTERM);
        let asked = Instant::now();
        while !self.has_exited()? && asked.elapsed() < GRACE {
            std::thread::sleep(INTERVAL);
        }
        self.end()
    }

    /// Kills the remaining processes of the group and reaps the program.
    fn end(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::SIGKILL);
        // Once the program is reaped, its id may belong to another process.
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.id().as_raw());
        let status = self.leader.wait()?;
        drop(running);
        self.reaped = true;
        Ok(status)
    }

    fn signal(&self, signal: Signal) {
        // The only failures are that no process is left or, on some systems, that only dead processes are left.
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
