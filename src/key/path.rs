//! The parts of a key, by their paths in a record.

use std::fmt;

pub(super) const KIND: &str = "kind";
pub(super) const REVISION: &str = "revision";
pub(super) const SEED: &str = "seed";
pub(super) const SETTINGS: &str = "settings";
pub(super) const INPUTS: &str = "inputs";
pub(super) const SOURCES: &str = "sources";
pub(super) const MACHINE: &str = "machine";

/// The path of a value in a key: `settings.learning_rate`. The order of paths is that of their text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyPath {
    /// `inputs.PORT`: the content digest of an input.
    Input(String),
    /// `kind`: the stage kind.
    Kind,
    /// `machine.NAME`: a fact of the machine.
    Machine(String),
    /// `revision`: the revision of the kind.
    Revision,
    /// `seed`: the seed of the run.
    Seed,
    /// `settings.PATH`: a setting, by its path in the manifest (`rules.line_max`).
    Setting(String),
    /// `sources`: the content digests of the external files.
    Sources,
}

impl KeyPath {
    /// Returns whether the value is the content of an input or of external files.
    pub const fn is_content(&self) -> bool {
        matches!(self, Self::Input(_) | Self::Sources)
    }

    /// Parses the path of a leaf. A path that this version does not write is parsed as a setting.
    pub(super) fn parse(path: &str) -> Self {
        match (path, path.split_once('.')) {
            (KIND, _) => Self::Kind,
            (REVISION, _) => Self::Revision,
            (SEED, _) => Self::Seed,
            (SOURCES, _) => Self::Sources,
            (_, Some((INPUTS, port))) => Self::Input(port.to_owned()),
            (_, Some((MACHINE, fact))) => Self::Machine(fact.to_owned()),
            (_, Some((SETTINGS, setting))) => Self::Setting(setting.to_owned()),
            _ => Self::Setting(path.to_owned()),
        }
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(port) => write!(f, "{INPUTS}.{port}"),
            Self::Kind => f.write_str(KIND),
            Self::Machine(fact) => write!(f, "{MACHINE}.{fact}"),
            Self::Revision => f.write_str(REVISION),
            Self::Seed => f.write_str(SEED),
            Self::Setting(setting) => write!(f, "{SETTINGS}.{setting}"),
            Self::Sources => f.write_str(SOURCES),
        }
    }
}
