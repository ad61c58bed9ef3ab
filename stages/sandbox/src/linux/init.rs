//! The first process of a command's pid namespace, and the process outside it, which ends like the command.
//!
//! ```text
//! the caller's child ── waits, and ends with the command's status or signal
//!      └── init, number 1 of the pid namespace ── waits; its end ends every process in there
//!             └── the command
//! ```
//!
//! If the caller's thread dies, the kernel kills its child, then init, then all other processes. Processes that a command leaves running
//! are gone when the child has ended.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    errno::Errno,
    sys::{prctl, signal::Signal},
};

/// The resources of init: created before the fork, and used between fork and exec, where nothing may allocate.
pub(super) struct Init {
    parent: u32,
    /// The pipe that carries the command's wait status from init to the child outside.
    status_out: OwnedFd,
    status_in: OwnedFd,
}

impl Init {
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let (status_out, status_in) = (OwnedFd::from(reader), OwnedFd::from(writer));
        // The caller holds the other end too, so its closing has no meaning.
        nix::fcntl::fcntl(&status_out, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
        Ok(Self { parent: std::process::id(), status_out, status_in })
    }

    /// Forks init and returns in it, with a descriptor of the process outside. That process waits for init, and never returns.
    pub fn fork(&self) -> Result<OwnedFd, Errno> {
        // A group's signals are only for the command.
        mask(libc::SIG_BLOCK, every_signal());
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        if std::os::unix::process::parent_id() != self.parent {
            return Err(Errno::ESRCH);
        }
        // SAFETY: both calls take only numbers and return a new descriptor or an error.
        let outside = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) })? as RawFd;
        // SAFETY: the descriptor was created by the line above, and nothing else owns it.
        let outside = unsafe { OwnedFd::from_raw_fd(outside) };
        let init = clone(libc::CLONE_NEWPID)?;
        if init != 0 {
            self.end_as_the_command(init);
        }
        Ok(outside)
    }

    /// Forks the command's process and returns in it. Init waits for it, and never returns.
    pub fn fork_command(&self) -> Result<(), Errno> {
        // Its memory is a copy of the caller's, which the command must not read.
        prctl::set_dumpable(false)?;
        let command = clone(0)?;
        if command == 0 {
            prctl::set_dumpable(true)?;
            mask(libc::SIG_SETMASK, no_signal());
            return Ok(());
        }
        let status_in = self.status_in.as_raw_fd();
        close_all_but(status_in);
        loop {
            match wait(-1) {
                Ok((process, status)) if process == command => {
                    let bytes = status.to_ne_bytes();
                    // SAFETY: the buffer has the stated length. `_exit` runs no code of the process.
                    unsafe {
                        libc::write(status_in, bytes.as_ptr().cast(), bytes.len());
                        libc::_exit(0)
                    }
                }
                Ok(_) => {}
                // SAFETY: as above.
                Err(_) => unsafe { libc::_exit(1) },
            }
        }
    }

    /// Waits until init and its whole namespace have ended; then ends like the command.
    fn end_as_the_command(&self, init: libc::pid_t) -> ! {
        let status_out = self.status_out.as_raw_fd();
        close_all_but(status_out);
        let _ = wait(init);
        let mut bytes = [0; size_of::<libc::c_int>()];
        // SAFETY: the buffer has the stated length.
        let read = unsafe { libc::read(status_out, bytes.as_mut_ptr().cast(), bytes.len()) };
        let status = if read == bytes.len() as isize { libc::c_int::from_ne_bytes(bytes) } else { libc::SIGKILL };
        if libc::WIFEXITED(status) {
            // SAFETY: `_exit` runs no code of the process.
            unsafe { libc::_exit(libc::WEXITSTATUS(status)) }
        }
        end_by_signal(libc::WTERMSIG(status))
    }
}

/// Makes the kernel kill init when the process outside ends. Called after the last change of user, group or user namespace, each of which
/// clears this setting.
pub(super) fn end_with(outside: &OwnedFd) -> Result<(), Errno> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let mut poll = libc::pollfd { fd: outside.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: `poll` is one structure that outlives the call.
    let ended = unsafe { libc::poll(&raw mut poll, 1, 0) };
    // An error if it ended before the first line.
    if ended == 0 { Ok(()) } else { Err(Errno::ESRCH) }
}

/// Ends this process by a signal, without a core file.
fn end_by_signal(signal: libc::c_int) -> ! {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: system calls over numbers and over structures that outlive them; the handler is the default one.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::signal(signal, libc::SIG_DFL);
        libc::kill(libc::getpid(), signal);
        let mut set = no_signal();
        libc::sigaddset(&raw mut set, signal);
        mask(libc::SIG_UNBLOCK, set);
        libc::_exit(128 + signal)
    }
}

/// Forks by the system call alone: the C library's `fork` runs handlers that may wait for a lock held by another thread.
fn clone(flags: libc::c_int) -> Result<libc::pid_t, Errno> {
    // SAFETY: without `CLONE_VM` the child has its own memory, and continues here with a copy of this stack.
    let result = unsafe { libc::syscall(libc::SYS_clone, (flags | libc::SIGCHLD) as libc::c_ulong, 0, 0, 0, 0) };
    Errno::result(result).map(|process| process as libc::pid_t)
}

fn wait(process: libc::pid_t) -> Result<(libc::pid_t, libc::c_int), Errno> {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call.
        match Errno::result(unsafe { libc::waitpid(process, &raw mut status, 0) }) {
            Err(Errno::EINTR) => {}
            result => return result.map(|process| (process, status)),
        }
    }
}

/// Closes all descriptors of the process, including the standard ones, except this one.
fn close_all_but(kept: RawFd) {
    let close = |first: libc::c_uint, last: libc::c_uint| {
        // SAFETY: the process uses no other descriptor afterwards.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    };
    let kept = kept as libc::c_uint;
    if kept > 0 {
        close(0, kept - 1);
    }
    close(kept + 1, libc::c_uint::MAX);
}

fn every_signal() -> libc::sigset_t {
    // SAFETY: a set of signals is plain memory, which the call fills.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        set
    }
}

fn no_signal() -> libc::sigset_t {
    // SAFETY: as above.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        set
    }
}

fn mask(how: libc::c_int, set: libc::sigset_t) {
    // SAFETY: the set outlives the call.
    unsafe { libc::sigprocmask(how, &raw const set, std::ptr::null_mut()) };
}
