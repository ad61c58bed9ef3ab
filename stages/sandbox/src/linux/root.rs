//! The root directory of a confined process: empty directories and links on disk, and what is mounted over them.
//!
//! | path | what |
//! |---|---|
//! | the interpreter's own paths | the same files, read-only |
//! | `/dev/null`, `/dev/zero`, `/dev/random`, `/dev/urandom` | the devices |
//! | `/private/tmp` | a tmpfs of limited size, new for each program; `/tmp` is a link to it |
//!
//! There is no `/proc`, no `/etc`, and no shell.

use std::{
    ffi::CString,
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    path::{Component, Path, PathBuf},
};

use tempfile::TempDir;

use super::python::Python;

const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"];

/// A root directory on disk, removed when dropped.
pub(super) struct Root {
    directory: TempDir,
    mounts: Vec<(PathBuf, PathBuf)>,
}

impl Root {
    /// The directory, inside the root, that holds the mount point of `/tmp`.
    pub const PRIVATE: &str = "/private";

    pub fn new(python: &Python) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("sandbox-").tempdir()?;
        // The unprivileged user that runs the interpreter must be able to enter. Only names of system files are visible in it.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let mut root = Self { directory, mounts: Vec::new() };
        for path in python.directories.iter().chain(&python.files).chain(&python.links) {
            root.expose(path)?;
        }
        for path in DEVICES {
            root.expose(Path::new(path))?;
        }
        let empty = root.within(Path::new("/private/empty"));
        fs::create_dir_all(&empty)?;
        for path in &python.hidden {
            root.mounts.push((empty.clone(), root.within(path)));
        }
        fs::create_dir_all(root.within(Path::new("/private/tmp")))?;
        symlink("private/tmp", root.within(Path::new("/tmp")))?;
        Ok(root)
    }

    /// Returns the directory on disk.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the directory on disk that holds the mount point of `/tmp`.
    pub fn private(&self) -> PathBuf {
        self.within(Path::new(Self::PRIVATE))
    }

    /// Returns what to mount where: sources, and targets under the directory on disk.
    pub fn mounts(&self) -> io::Result<Vec<(CString, CString)>> {
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
        self.mounts.iter().map(|(source, target)| Ok((text(source)?, text(target)?))).collect()
    }

    fn within(&self, path: &Path) -> PathBuf {
        self.path().join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Makes `path` visible in the root under the same name, with the links that lead to it.
    fn expose(&mut self, path: &Path) -> io::Result<()> {
        let mut reached = PathBuf::from("/");
        let mut rest: Vec<_> = components(path);
        while let Some(part) = rest.pop() {
            if part == ".." {
                reached.pop();
                continue;
            }
            reached.push(&part);
            let here = self.within(&reached);
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
                fs::create_dir_all(&here)?;
            } else if !self.mounts.iter().any(|(_, target)| *target == here) {
                if metadata.is_dir() {
                    fs::create_dir_all(&here)?;
                } else {
                    fs::File::create(&here)?;
                }
                self.mounts.push((reached.clone(), here));
            }
        }
        Ok(())
    }
}

/// The parts of a path below the root, last first.
fn components(path: &Path) -> Vec<std::ffi::OsString> {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    let mut parts: Vec<_> = parts.map(|part| part.as_os_str().to_owned()).collect();
    parts.reverse();
    parts
}
