//! The sandbox of a command: a trusted program that can access only declared files.
//!
//! Of the layers of Python programs, limits and the checker are not used: the caller decides how long a command runs. The network is
//! disabled, as is everything that [`filter::of_command`] and [`super::rules`] refuse.

use std::{
    ffi::OsStr,
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    dir::{self, Dir},
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag, openat},
    sys::{
        socket::{AddressFamily, SockFlag, SockType, socketpair},
        stat::Mode,
    },
    unistd::{Gid, Uid, fchown, fchownat},
};

use super::{
    confine::Confinement,
    enter::{CommandEntry, Entry, NOBODY},
    filter,
    init::Init,
    root::{Root, text},
    rules,
    supervisor::Supervisor,
};
use crate::{Broken, Layer, Missing, Reach, Unavailable};

/// A sandbox for one command. If the caller is root, the command runs as the user `nobody`, who owns the files that it may write until
/// [`CommandSandbox::take_back`] is called or this is dropped.
pub struct CommandSandbox {
    root: Root,
    reach: Reach,
    /// Whether the command's user owns the files that it may write.
    is_owner_changed: AtomicBool,
}

impl CommandSandbox {
    /// Prepares a sandbox. All paths must be absolute and must exist.
    pub fn new(reach: Reach) -> Result<Self, Unavailable> {
        let root = Root::of_command(&reach).map_err(Broken::system("cannot make the root directory"))?;
        Ok(Self { root, reach, is_owner_changed: AtomicBool::new(false) })
    }

    /// Returns whether a file of the machine is visible in the sandbox, at the same path.
    pub fn shows(&self, path: &Path) -> bool {
        let Ok(real) = path.canonicalize() else { return false };
        self.root.mounts().iter().any(|mount| real.starts_with(&mount.source) && mount.source != self.reach.temporary)
    }

    /// Configures `command` to start in the sandbox. The environment is unchanged; the working directory must not be set.
    pub fn confine(&self, command: &mut Command) -> Result<Supervisor, Unavailable> {
        let rules = rules::of_command(&self.root).map_err(|error| Broken::Server(error.to_string()))?;
        let Some(rules) = rules else {
            let missing = Missing { layer: Layer::Landlock, reason: "the kernel has no Landlock".into() };
            return Err(Unavailable::Layers(vec![missing]));
        };
        let filter = filter::of_command().map_err(|error| Broken::Server(error.to_string()))?;
        let (steps, step) = io::pipe().map_err(Broken::system("cannot make a pipe"))?;
        nix::fcntl::fcntl(&steps, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))
            .map_err(Broken::system("cannot set up a pipe"))?;
        let (near, far) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
            .map_err(Broken::system("cannot make a socket"))?;
        let directory = text(&self.reach.directory).map_err(Broken::system("cannot convert a path to a C string"))?;
        let init = Init::new().map_err(Broken::system("cannot make a pipe"))?;
        let confinement = Confinement {
            rules,
            kernel_files: rules::of_kernel_files(),
            filter,
            watch: filter::watch(),
            supervisor: far,
        };
        let entry = CommandEntry { init, confinement, directory };
        let layers = Layer::OF_COMMANDS.to_vec();
        let entry = Entry::new(&layers, &self.root, step.into(), Some(entry));
        entry.map_err(Broken::system("cannot convert a path to a C string"))?.install(command);
        self.is_owner_changed.store(true, Ordering::Relaxed);
        self.own(NOBODY).map_err(Broken::system("cannot change the owner of writable paths"))?;
        Ok(Supervisor::start(near, steps, layers).map_err(Broken::system("cannot start a thread"))?)
    }

    /// Makes the caller the owner of the files that the command wrote.
    pub fn take_back(&self) -> io::Result<()> {
        self.own(nix::unistd::geteuid().as_raw())?;
        self.is_owner_changed.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Changes the owner of the files that the command may write, if the caller is root: the command then runs as another user.
    fn own(&self, user: u32) -> io::Result<()> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(());
        }
        let Reach { writable, protected, directory, temporary, .. } = &self.reach;
        writable.iter().chain([directory, temporary]).try_for_each(|path| change_owner(path, user, protected))
    }

    /// Runs an empty program in a sandbox, to find out which layers the kernel refuses; returns the layers that it provides.
    pub fn check() -> Result<&'static [Layer], Unavailable> {
        let folder = tempfile::tempdir().map_err(Broken::system("cannot create a directory"))?;
        let place = |name: &str| -> io::Result<PathBuf> {
            let path = folder.path().canonicalize()?.join(name);
            fs::create_dir(&path).map(|()| path)
        };
        let [directory, temporary] = ["work", "tmp"].map(place);
        let failed = || Broken::system("cannot create a directory");
        let reach = Reach {
            directory: directory.map_err(failed())?,
            temporary: temporary.map_err(failed())?,
            ..Reach::default()
        };
        let sandbox = Self::new(reach)?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", ":"]).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut supervisor = sandbox.confine(&mut command)?;
        let status = command.status();
        let missing = status.as_ref().err().map(|error| supervisor.missing(error)).unwrap_or_default();
        supervisor.finish();
        match status {
            Ok(status) if status.success() => Ok(&Layer::OF_COMMANDS),
            Ok(status) => Err(Broken::Server(format!("an empty program failed: {status}")).into()),
            Err(_) if !missing.is_empty() => Err(Unavailable::Layers(missing)),
            Err(error) => Err(Broken::System { action: "cannot start /bin/sh", error }.into()),
        }
    }
}

impl Drop for CommandSandbox {
    fn drop(&mut self) {
        if self.is_owner_changed.load(Ordering::Relaxed) {
            let _ = self.take_back();
        }
    }
}

/// Makes a user the owner of a file, or of a directory with its content; of `protected` paths, only directories are given, so that they can
/// be read. Links are not followed, even if a directory is replaced by one meanwhile.
fn change_owner(path: &Path, user: u32, protected: &[PathBuf]) -> io::Result<()> {
    change_owner_in(AT_FDCWD, path, path, user, protected)
}

/// Makes the user the owner of the entry `name` of a directory, which has this path: first of its content, then of the entry itself.
fn change_owner_in(
    directory: BorrowedFd<'_>,
    name: &Path,
    path: &Path,
    user: u32,
    protected: &[PathBuf],
) -> io::Result<()> {
    let (owner, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(user)));
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(directory, name, flags, Mode::empty()) {
        Ok(opened) => {
            for name in names(&opened)? {
                change_owner_in(opened.as_fd(), &name, &path.join(&name), user, protected)?;
            }
            fchown(&opened, owner, group)?;
        }
        Err(Errno::ENOTDIR | Errno::ELOOP) if protected.iter().any(|kept| path.starts_with(kept)) => {}
        Err(Errno::ENOTDIR | Errno::ELOOP) => {
            fchownat(directory, name, owner, group, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Returns the names in a directory.
fn names(directory: &OwnedFd) -> io::Result<Vec<PathBuf>> {
    let mut entries = Dir::from_fd(directory.try_clone()?)?;
    let name = |entry: Result<dir::Entry, Errno>| Ok(PathBuf::from(OsStr::from_bytes(entry?.file_name().to_bytes())));
    let names = entries.iter().map(name).collect::<io::Result<Vec<_>>>()?;
    Ok(names.into_iter().filter(|name| name.as_os_str() != "." && name.as_os_str() != "..").collect())
}
