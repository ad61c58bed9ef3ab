//! The Landlock rules of a confined process.

use std::{os::fd::OwnedFd, path::Path};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use super::{python::Python, root::Root};

/// Returns the rules as a descriptor, or `None` where the kernel has no Landlock.
///
/// Readable: the interpreter and its library. Readable and writable: what is mounted under the root's private directory,
/// and `/dev/null`. TCP, abstract sockets of others and signals to others are refused where the kernel's Landlock can.
pub(super) fn rules(python: &Python, root: &Root) -> Result<Option<OwnedFd>, RulesetError> {
    let version = ABI::V6;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(version))?
        .handle_access(AccessNet::from_all(version))?
        .scope(Scope::from_all(version))?
        .create()?;
    let read = AccessFs::from_read(version);
    for path in python.directories.iter().chain(&python.files).chain(&python.links) {
        rules = allow(rules, path, if path.is_dir() { read } else { AccessFs::ReadFile | AccessFs::Execute })?;
    }
    rules = allow(rules, &root.private(), AccessFs::from_all(version) & !AccessFs::Execute)?;
    for device in ["/dev/zero", "/dev/random", "/dev/urandom"] {
        rules = allow(rules, Path::new(device), AccessFs::ReadFile.into())?;
    }
    rules = allow(rules, Path::new("/dev/null"), AccessFs::ReadFile | AccessFs::WriteFile)?;
    Ok(rules.into())
}

fn allow(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(file) => rules.add_rule(PathBeneath::new(file, access)),
        // What cannot be opened cannot be read either.
        Err(_) => Ok(rules),
    }
}
