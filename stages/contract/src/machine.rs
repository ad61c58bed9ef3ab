//! Requirements of a stage on the machine.

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
