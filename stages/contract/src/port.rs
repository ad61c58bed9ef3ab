//! The ports of stages. An edge of the graph connects an output to an input of the same type.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The type of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PortType {
    /// A table of documents: `text/` and `rows/` Parquet parts.
    Documents,
    /// A table of rows without text: removed or rejected rows, with reasons.
    Rows,
    /// A directory with `tokenizer.json`.
    Tokenizer,
    /// Packed token sequences.
    Tokens,
    /// A model directory in Hugging Face format: `config.json` and `model.safetensors`.
    Model,
    /// A directory with `problems.jsonl`: programming problems with unit tests.
    Problems,
    /// JSON and text for people: counts, metrics, completions.
    Report,
    /// Any files that a `command` stage reads or writes.
    Files,
}

impl fmt::Display for PortType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Documents => "documents",
            Self::Rows => "rows",
            Self::Tokenizer => "tokenizer",
            Self::Tokens => "tokens",
            Self::Model => "model",
            Self::Problems => "problems",
            Self::Report => "report",
            Self::Files => "files",
        })
    }
}

impl PortType {
    /// Returns whether an output of type `self` can be connected to an input of type `input`: the types are equal, or one side accepts any
    /// files.
    pub fn feeds(self, input: Self) -> bool {
        self == input || input == Self::Files
    }
}

/// Returns whether a string is a valid name for a port that a manifest declares: 1 to 128 lowercase letters, digits, `-` and `_`. It
/// becomes a directory name, and a word in scripts.
pub fn is_port_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

/// An input port of a stage kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InputPort {
    /// The name in `inputs = { NAME = "stage.output" }`.
    pub name: Cow<'static, str>,
    /// The type that it accepts.
    #[serde(rename = "type")]
    pub ty: PortType,
    /// Whether the stage can run without it.
    pub required: bool,
    /// The purpose, in one line.
    pub about: Cow<'static, str>,
}

/// An output port of a stage kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutputPort {
    /// The name in `"stage.NAME"`.
    pub name: Cow<'static, str>,
    /// The type of the output.
    #[serde(rename = "type")]
    pub ty: PortType,
    /// The content, in one line.
    pub about: Cow<'static, str>,
    /// The path of the setting that declares it; `None` if every stage of the kind has it.
    #[serde(skip)]
    pub setting: Option<String>,
}

/// All ports of a stage.
///
/// An edge without port names follows two rules: `input = "stage"` connects the stage's first input port, and `"stage"` without `.output`
/// is the first output port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Ports {
    /// The input ports, in the order in which they are documented. `input` fills the first.
    pub inputs: Vec<InputPort>,
    /// The output ports. A stage name without a port means the first.
    pub outputs: Vec<OutputPort>,
    /// Whether the manifest may name further input ports, each of type [`PortType::Files`].
    pub open: bool,
}

impl Ports {
    /// Creates an empty list of ports.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a required input.
    #[must_use]
    pub fn input(mut self, name: &'static str, ty: PortType, about: &'static str) -> Self {
        self.inputs.push(InputPort { name: name.into(), ty, required: true, about: about.into() });
        self
    }

    /// Adds an input that may be left out.
    #[must_use]
    pub fn optional_input(mut self, name: &'static str, ty: PortType, about: &'static str) -> Self {
        self.inputs.push(InputPort { name: name.into(), ty, required: false, about: about.into() });
        self
    }

    /// Adds an output.
    #[must_use]
    pub fn output(mut self, name: impl Into<Cow<'static, str>>, ty: PortType, about: &'static str) -> Self {
        self.outputs.push(OutputPort { name: name.into(), ty, about: about.into(), setting: None });
        self
    }

    /// Records the setting that declares the output added last.
    #[must_use]
    pub fn declared_by(mut self, setting: impl Into<String>) -> Self {
        if let Some(output) = self.outputs.last_mut() {
            output.setting = Some(setting.into());
        }
        self
    }
}
