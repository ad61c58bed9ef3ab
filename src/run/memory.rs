//! The memory that this process may use: that of the machine, limited by cgroups and by `ulimit -v` (Linux).
//!
//! The limit of a cgroup applies to all cgroups below it, so each directory from the process's own up to the root is read: `memory.max` in
//! version 2, `memory.limit_in_bytes` in version 1. In a container the path that `/proc/self/cgroup` names may not exist; in that case the
//! mounted root is the container's own cgroup.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the bytes of memory that this process may use, if the system reports them.
pub(super) fn available() -> Option<u64> {
    of_system(Path::new("/"))
}

/// Does the same as [`available`] for a system whose `/proc` and `/sys` are below `root`.
fn of_system(root: &Path) -> Option<u64> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let total = value(&read("proc/meminfo"), "MemTotal:")?.strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10;
    let address_space = read("proc/self/limits");
    let address_space =
        value(&address_space, "Max address space").and_then(|limits| limits.split_whitespace().next()?.parse().ok());
    let cgroups = read("proc/self/cgroup");
    let cgroups = cgroups.lines().filter_map(|line| cgroup_limit(&root.join("sys/fs/cgroup"), line));
    Some(cgroups.chain(address_space).fold(total, u64::min))
}

/// Returns the rest of the line that begins with `name`.
fn value<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// Returns the lowest limit of a cgroup and its ancestors; `line` is `hierarchy:controllers:path`.
fn cgroup_limit(mount: &Path, line: &str) -> Option<u64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let (mount, file) = match controllers {
        "" => (mount.to_owned(), "memory.max"),
        some if some.split(',').any(|one| one == "memory") => (mount.join("memory"), "memory.limit_in_bytes"),
        _ => return None,
    };
    let own = PathBuf::from(path.trim_start_matches('/'));
    let limit = |cgroup: &Path| fs::read_to_string(mount.join(cgroup).join(file)).ok()?.trim().parse::<u64>().ok();
    own.ancestors().filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A machine of 8 GiB with these files.
    fn machine(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [("proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n")].iter().chain(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        of_system(root.path())
    }

    #[test]
    fn the_least_limit_applies() {
        assert_eq!(machine(&[]), Some(8 * GIB));
        let unlimited = [("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "max\n")];
        assert_eq!(machine(&unlimited), Some(8 * GIB));
        let container = [("proc/self/cgroup", "0::/not/visible\n"), ("sys/fs/cgroup/memory.max", "2147483648\n")];
        assert_eq!(machine(&container), Some(2 * GIB));
        let slice = [
            ("proc/self/cgroup", "0::/user.slice/job\n"),
            ("sys/fs/cgroup/user.slice/memory.max", "3221225472\n"),
            ("sys/fs/cgroup/user.slice/job/memory.max", "max\n"),
        ];
        assert_eq!(machine(&slice), Some(3 * GIB), "a limit applies to all below it");
        let first_version = [
            ("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/a\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1073741824\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(machine(&first_version), Some(GIB));
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
             Max address space         4294967296           unlimited            bytes\n";
        assert_eq!(machine(&[("proc/self/limits", limits)]), Some(4 * GIB));
        assert_eq!(machine(&[("proc/self/limits", &limits.replace("4294967296", "unlimited "))]), Some(8 * GIB));
    }

    #[test]
    fn a_system_that_reports_nothing_has_no_limit() {
        assert_eq!(of_system(Path::new("/nowhere/at/all")), None);
    }
}
