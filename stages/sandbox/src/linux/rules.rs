//! The Landlock rules of a confined process.

use std::{os::fd::OwnedFd, path::Path};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use super::{
    python::Python,
    root::{Access as MountAccess, Root},
};

const VERSION: ABI = ABI::V6;

/// Returns the access rights for writable files.
pub(super) fn all() -> BitFlags<AccessFs> {
    AccessFs::from_all(VERSION)
}

/// Returns the access rights for read-only files.
pub(super) fn read() -> BitFlags<AccessFs> {
    AccessFs::from_read(VERSION)
}

/// Returns the rules of a Python program as a descriptor, or `None` if the kernel has no Landlock.
///
/// Readable: the interpreter and its library. Readable and writable: the mounts under the root's private directory, and
/// `/dev/null`.
pub(super) fn of_python(python: &Python, root: &Root) -> Result<Option<OwnedFd>, RulesetError> {
    let mut rules = empty()?;
    for path in python.directories.iter().chain(&python.files).chain(&python.links) {
        rules = allow(rules, path, read())?;
    }
    rules = allow(rules, &root.private(), all() & !AccessFs::Execute)?;
    for device in ["/dev/zero", "/dev/random", "/dev/urandom"] {
        rules = allow(rules, Path::new(device), AccessFs::ReadFile.into())?;
    }
    rules = allow(rules, Path::new("/dev/null"), AccessFs::ReadFile | AccessFs::WriteFile)?;
    Ok(rules.into())
}

/// Returns the rules of a command: the content of its root, readable or writable as it is mounted.
pub(super) fn of_command(root: &Root) -> Result<Option<OwnedFd>, RulesetError> {
    let mut rules = allow(empty()?, root.path(), AccessFs::ReadDir.into())?;
    for mount in root.mounts() {
        let access = match mount.access {
            MountAccess::ReadOnly => read(),
            MountAccess::Writable => all(),
            MountAccess::Device => AccessFs::ReadFile | AccessFs::WriteFile,
        };
        rules = allow(rules, &mount.source, access)?;
    }
    Ok(rules.into())
}

/// Returns the access rights of a command for `/proc` and `/dev/shm`, as far as the kernel's Landlock supports them.
pub(super) fn of_kernel_files() -> [u64; 2] {
    // SAFETY: with this flag the call touches no memory and returns the version.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, 1) };
    let known = AccessFs::from_all(ABI::from(i32::try_from(version).unwrap_or(0)));
    [read(), all()].map(|access| (access & known).bits())
}

/// Returns rules that allow no file. TCP, abstract sockets of other processes and signals to them are refused if the
/// kernel's Landlock supports it.
fn empty() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all())?
        .handle_access(AccessNet::from_all(VERSION))?
        .scope(Scope::from_all(VERSION))?
        .create()
}

fn allow(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    let of_files = AccessFs::from_file(VERSION);
    let access = if path.is_dir() { access } else { access & of_files };
    match PathFd::new(path) {
        Ok(file) => rules.add_rule(PathBeneath::new(file, access)),
        // A file that cannot be opened cannot be read either.
        Err(_) => Ok(rules),
    }
}
