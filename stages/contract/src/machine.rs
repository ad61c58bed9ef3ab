//! What a machine provides for a stage.

/// Something that a stage needs of the machine, as it was found ([`crate::Stage::check_machine`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineCheck {
    /// The setting by which the stage needs it; empty for the stage as a whole.
    pub setting: &'static str,
    /// What was found.
    pub text: String,
    /// What to do, if something is missing: the stage cannot run here.
    pub missing: Option<String>,
}

impl MachineCheck {
    /// The machine provides what is needed.
    pub fn provided(setting: &'static str, text: impl Into<String>) -> Self {
        Self { setting, text: text.into(), missing: None }
    }

    /// Something is missing; `hint` says what to do.
    pub fn missing(setting: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { setting, text: text.into(), missing: Some(hint.into()) }
    }
}
