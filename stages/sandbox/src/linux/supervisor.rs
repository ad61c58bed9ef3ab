//! Reports the files that a command tried to open but cannot see.
//!
//! The command's root holds only what is declared, so that any other file is not there for it. To say which ones it looked for,
//! the kernel reports each call that opens or looks for a file, or starts a program (a seccomp filter with a listener), and the
//! supervisor replies that the call may go on. It decides nothing: what it reads of the command's memory may change before the
//! kernel reads it, which could hide a name, but open no file.
//!
//! A path is undeclared if the machine has a file there (or a directory that was opened), and the command's root has not. Programs look
//! for many files that no machine has; those are not named. Nor are the kernel's files (`/proc`, `/sys`, `/dev`) and `/etc/localtime`, which the C
//! library opens in every program that asks for the time: in the sandbox it is the one of UTC.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, IoSliceMut, PipeReader, Read},
    mem,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{ControlMessageOwned, MsgFlags, Shutdown, recvmsg, shutdown},
        uio::{RemoteIoVec, process_vm_readv},
    },
    unistd::Pid,
};

use super::{enter::step, filter};
use crate::{Layer, Missing};

/// The maximum number of paths to report.
const MOST_NAMED: usize = 1000;
/// The maximum length of a path in bytes, including the final zero.
const LONGEST_PATH: usize = 4096;
const PAGE: usize = 4096;

/// Watches one command. It is created before the command starts, and finished after the command has ended.
pub struct Supervisor {
    socket: Arc<OwnedFd>,
    thread: JoinHandle<BTreeSet<PathBuf>>,
    steps: PipeReader,
    layers: Vec<Layer>,
}

impl Supervisor {
    /// Starts watching. `socket` brings the listener, `steps` the step at which the command's process failed.
    pub(super) fn start(socket: OwnedFd, steps: PipeReader, layers: Vec<Layer>) -> io::Result<Self> {
        let socket = Arc::new(socket);
        let theirs = Arc::clone(&socket);
        let thread = thread::Builder::new()
            .name("sandbox-supervisor".into())
            .spawn(move || receive_listener(&theirs).map(|listener| watch(&listener)).unwrap_or_default())?;
        Ok(Self { socket, thread, steps, layers })
    }

    /// Returns the layers that the kernel refused, after the command could not be started; none if that had another reason.
    pub fn missing(&mut self, error: &io::Error) -> Vec<Missing> {
        let mut failed = [0];
        match self.steps.read(&mut failed) {
            Ok(1) => step::missing(failed[0], &self.layers, &error.to_string()),
            _ => Vec::new(),
        }
    }

    /// Waits until no process of the command is left, and returns the files and directories of the machine that it tried to
    /// open, and files that it looked for, which it did not see: absolute paths, sorted, at most a thousand.
    pub fn finish(self) -> Vec<PathBuf> {
        // Ends the wait for a listener that never came.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        self.thread.join().unwrap_or_default().into_iter().collect()
    }
}

fn receive_listener(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).ok()?;
    let rights = message.cmsgs().ok()?.find_map(|message| match message {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel has just made this descriptor for this process.
    rights.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Replies to each report until no process of the command is left.
fn watch(listener: &OwnedFd) -> BTreeSet<PathBuf> {
    let mut named = BTreeSet::new();
    loop {
        let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return named,
        }
        let events = ready[0].revents().unwrap_or(PollFlags::empty());
        if events.contains(PollFlags::POLLIN) {
            reply(listener, &mut named);
        } else if events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
            return named;
        }
    }
}

fn reply(listener: &OwnedFd, named: &mut BTreeSet<PathBuf>) {
    // SAFETY: the structure is plain numbers.
    let mut call: libc::seccomp_notif = unsafe { mem::zeroed() };
    if !control(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) {
        // The process has been killed meanwhile.
        return;
    }
    if named.len() < MOST_NAMED
        && let Some(path) = Opened::of(&call).and_then(|opened| opened.undeclared())
        // Otherwise the process has ended, and its number may be another's.
        && control(listener, libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw mut call.id)
    {
        named.insert(path);
    }
    let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
    let mut go_on = libc::seccomp_notif_resp { id: call.id, val: 0, error: 0, flags };
    control(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut go_on);
}

fn control<T>(listener: &OwnedFd, request: libc::Ioctl, value: *mut T) -> bool {
    // SAFETY: each caller passes the structure that the request is defined with, which outlives the call.
    unsafe { libc::ioctl(listener.as_raw_fd(), request, value) >= 0 }
}

/// The path that a call opens or looks for, in the root of a process.
struct Opened {
    process: u32,
    /// Whether the call only looks for the path.
    only_looked_for: bool,
    path: PathBuf,
}

impl Opened {
    fn of(call: &libc::seccomp_notif) -> Option<Self> {
        let arguments = &call.data.args;
        let number = i64::from(call.data.nr);
        let at = filter::AT_DIRECTORY.contains(&number);
        let (directory, address) =
            if at { (arguments[0] as libc::c_int, arguments[1]) } else { (libc::AT_FDCWD, arguments[0]) };
        let path = read_path(call.pid, address as usize)?;
        let path = if path.is_absolute() {
            path
        } else {
            let base = match directory {
                libc::AT_FDCWD => format!("/proc/{}/cwd", call.pid),
                descriptor => format!("/proc/{}/fd/{descriptor}", call.pid),
            };
            std::fs::read_link(base).ok()?.join(path)
        };
        Some(Self { process: call.pid, only_looked_for: filter::LOOKING.contains(&number), path })
    }

    /// Returns the path if the machine has a file or directory there that the process does not see.
    fn undeclared(&self) -> Option<PathBuf> {
        let path = without_dots(&self.path);
        let is_kernels = ["/proc", "/sys", "/dev", "/etc/localtime"].iter().any(|kernels| path.starts_with(kernels));
        if is_kernels || self.is_seen() {
            return None;
        }
        let metadata = std::fs::metadata(&path).ok()?;
        (metadata.is_file() || (metadata.is_dir() && !self.only_looked_for)).then_some(path)
    }

    /// Returns whether the path exists in the process's root, or if that is unknown.
    fn is_seen(&self) -> bool {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let Ok(root) = File::open(format!("/proc/{}/root", self.process)) else { return true };
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        !matches!(openat2(&root, &self.path, how), Err(Errno::ENOENT | Errno::ENOTDIR))
    }
}

/// Reads a path from the memory of a process, page by page, since the next page may not be there.
fn read_path(process: u32, address: usize) -> Option<PathBuf> {
    let mut bytes = Vec::new();
    while bytes.len() < LONGEST_PATH {
        let base = address.checked_add(bytes.len())?;
        let mut part = vec![0; PAGE - base % PAGE];
        let remote = RemoteIoVec { base, len: part.len() };
        let read =
            process_vm_readv(Pid::from_raw(process as i32), &mut [IoSliceMut::new(&mut part)], &[remote]).ok()?;
        let part = part.get(..read)?;
        if let Some(end) = part.iter().position(|byte| *byte == 0) {
            bytes.extend_from_slice(&part[..end]);
            let path = Path::new(std::ffi::OsStr::from_bytes(&bytes));
            return (1..LONGEST_PATH).contains(&bytes.len()).then(|| path.to_owned());
        }
        bytes.extend_from_slice(part);
    }
    None
}

/// Resolves `.` and `..` by name.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => drop(plain.pop()),
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_from_memory_up_to_its_end() {
        let mut memory = vec![b'x'; 3 * PAGE];
        memory[2 * PAGE] = 0;
        let here = std::process::id();
        let read = |memory: &[u8]| read_path(here, memory.as_ptr() as usize);
        assert_eq!(read(&memory[2 * PAGE - 7..]), Some("xxxxxxx".into()));
        assert_eq!(read(&memory[2 * PAGE..]), None, "an empty path names nothing");
        assert_eq!(read_path(here, 0), None, "nothing is there");
        let long = vec![b'x'; LONGEST_PATH + 1];
        assert_eq!(read(&long), None, "too long for a path");
    }

    #[test]
    fn dots_are_resolved_by_name() {
        assert_eq!(without_dots(Path::new("/a/./b/../../../c")), Path::new("/c"));
    }
}
