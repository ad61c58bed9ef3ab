//! How much memory the process held while a stage ran, where the system says (Linux).

use std::fs;

/// Starts a new high-water mark. Only one stage at a time can be measured: the mark is the process's.
pub(super) fn reset_peak() {
    // 5 resets VmHWM (proc(5), /proc/pid/clear_refs). Where it cannot be written the mark is the process's so far.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Bytes at the high-water mark.
pub(super) fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}
