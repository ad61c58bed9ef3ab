//! Moves a new process into its namespaces and its root, before it starts its program.
//!
//! The process of an ordinary user first gets a user namespace, in which it may mount. A process of root mounts first, because the mounted
//! paths may be in a directory that only root can read; then it becomes the user `nobody`, and gets a user namespace as above. In both
//! cases the process ends up in a user namespace that maps one ordinary user.
//!
//! The server of a Python program creates its pid namespaces itself. A command has no such server: its process forks the first process of a
//! pid namespace ([`super::init`]), which forks the command's process.

use std::{
    ffi::{CStr, CString},
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::Command,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open, openat},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::{prctl, stat::Mode},
    unistd::{Gid, Uid, chdir, getegid, geteuid, pivot_root, setgroups, sethostname, setresgid, setresuid, write},
};

use super::{
    confine::Confinement,
    init::{self, Init},
    root::{Access, RawMount, Root, text},
};
use crate::Layer;

/// The user and the group that root's processes become.
pub(super) const NOBODY: u32 = 65534;

const NONE: Option<&CStr> = None;

/// A step that failed, and the kernel's error.
pub(super) type Failed = (u8, Errno);

/// The steps of the process, prepared in advance because the process must not allocate.
pub(super) struct Entry {
    root: Option<NewRoot>,
    namespaces: Vec<(Layer, CloneFlags)>,
    privileged: bool,
    user_namespace: bool,
    users: String,
    groups: String,
    /// The pipe that receives the byte of [`step`] that failed.
    steps: OwnedFd,
    command: Option<CommandEntry>,
}

/// The root directory on disk, and its mounts.
struct NewRoot {
    path: CString,
    mounts: Vec<RawMount>,
    /// The mount points of `/proc` and `/dev/shm`, for a command.
    kernel: Option<[CString; 2]>,
}

/// The steps that only a command's process takes.
pub(super) struct CommandEntry {
    pub init: Init,
    pub confinement: Confinement,
    /// The working directory, inside the root.
    pub directory: CString,
}

impl Entry {
    /// Creates the entry of a Python program's server (`command` is `None`), or of a command.
    pub fn new(layers: &[Layer], root: &Root, steps: OwnedFd, command: Option<CommandEntry>) -> io::Result<Self> {
        let privileged = geteuid().is_root();
        let (user, group) = if privileged { (NOBODY, NOBODY) } else { (geteuid().as_raw(), getegid().as_raw()) };
        // The server must be able to mount, and is user 0; a command has its usual user.
        let (user_inside, group_inside) = if command.is_some() { (user, group) } else { (0, 0) };
        let namespaces = [
            (Layer::Root, CloneFlags::CLONE_NEWNS),
            (Layer::Network, CloneFlags::CLONE_NEWNET),
            (Layer::Ipc, CloneFlags::CLONE_NEWIPC),
            (Layer::Uts, CloneFlags::CLONE_NEWUTS),
        ];
        let new_root = || {
            let place = |place: &str| text(&root.within(place.as_ref()));
            let kernel = || io::Result::Ok([place("/proc")?, place("/dev/shm")?]);
            let kernel = command.as_ref().map(|_| kernel()).transpose()?;
            io::Result::Ok(NewRoot { path: text(root.path())?, mounts: root.raw_mounts()?, kernel })
        };
        Ok(Self {
            root: layers.contains(&Layer::Root).then(new_root).transpose()?,
            namespaces: namespaces.into_iter().filter(|(layer, _)| layers.contains(layer)).collect(),
            privileged,
            user_namespace: Layer::NAMESPACES.iter().any(|layer| layers.contains(layer)),
            users: format!("{user_inside} {user} 1"),
            groups: format!("{group_inside} {group} 1"),
            steps,
            command,
        })
    }

    /// Configures `command` to take these steps before it starts its program.
    pub fn install(self, command: &mut Command) {
        let enter = move || {
            self.enter().map_err(|(step, error)| {
                let _ = write(&self.steps, &[step]);
                io::Error::from(error)
            })
        };
        // SAFETY: the closure runs between fork and exec of a process that may have had other threads, so it must not take a lock that one
        // of them may have held: it neither allocates nor prints. All data that it reads was created before; the calls are single system
        // calls with paths that are already C strings, and its errors are plain numbers (`io::Error::from(Errno)` contains only the
        // number). The same holds for the processes that it forks, by a system call that runs no handlers. Checked by
        // `a_sandbox_starts_while_threads_allocate`.
        unsafe { command.pre_exec(enter) };
    }

    fn enter(&self) -> Result<(), Failed> {
        let user = |error| (step::USER, error);
        // For root, the pid namespace belongs to the first user namespace, which makes no difference inside it.
        let outside = if self.privileged { self.fork_init()? } else { None };
        // Kept open across the change of root; it is closed by exec.
        let process = open(c"/proc/self", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(user)?;
        if self.privileged {
            if let Some(root) = &self.root {
                unshare(CloneFlags::CLONE_NEWNS).map_err(at(Layer::Root))?;
                root.change().map_err(at(Layer::Root))?;
            }
            become_nobody().map_err(user)?;
        }
        if self.user_namespace {
            self.enter_user_namespace(&process).map_err(user)?;
        }
        let outside = if self.privileged { outside } else { self.fork_init()? };
        if let Some(outside) = outside {
            init::end_with(&outside).map_err(at(Layer::Pid))?;
        }
        for (layer, flag) in &self.namespaces {
            unshare(*flag).map_err(at(*layer))?;
            if *layer == Layer::Uts {
                sethostname("sandbox").map_err(at(*layer))?;
            }
        }
        if let (Some(root), false) = (&self.root, self.privileged) {
            root.change().map_err(at(Layer::Root))?;
        }
        if let Some(command) = &self.command {
            chdir(command.directory.as_c_str()).map_err(at(Layer::Root))?;
            // From here on, this is the command's own process.
            command.init.fork_command().map_err(at(Layer::Pid))?;
            command.confinement.apply()?;
        }
        Ok(())
    }

    /// Forks the first process of a pid namespace, for a command, and continues in it; returns a descriptor of the process outside.
    fn fork_init(&self) -> Result<Option<OwnedFd>, Failed> {
        self.command.as_ref().map(|command| command.init.fork().map_err(at(Layer::Pid))).transpose()
    }

    fn enter_user_namespace(&self, process: &OwnedFd) -> Result<(), Errno> {
        unshare(CloneFlags::CLONE_NEWUSER)?;
        let put = |name: &CStr, text: &str| -> Result<(), Errno> {
            let file = openat(process, name, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
            write(&file, text.as_bytes()).map(drop)
        };
        put(c"setgroups", "deny")?;
        put(c"uid_map", &self.users)?;
        put(c"gid_map", &self.groups)
    }
}

fn at(layer: Layer) -> impl FnOnce(Errno) -> Failed {
    move |error| (layer as u8, error)
}

fn become_nobody() -> Result<(), Errno> {
    setgroups(&[])?;
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    // Otherwise the maps of the process would still belong to root.
    prctl::set_dumpable(true)
}

/// The step that failed, as one byte: the number of a layer, or the user namespace.
pub(super) mod step {
    use std::{fs, io};

    use crate::{Layer, Missing};

    pub const USER: u8 = 255;

    /// The limits of namespaces: a system that sets one of them to zero refuses them.
    const MOST_NAMESPACES: [&str; 6] = ["user", "mnt", "pid", "net", "ipc", "uts"];

    /// Returns whether an error of a step means that the kernel refuses a layer, so that the step would fail again. Other errors, such as
    /// that of too little memory, may pass.
    pub fn is_refusal(error: &io::Error) -> bool {
        let is_zero = |name| {
            let most = fs::read_to_string(format!("/proc/sys/user/max_{name}_namespaces"));
            most.is_ok_and(|most| most.trim() == "0")
        };
        match error.raw_os_error() {
            // AppArmor refuses a mount by EACCES.
            Some(libc::EPERM | libc::EACCES | libc::EINVAL | libc::ENOSYS) => true,
            Some(libc::ENOSPC) => MOST_NAMESPACES.into_iter().any(is_zero),
            _ => false,
        }
    }

    /// Returns the layers among `layers` that the kernel refuses if the step fails with this error; none if the error may pass.
    pub fn missing(step: u8, layers: &[Layer], error: &io::Error) -> Vec<Missing> {
        if !is_refusal(error) {
            return Vec::new();
        }
        let reason = &error.to_string();
        let fails = |layer: &&Layer| **layer as u8 == step || (step == USER && Layer::NAMESPACES.contains(layer));
        layers.iter().filter(fails).map(|layer| Missing { layer: *layer, reason: reason.to_owned() }).collect()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn only_a_refusal_of_the_kernel_is_a_missing_layer() {
            let missing = |step, errno| missing(step, &Layer::ALL, &io::Error::from_raw_os_error(errno)).len();
            for errno in [libc::EPERM, libc::EACCES, libc::EINVAL, libc::ENOSYS] {
                assert_eq!([missing(Layer::Root as u8, errno), missing(USER, errno)], [1, Layer::NAMESPACES.len()]);
            }
            for errno in [libc::ENOMEM, libc::EAGAIN, libc::EIO, libc::EMFILE, libc::ENFILE] {
                assert_eq!([missing(Layer::Root as u8, errno), missing(USER, errno)], [0, 0]);
            }
            // Tests run where namespaces are allowed: then only their number is exhausted.
            let allows = fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|most| most.trim() != "0");
            assert!(!allows || missing(USER, libc::ENOSPC) == 0);
        }
    }
}

impl NewRoot {
    /// Makes this the root of the process's mount namespace, which then contains nothing else.
    fn change(&self) -> Result<(), Errno> {
        // Mounts made from here on are not visible outside.
        mount(NONE, c"/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        let path = self.path.as_c_str();
        mount(Some(path), path, NONE, bind, NONE)?;
        // First, because it would also lock the devices' mounts.
        lock(path, Access::ReadOnly.attributes())?;
        for RawMount { source, target, attributes } in &self.mounts {
            mount(Some(source.as_c_str()), target.as_c_str(), NONE, bind, NONE)?;
            lock(target, *attributes)?;
        }
        if let Some([proc, shared]) = &self.kernel {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            // Refused if the system hides a part of its own `/proc`, as containers do: then there is no `/proc`.
            let read_only = flags | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
            let _ = mount(Some(c"proc"), proc.as_c_str(), Some(c"proc"), read_only, NONE);
            mount(Some(c"tmpfs"), shared.as_c_str(), Some(c"tmpfs"), flags, Some(c"mode=1777"))?;
        }
        chdir(path)?;
        // The old root ends up below the new one, and is unmounted from there.
        pivot_root(c".", c".")?;
        umount2(c".", MntFlags::MNT_DETACH)?;
        chdir(c"/")
    }
}

/// Sets attributes of a mount and of the mounts under it.
fn lock(target: &CStr, set: u64) -> Result<(), Errno> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is a C string and the attributes are a struct of the size that is passed; both outlive the call,
    // which writes to neither. Checked by the escape `write outside` in tests/escapes.rs.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    Errno::result(result).map(drop)
}
