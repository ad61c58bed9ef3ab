//! Reports the files that a command tried to open but cannot see.
//!
//! The command's root contains only declared files, so other files do not exist for it. To report which ones it looked for, the kernel
//! notifies the supervisor of each call that opens or looks up a file, or starts a program (a seccomp filter with a listener), and the
//! supervisor lets the call continue. It decides nothing: the command's memory that it reads may change before the kernel reads it, which
//! could hide a name but never open a file. Before the reply it only reads the process's memory; a second thread checks the paths, because
//! a path on a network file system may hang.
//!
//! A path is undeclared if the machine has a file there (or a directory that was opened), but the command's root does not. Programs look
//! for many files that no machine has; those are not reported. Nor are the kernel's files (`/proc`, `/sys`, `/dev`) and `/etc/localtime`,
//! which the C library opens in every program that asks for the time: in the sandbox the time zone is UTC.

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
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
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

use super::{calls, enter::step};
use crate::{Layer, Missing};

/// The maximum number of paths to report.
const MOST_NAMED: usize = 1000;
/// The maximum length of a path in bytes, including the final zero.
const LONGEST_PATH: usize = 4096;
const PAGE: usize = 4096;
/// The maximum number of paths that wait to be checked. Further paths are not reported.
const MOST_QUEUED: usize = 1 << 14;
/// The maximum time that a command waits, once, for space in the queue, in milliseconds.
const LONGEST_WAIT: u32 = 1000;
/// The time limit for checking the remaining paths after the command has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// Watches one command. It is created before the command starts, and finished after the command has ended.
pub struct Supervisor {
    socket: Arc<OwnedFd>,
    named: Named,
    /// Closed when every path has been checked.
    looked: Receiver<()>,
    steps: PipeReader,
    layers: Vec<Layer>,
}

/// The undeclared paths found so far.
type Named = Arc<Mutex<BTreeSet<PathBuf>>>;

impl Supervisor {
    /// Starts watching. `socket` receives the listener, `steps` the step at which the command's process failed.
    pub(super) fn start(socket: OwnedFd, steps: PipeReader, layers: Vec<Layer>) -> io::Result<Self> {
        let socket = Arc::new(socket);
        let theirs = Arc::clone(&socket);
        let named = Named::default();
        let found = Arc::clone(&named);
        let (sender, opened) = mpsc::sync_channel(MOST_QUEUED);
        let (looking, looked) = mpsc::channel();
        let thread = |name: &str| thread::Builder::new().name(name.into());
        thread("sandbox-paths").spawn(move || look(&opened, &found, looking, Opened::undeclared))?;
        thread("sandbox-supervisor").spawn(move || {
            if let Some(listener) = receive_listener(&theirs) {
                watch(&listener, &mut Queue { sender, is_stuck: false });
            }
        })?;
        Ok(Self { socket, named, looked, steps, layers })
    }

    /// Returns the layers that the kernel refused, after the command could not be started; empty if that had another reason.
    pub fn missing(&mut self, error: &io::Error) -> Vec<Missing> {
        let mut failed = [0];
        match self.steps.read(&mut failed) {
            Ok(1) => step::missing(failed[0], &self.layers, error),
            _ => Vec::new(),
        }
    }

    /// Waits until no process of the command is left. Returns the files and directories of the machine that it tried to open, and the files
    /// that it looked up, but that it could not see: absolute paths, sorted, at most a thousand. Paths for which a file system did not
    /// answer within ten seconds are not included.
    pub fn finish(self) -> Vec<PathBuf> {
        self.finish_within(PATIENCE)
    }

    fn finish_within(self, patience: Duration) -> Vec<PathBuf> {
        // Ends the wait for a listener that was never sent.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        let _ = self.looked.recv_timeout(patience);
        std::mem::take(&mut *self.named.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect()
    }
}

/// The paths to check after their calls have continued.
struct Queue<T> {
    sender: SyncSender<T>,
    /// Whether the queue was full for a long time: then calls no longer wait for it.
    is_stuck: bool,
}

impl<T> Queue<T> {
    fn put(&mut self, item: T) {
        let mut item = item;
        for _ in 0..LONGEST_WAIT {
            match self.sender.try_send(item) {
                Err(TrySendError::Full(back)) if !self.is_stuck => item = back,
                _ => return,
            }
            thread::sleep(Duration::from_millis(1));
        }
        self.is_stuck = true;
    }
}

/// Checks each path until the queue ends, and keeps the undeclared ones.
fn look<T>(opened: &Receiver<T>, named: &Named, looking: Sender<()>, undeclared: impl Fn(&T) -> Option<PathBuf>) {
    let count = || named.lock().unwrap_or_else(PoisonError::into_inner).len();
    for opened in opened {
        if count() < MOST_NAMED
            && let Some(path) = undeclared(&opened)
        {
            named.lock().unwrap_or_else(PoisonError::into_inner).insert(path);
        }
    }
    drop(looking);
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

/// Replies to each notification until no process of the command is left.
fn watch(listener: &OwnedFd, queue: &mut Queue<Opened>) {
    // The root of all its processes, because none can change it.
    let mut root = None;
    loop {
        let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
        let events = ready[0].revents().unwrap_or(PollFlags::empty());
        if events.contains(PollFlags::POLLIN) {
            reply(listener, &mut root, queue);
        } else if events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
            return;
        }
    }
}

/// The root directory of the command.
struct CommandRoot {
    directory: File,
    /// Keeps the mounts below the directory after the last process of the command has ended, until every path has been checked.
    _mounts: File,
}

impl CommandRoot {
    /// Returns the root of a process that waits for a reply.
    fn of(process: u32) -> io::Result<Self> {
        let open = |name: &str| File::open(format!("/proc/{process}/{name}"));
        Ok(Self { directory: open("root")?, _mounts: open("ns/mnt")? })
    }
}

fn reply(listener: &OwnedFd, root: &mut Option<Arc<CommandRoot>>, queue: &mut Queue<Opened>) {
    // SAFETY: the structure consists of plain numbers.
    let mut call: libc::seccomp_notif = unsafe { mem::zeroed() };
    if !control(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) {
        // The process has been killed meanwhile.
        return;
    }
    let its_root = || CommandRoot::of(call.pid).ok().map(Arc::new);
    let opened = root.clone().or_else(its_root).and_then(|root| Opened::of(&call, &root));
    // Otherwise the process has ended, and its id may belong to another process.
    let is_valid = control(listener, libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw mut call.id);
    let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
    let mut go_on = libc::seccomp_notif_resp { id: call.id, val: 0, error: 0, flags };
    control(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut go_on);
    if let Some(opened) = opened.filter(|_| is_valid) {
        root.get_or_insert_with(|| Arc::clone(&opened.root));
        queue.put(opened);
    }
}

fn control<T>(listener: &OwnedFd, request: libc::Ioctl, value: *mut T) -> bool {
    // SAFETY: each caller passes the structure that belongs to the request, and it outlives the call.
    unsafe { libc::ioctl(listener.as_raw_fd(), request, value) >= 0 }
}

/// The path that a call opens or looks up, in the root of the command.
struct Opened {
    root: Arc<CommandRoot>,
    /// Whether it is only looked up.
    only_looked_for: bool,
    path: PathBuf,
}

impl Opened {
    fn of(call: &libc::seccomp_notif, root: &Arc<CommandRoot>) -> Option<Self> {
        let arguments = &call.data.args;
        let number = i64::from(call.data.nr);
        let (directory, address) = match number {
            number if calls::AT_DIRECTORY.contains(&number) => (arguments[0] as libc::c_int, arguments[1]),
            libc::SYS_inotify_add_watch => (libc::AT_FDCWD, arguments[1]),
            _ => (libc::AT_FDCWD, arguments[0]),
        };
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
        Some(Self { root: Arc::clone(root), only_looked_for: calls::LOOKING.contains(&number), path })
    }

    /// Returns the path if the machine has a file or directory there that the command cannot see.
    fn undeclared(&self) -> Option<PathBuf> {
        let path = without_dots(&self.path);
        let is_kernels = ["/proc", "/sys", "/dev", "/etc/localtime"].iter().any(|kernels| path.starts_with(kernels));
        if is_kernels || self.is_seen() {
            return None;
        }
        let metadata = std::fs::metadata(&path).ok()?;
        (metadata.is_file() || (metadata.is_dir() && !self.only_looked_for)).then_some(path)
    }

    /// Returns whether the path exists in the command's root; also true if that cannot be determined.
    fn is_seen(&self) -> bool {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        !matches!(openat2(&self.root.directory, &self.path, how), Err(Errno::ENOENT | Errno::ENOTDIR))
    }
}

/// Reads a path from the memory of a process, page by page, because the next page may not be mapped.
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
    fn a_path_that_hangs_holds_up_neither_the_command_nor_the_end() {
        let (sender, opened) = mpsc::sync_channel(1);
        let (go_on, gate) = mpsc::channel::<()>();
        let (looking, looked) = mpsc::channel();
        let named = Named::default();
        let found = Arc::clone(&named);
        // The second path hangs until the gate ends.
        let undeclared = move |path: &PathBuf| {
            if path.ends_with("hangs") {
                let _ = gate.recv();
            }
            Some(path.clone())
        };
        let thread = thread::spawn(move || look(&opened, &found, looking, undeclared));
        let mut queue = Queue { sender, is_stuck: false };
        queue.put(PathBuf::from("/first"));
        while named.lock().unwrap().is_empty() {
            thread::yield_now();
        }
        // One is being checked, one waits in the queue, and the others are not reported.
        (0..4).for_each(|_| queue.put(PathBuf::from("/hangs")));
        assert!(queue.is_stuck);
        drop(queue);
        let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
        let steps = io::pipe().unwrap().0;
        let supervisor = Supervisor { socket: Arc::new(near.into()), named, looked, steps, layers: Vec::new() };
        assert_eq!(supervisor.finish_within(Duration::ZERO), [PathBuf::from("/first")]);
        drop(go_on);
        thread.join().unwrap();
    }

    #[test]
    fn dots_are_resolved_by_name() {
        assert_eq!(without_dots(Path::new("/a/./b/../../../c")), Path::new("/c"));
    }
}
