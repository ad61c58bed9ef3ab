//! Moves a new process into its namespaces and its root, before it starts the interpreter.
//!
//! An ordinary user's process gets a user namespace first, in which it may mount. Root's process mounts first, since its
//! interpreter may be in a directory that only root can read; then it becomes the user `nobody`, and gets a user namespace as
//! above. Either way the process ends as user 0 of a namespace that maps one ordinary user.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::OwnedFd,
    path::Path,
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

use super::root::Root;
use crate::Layer;

/// The user and the group that root's processes become.
const NOBODY: u32 = 65534;

/// What the process does; made beforehand, since it may not allocate then.
pub(super) struct Entry {
    root: Option<(CString, Vec<(CString, CString)>)>,
    namespaces: Vec<(Layer, CloneFlags)>,
    privileged: bool,
    users: String,
    groups: String,
    /// Receives the byte of [`step`] that failed.
    steps: OwnedFd,
}

impl Entry {
    pub fn new(layers: &[Layer], root: &Root, steps: OwnedFd) -> io::Result<Self> {
        let privileged = geteuid().is_root();
        let (user, group) = if privileged { (NOBODY, NOBODY) } else { (geteuid().as_raw(), getegid().as_raw()) };
        let namespaces = [
            (Layer::Root, CloneFlags::CLONE_NEWNS),
            (Layer::Network, CloneFlags::CLONE_NEWNET),
            (Layer::Ipc, CloneFlags::CLONE_NEWIPC),
            (Layer::Uts, CloneFlags::CLONE_NEWUTS),
        ];
        let path = |path: &Path| CString::new(path.as_os_str().as_encoded_bytes()).map_err(io::Error::other);
        Ok(Self {
            root: layers
                .contains(&Layer::Root)
                .then(|| io::Result::Ok((path(root.path())?, root.mounts()?)))
                .transpose()?,
            namespaces: namespaces.into_iter().filter(|(layer, _)| layers.contains(layer)).collect(),
            privileged,
            users: format!("0 {user} 1"),
            groups: format!("0 {group} 1"),
            steps,
        })
    }

    /// Makes `command` do this before it starts its program.
    pub fn install(self, command: &mut Command, user_namespace: bool) {
        use std::os::unix::process::CommandExt;

        let enter = move || {
            self.enter(user_namespace).map_err(|(step, error)| {
                let _ = write(&self.steps, &[step]);
                io::Error::from(error)
            })
        };
        // SAFETY: the closure runs between fork and exec of a process that may have had other threads, so it must not
        // take a lock that one of them may have held: it neither allocates nor prints. All that it reads was made
        // before; the calls are single system calls with paths that are C strings already, and its errors are plain
        // numbers (`io::Error::from(Errno)` holds the number only). Checked by `a_sandbox_starts_while_threads_allocate`.
        unsafe { command.pre_exec(enter) };
    }

    fn enter(&self, user_namespace: bool) -> Result<(), (u8, Errno)> {
        let at = |step| move |error| (step, error);
        // Kept open over the change of root; it is closed by exec.
        let process = open(c"/proc/self", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(at(step::USER))?;
        if self.privileged {
            if let Some((root, mounts)) = &self.root {
                unshare(CloneFlags::CLONE_NEWNS).map_err(at(Layer::Root as u8))?;
                change_root(root, mounts).map_err(at(Layer::Root as u8))?;
            }
            setgroups(&[]).map_err(at(step::USER))?;
            let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            setresgid(group, group, group).map_err(at(step::USER))?;
            setresuid(user, user, user).map_err(at(step::USER))?;
            // Without it, the maps of the process would still belong to root.
            prctl::set_dumpable(true).map_err(at(step::USER))?;
        }
        if user_namespace {
            unshare(CloneFlags::CLONE_NEWUSER).map_err(at(step::USER))?;
            let put = |name: &CStr, text: &str| -> Result<(), Errno> {
                let file = openat(&process, name, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
                write(&file, text.as_bytes()).map(drop)
            };
            put(c"setgroups", "deny").map_err(at(step::USER))?;
            put(c"uid_map", &self.users).map_err(at(step::USER))?;
            put(c"gid_map", &self.groups).map_err(at(step::USER))?;
        }
        for (layer, flag) in &self.namespaces {
            unshare(*flag).map_err(at(*layer as u8))?;
            if *layer == Layer::Uts {
                sethostname("sandbox").map_err(at(*layer as u8))?;
            }
        }
        if let (Some((root, mounts)), false) = (&self.root, self.privileged) {
            change_root(root, mounts).map_err(at(Layer::Root as u8))?;
        }
        Ok(())
    }
}

/// Which step failed, as one byte: a layer's number, or the user namespace.
pub(super) mod step {
    use crate::Layer;

    pub const USER: u8 = 255;

    /// Returns the layers that fail with the step.
    pub fn layers(step: u8) -> Vec<Layer> {
        Layer::ALL
            .into_iter()
            .filter(|layer| *layer as u8 == step || (step == USER && Layer::NAMESPACES.contains(layer)))
            .collect()
    }
}

fn change_root(root: &CStr, mounts: &[(CString, CString)]) -> Result<(), Errno> {
    const NONE: Option<&CStr> = None;
    // Nothing that is mounted from here on is seen outside.
    mount(NONE, c"/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(root), root, NONE, bind, NONE)?;
    // First, since it would lock the devices' mounts too.
    lock(root, true)?;
    for (source, target) in mounts {
        mount(Some(source.as_c_str()), target.as_c_str(), NONE, bind, NONE)?;
        lock(target, !source.to_bytes().starts_with(b"/dev/"))?;
    }
    chdir(root)?;
    // The old root ends up under the new one, and is taken away from there.
    pivot_root(c".", c".")?;
    umount2(c".", MntFlags::MNT_DETACH)?;
    chdir(c"/")
}

/// Makes a mount and those under it read-only, without set-user-id programs and, unless it is one, without devices.
fn lock(target: &CStr, no_devices: bool) -> Result<(), Errno> {
    let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | if no_devices { libc::MOUNT_ATTR_NODEV } else { 0 };
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
