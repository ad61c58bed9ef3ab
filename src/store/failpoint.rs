//! Points at which a test kills the process, to show that a crash there loses nothing.
//!
//! `PIPELINE_FAILPOINT=create-before-rename:2` sends the process SIGKILL when it passes the point for the second time;
//! `create-before-rename:2:stop` stops it there until it receives SIGCONT, while other processes continue. Without the variable, a point
//! costs one comparison. `tests/crash` kills at every point and checks that the next run is correct.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The points of a run, in the order in which it passes them for the first time.
pub const RUN_POINTS: [&str; 22] = [
    "open-before-version",
    "write-before-sync",
    "write-before-rename",
    "write-after-rename",
    "lease-before-name",
    "run-before-folder",
    "run-after-folder",
    "lease-before-append",
    "work-before-fingerprint",
    "work-before-stage",
    "adopt-before-freeze",
    "adopt-before-rename",
    "adopt-after-rename",
    "index-torn-line",
    "create-before-rename",
    "create-after-rename",
    "publish-before-file",
    "publish-before-link",
    "remember-before-write",
    "clear-before-remove",
    "lock-before-write",
    "latest-before-rename",
];

/// The points of a garbage collection, of a repair, and of copying trees from another store.
pub const MAINTENANCE_POINTS: [&str; 11] = [
    "gc-before-record",
    "gc-before-published",
    "gc-before-tree",
    "gc-before-blob",
    "gc-before-lock",
    "gc-before-aside",
    "forget-before-remove",
    "repair-before-restore",
    "repair-before-record",
    "repair-before-last-build",
    "copy-before-rename",
];

/// In `cache gc`, after it has read the leases and before it reads the locks of runs.
pub const GC_AFTER_LEASES: &str = "gc-after-leases";
/// In an export, after it has created its temporary directory.
pub const EXPORT_AFTER_CLAIM: &str = "export-after-claim";

/// The point at which to signal the process.
struct Wanted {
    point: String,
    count: u32,
    signal: Signal,
}

static WANTED: OnceLock<Option<Wanted>> = OnceLock::new();
static PASSED: AtomicU32 = AtomicU32::new(0);

/// Passes a point, and kills or stops the process if the point is due.
pub fn pass(point: &str) {
    if is_due(point) {
        die();
    }
}

/// Returns whether the process must be killed at this point now, for a point that has to do something first.
pub(super) fn is_due(point: &str) -> bool {
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("PIPELINE_FAILPOINT").ok()?;
        let mut parts = text.split(':');
        let (point, count) = (parts.next()?.to_owned(), parts.next().unwrap_or("1").parse().ok()?);
        let signal = if parts.next() == Some("stop") { Signal::SIGSTOP } else { Signal::SIGKILL };
        Some(Wanted { point, count, signal })
    });
    match wanted {
        Some(Wanted { point: name, count, .. }) if name == point => {
            PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *count
        }
        _ => false,
    }
}

/// Kills the process as `kill -9` would, or stops it.
pub(super) fn die() {
    let signal = WANTED.get().and_then(Option::as_ref).map_or(Signal::SIGKILL, |wanted| wanted.signal);
    // If the signal cannot be sent, an abort is as sudden.
    let sent = kill(Pid::this(), signal);
    if sent.is_err() || signal == Signal::SIGKILL {
        std::process::abort();
    }
}
