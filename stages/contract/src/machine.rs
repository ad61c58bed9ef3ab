//! What a stage requires of the machine, and what it used.

use std::fs;

/// A requirement of a stage, and what this machine provides ([`crate::Stage::check_machine`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineCheck {
    /// The setting that requires it; empty for the stage as a whole.
    pub setting: &'static str,
    /// A description of what the machine provides.
    pub text: String,
    /// A hint if something is missing, so that the stage cannot run here.
    pub missing: Option<String>,
}

impl MachineCheck {
    /// Creates a finding that the machine provides what the stage needs.
    pub fn provided(setting: &'static str, text: impl Into<String>) -> Self {
        Self { setting, text: text.into(), missing: None }
    }

    /// Creates a finding that something is missing, with a hint.
    pub fn missing(setting: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { setting, text: text.into(), missing: Some(hint.into()) }
    }
}

/// Returns the peak of the bytes that this process held, since its start or since the peak was reset (Linux, `VmHWM` of proc(5)); `None` if the
/// system does not report it.
pub fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}
