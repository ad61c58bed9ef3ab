//! The root directory of a confined process: empty directories and links on disk, and the mounts over them.
//!
//! | path | for a Python program | for a command |
//! |---|---|---|
//! | system | the interpreter and its library | [`SYSTEM`] and [`SYSTEM_SETTINGS`] |
//! | declared files | none | under their own names, read-only or writable |
//! | `/dev` | `null`, `zero`, `random`, `urandom` | also `full`, links to the process's descriptors, and the tmpfs `shm` |
//! | `/tmp` | a tmpfs of limited size, new for each program: a link to `/private/tmp` | a directory of the caller |
//! | `/proc` | none | that of the process's pid namespace, if the kernel permits the mount |

use std::{
    collections::BTreeSet,
    ffi::{CString, OsString},
    fs::{self, File, TryLockError},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::{Component, Path, PathBuf},
};

use tempfile::TempDir;

use super::python::Python;
use crate::Reach;

const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"];

/// Directories of programs and libraries that are visible to every command, if the system has them.
const SYSTEM: [&str; 9] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"];

/// Entries of `/etc` that belong to installed programs, by the beginning of their names. They do not include the machine's name, network,
/// time zone and accounts, except for user names.
const SYSTEM_SETTINGS: [&str; 13] = [
    "alternatives",
    "fonts",
    "group",
    "java",
    "ld.so.",
    "locale.",
    "magic",
    "mime.types",
    "nsswitch.conf",
    "passwd",
    "perl",
    "python",
    "ssl",
];

/// The access of a process to a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    ReadOnly,
    Writable,
    Device,
}

impl Access {
    /// Returns the attributes of the mount; set-user-id programs work nowhere.
    pub fn attributes(self) -> u64 {
        let more = match self {
            Self::ReadOnly => libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV,
            Self::Writable => libc::MOUNT_ATTR_NODEV,
            Self::Device => libc::MOUNT_ATTR_RDONLY,
        };
        libc::MOUNT_ATTR_NOSUID | more
    }
}

/// A file or directory that is mounted under the root.
#[derive(Clone, Debug)]
pub(super) struct Mount {
    pub source: PathBuf,
    target: PathBuf,
    pub access: Access,
}

/// A [`Mount`] in the representation of the kernel.
pub(super) struct RawMount {
    pub source: CString,
    pub target: CString,
    pub attributes: u64,
}

/// A root directory on disk, removed when dropped.
pub(super) struct Root {
    directory: TempDir,
    /// Held as long as the process lives: a root without a lock was left by a killed process.
    _lock: File,
    mounts: Vec<Mount>,
    /// The mounts by path.
    exposed: BTreeSet<(PathBuf, Access)>,
    /// The caller's directory that is mounted as `/tmp`: mount points below `/tmp` are created in it.
    temporary: Option<PathBuf>,
}

impl Root {
    /// The directory, inside the root, that contains the mount point of a Python program's `/tmp`.
    pub const PRIVATE: &str = "/private";

    fn empty() -> io::Result<Self> {
        let place = std::env::temp_dir();
        remove_abandoned(&place);
        let (directory, lock) = locked_directory(&place)?;
        // The unprivileged user that runs in it must be able to enter. Only names are visible in it.
        open_to_all(directory.path())?;
        Ok(Self { directory, _lock: lock, mounts: Vec::new(), exposed: BTreeSet::new(), temporary: None })
    }

    /// Creates the root of Python programs.
    pub fn of_python(python: &Python) -> io::Result<Self> {
        let mut root = Self::empty()?;
        for path in python.directories.iter().chain(&python.files).chain(&python.links) {
            root.expose(path, Access::ReadOnly)?;
        }
        root.expose_devices(&DEVICES)?;
        let empty = root.within(Path::new("/private/empty"));
        make(&empty)?;
        for path in &python.hidden {
            let target = root.within(path);
            root.mounts.push(Mount { source: empty.clone(), target, access: Access::ReadOnly });
        }
        make(&root.within(Path::new("/private/tmp")))?;
        symlink("private/tmp", root.within(Path::new("/tmp")))?;
        Ok(root)
    }

    /// Creates the root of a command.
    pub fn of_command(reach: &Reach) -> io::Result<Self> {
        let mut root = Self::empty()?;
        let present = SYSTEM.into_iter().map(PathBuf::from).filter(|path| path.exists());
        let mut system: Vec<PathBuf> = present.collect();
        for entry in fs::read_dir("/etc").into_iter().flatten().flatten() {
            let is_shown = |name: &str| SYSTEM_SETTINGS.iter().any(|start| name.starts_with(start));
            if entry.file_name().to_str().is_some_and(is_shown) && entry.path().exists() {
                system.push(entry.path());
            }
        }
        system.sort();
        for path in &system {
            root.expose(path, Access::ReadOnly)?;
        }
        root.expose_devices(&DEVICES)?;
        root.expose_devices(&["/dev/full"])?;
        for (name, target) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
            symlink(format!("/proc/self/{target}"), root.within(&Path::new("/dev").join(name)))?;
        }
        for place in ["/proc", "/dev/shm", "/tmp"] {
            make(&root.within(Path::new(place)))?;
        }
        let target = root.within(Path::new("/tmp"));
        root.mounts.push(Mount { source: reach.temporary.clone(), target, access: Access::Writable });
        root.temporary = Some(reach.temporary.clone());
        let mut readable = reach.readable.clone();
        // A directory before its content.
        readable.sort();
        for path in &readable {
            root.expose(path, Access::ReadOnly)?;
        }
        for path in reach.writable.iter().chain([&reach.directory]) {
            root.expose(path, Access::Writable)?;
        }
        for path in &reach.protected {
            root.expose(path, Access::ReadOnly)?;
        }
        Ok(root)
    }

    /// Returns the directory on disk.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the directory on disk that contains the mount point of a Python program's `/tmp`.
    pub fn private(&self) -> PathBuf {
        self.within(Path::new(Self::PRIVATE))
    }

    /// Returns the mounts, in order.
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// Returns the mounts: sources, and targets under the directory on disk.
    pub fn raw_mounts(&self) -> io::Result<Vec<RawMount>> {
        let raw = |mount: &Mount| {
            Ok(RawMount {
                source: text(&mount.source)?,
                target: text(&mount.target)?,
                attributes: mount.access.attributes(),
            })
        };
        self.mounts.iter().map(raw).collect()
    }

    /// Returns the path on disk of a path in the root.
    pub fn within(&self, path: &Path) -> PathBuf {
        self.path().join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Returns the path at which the mount point or link with this path in the root is created.
    fn made_at(&self, path: &Path) -> PathBuf {
        match (&self.temporary, path.strip_prefix("/tmp")) {
            (Some(temporary), Ok(rest)) => temporary.join(rest),
            _ => self.within(path),
        }
    }

    fn expose_devices(&mut self, devices: &[&str]) -> io::Result<()> {
        devices.iter().try_for_each(|device| self.expose(Path::new(device), Access::Device))
    }

    /// Makes `path` visible in the root under the same name, with the links that lead to it.
    fn expose(&mut self, path: &Path, access: Access) -> io::Result<()> {
        let mut reached = PathBuf::from("/");
        let mut rest: Vec<_> = components(path);
        while let Some(part) = rest.pop() {
            if part == ".." {
                reached.pop();
                continue;
            }
            reached.push(&part);
            let here = self.made_at(&reached);
            let metadata = fs::symlink_metadata(&reached)?;
            if metadata.is_symlink() {
                let target = fs::read_link(&reached)?;
                if fs::symlink_metadata(&here).is_err() {
                    symlink(&target, &here)?;
                }
                reached.pop();
                if target.is_absolute() {
                    reached = PathBuf::from("/");
                }
                rest.extend(components(&target));
            } else if !rest.is_empty() {
                make(&here)?;
            } else {
                let target = self.within(&reached);
                if !self.exposed.insert((target.clone(), access)) {
                    continue;
                }
                if metadata.is_dir() {
                    make(&here)?;
                } else if !here.exists() {
                    File::create(&here)?;
                }
                self.mounts.push(Mount { source: reached.clone(), target, access });
            }
        }
        Ok(())
    }
}

/// The prefix of the names of root directories.
const PREFIX: &str = "pipeline-sandbox-root-";

/// Creates a directory for a root, and locks it.
fn locked_directory(place: &Path) -> io::Result<(TempDir, File)> {
    loop {
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place)?;
        let lock = match File::open(directory.path()) {
            Ok(lock) => lock,
            // Another process removed it before it was locked, or is about to remove it below.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match lock.try_lock() {
            Ok(()) if directory.path().exists() => return Ok((directory, lock)),
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            // The file system has no locks: then no process can lock it to remove it either.
            Err(TryLockError::Error(_)) => return Ok((directory, lock)),
        }
    }
}

/// Removes the root directories of this user that no process has locked.
fn remove_abandoned(place: &Path) {
    let user = nix::unistd::geteuid().as_raw();
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let is_root = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        let is_own = entry.metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == user);
        if is_root
            && is_own
            && let Ok(directory) = File::open(entry.path())
            && directory.try_lock().is_ok()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Returns a path in the form that the kernel takes.
pub(super) fn text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Creates a directory and its missing ancestors, whatever the caller's umask.
fn make(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    directory.parent().map_or(Ok(()), make)?;
    fs::create_dir(directory)?;
    open_to_all(directory)
}

fn open_to_all(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
}

/// Returns the parts of a path below the root, last first.
fn components(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    let mut parts: Vec<_> = parts.map(|part| part.as_os_str().to_owned()).collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_that_no_process_holds_are_removed() {
        let place = tempfile::tempdir().unwrap();
        let (held, lock) = locked_directory(place.path()).unwrap();
        let left = place.path().join(format!("{PREFIX}left"));
        let other = place.path().join("sandbox-other");
        fs::create_dir_all(left.join("private/tmp")).unwrap();
        fs::create_dir(&other).unwrap();
        remove_abandoned(place.path());
        assert_eq!([held.path(), &left, &other].map(Path::exists), [true, false, true]);
        drop(lock);
        // A process that another test is just starting holds it, too, until it runs its program.
        let begun = std::time::Instant::now();
        while held.path().exists() && begun.elapsed() < std::time::Duration::from_secs(60) {
            remove_abandoned(place.path());
        }
        assert!(!held.path().exists(), "nothing holds it any more");
    }
}
