//! The trait of a stage kind.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::context::{Context, InputTree, Inputs};
use crate::error::{Problem, Result};
use crate::infer::{Advice, Inferred, InputFacts};
use crate::machine::MachineCheck;
use crate::port::Ports;
use crate::resume::Checkpoint;

/// The resources that a stage uses while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Needs {
    /// The maximum number of threads that it can use; it receives between 1 and this number.
    pub threads: usize,
    /// The memory that it can use, in bytes: with less it spills or is slower. Required memory is
    /// [`crate::Cost::memory`].
    pub memory: u64,
    /// Whether it computes on the device (the `gpu` pool has depth one).
    pub gpu: bool,
}

impl Default for Needs {
    /// Returns the needs of most stages: all threads, 512 MiB, no device.
    fn default() -> Self {
        Self { threads: usize::MAX, memory: 512 << 20, gpu: false }
    }
}

/// A setting with a glob pattern for files outside the store. A relative pattern is resolved against the directory of the manifest that
/// contains it, or against the working directory if it is set on the command line. It is a location and not content, so it belongs in
/// [`Stage::Exec`].
///
/// The engine makes a relative pattern absolute and keeps the original text: `FOLDER/./PATTERN`. As in rsync, `/./` separates
/// the base directory, which may move, from the name in the manifest ([`SourcePattern::folder`]).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourcePattern(pub String);

impl SourcePattern {
    /// The value of `format` in the JSON schema that marks such a setting.
    pub const FORMAT: &'static str = "path-pattern";

    /// Returns the absolute pattern of a pattern relative to `folder`, which is already escaped.
    pub fn in_folder(folder: &str, pattern: &str) -> Self {
        Self(format!("{}{ANCHOR}{}", folder.trim_end_matches('/'), pattern.trim_start_matches("./")))
    }

    /// Returns the base directory of a relative pattern; `None` for an absolute pattern.
    pub fn folder(&self) -> Option<PathBuf> {
        let (folder, _) = self.0.split_once(ANCHOR)?;
        // Escaped letters are written `[x]`.
        let mut unescaped = String::with_capacity(folder.len());
        let mut letters = folder.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '[' => {
                    unescaped.extend(letters.next());
                    letters.next();
                }
                letter => unescaped.push(letter),
            }
        }
        Some(if unescaped.is_empty() { "/".into() } else { unescaped.into() })
    }
}

/// Separates the directory of a relative pattern from the pattern.
const ANCHOR: &str = "/./";

/// The absolute pattern.
impl fmt::Display for SourcePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.replacen(ANCHOR, "/", 1))
    }
}

impl JsonSchema for SourcePattern {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SourcePattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": Self::FORMAT })
    }
}

/// A stage kind: its name, its settings, its ports and its code.
///
/// The docs of `Spec` are the kind's docs; the docs of each field are those of the setting; `pipeline stages` prints both. Fields with
/// `#[serde(default)]` are optional, and a setting at its default is left out of the key.
pub trait Stage: Send + Sync + 'static {
    /// Settings that change the output: hashed into the key.
    type Spec: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static;
    /// Settings that do not change the output (paths, log intervals): not hashed.
    type Exec: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static;

    /// The value of `kind` in a manifest.
    const KIND: &'static str;
    /// The revision of the kind. Increase it whenever the output changes for equal input and settings, or a default changes.
    const REVISION: u32;
    /// Whether it makes random choices, so that the run's seed is part of its key.
    const SEEDED: bool = false;

    /// Whether the names of the files outside the store matter, as for scripts: the key then combines each digest with its file's name.
    /// Shards of an export, for example, may be renamed and reordered freely.
    const NAMED_SOURCES: bool = false;

    /// Whether it reads a plain copy of each table among its inputs ([`Context::derived`]), which takes about as much disk as the
    /// table.
    const COPIES_TABLES: bool = false;

    /// The allowed relative difference of its metrics on another device, if its bytes may differ. A kind without tolerance produces the
    /// same bytes on any machine.
    const TOLERANCE: Option<f64> = None;

    /// Returns the ports of the kind that do not depend on settings.
    fn ports() -> Ports;

    /// Returns the ports of one stage, including those that its settings declare.
    fn ports_of(_spec: &Self::Spec) -> Ports {
        Self::ports()
    }

    /// Returns the problems of the settings beyond their types and bounds, each with the path of the setting. Bounds are
    /// attributes of the fields (`#[schemars(range(min = 1, max = 64))]`): they are part of the JSON schema, and the
    /// engine checks them before it calls this function.
    fn check(_spec: &Self::Spec, _exec: &Self::Exec) -> Vec<Problem> {
        Vec::new()
    }

    /// Returns the files outside the store that the stage reads. Their digests, not their names, enter the key.
    fn sources(_spec: &Self::Spec, _exec: &Self::Exec) -> Vec<SourcePattern> {
        Vec::new()
    }

    /// Infers facts of the outputs, conflicts with the inputs, and the cost, from settings alone.
    fn infer(_spec: &Self::Spec, _exec: &Self::Exec, _inputs: &InputFacts) -> Inferred {
        Inferred::default()
    }

    /// Adds facts that no setting determines, from the headers of the inputs; [`Stage::infer`] is then called again. `input` returns the
    /// tree that a port reads, if it exists. Reads headers, not data; unreadable inputs are skipped.
    fn observe(_facts: &mut InputFacts, _input: &dyn Fn(&str) -> Option<InputTree>) {}

    /// Returns the state in the scratch directory of an interrupted build from which [`Stage::run`] would continue. Reads no more
    /// than a few small files, and writes nothing.
    fn checkpoint(_spec: &Self::Spec, _exec: &Self::Exec, _scratch: &Path) -> Option<Checkpoint> {
        None
    }

    /// Returns advice on its settings for these inputs, shown by `check`, by `plan` and when the stage starts. Reads headers, not data;
    /// missing and unreadable inputs are skipped.
    fn lint(_spec: &Self::Spec, _exec: &Self::Exec, _inputs: &Inputs) -> Vec<Advice> {
        Vec::new()
    }

    /// Describes briefly how its outputs (by port) differ from earlier ones: `12 of 8,192 merges changed`. The text
    /// is for people: unreadable data is skipped, and if it returns `None`, the engine describes the difference.
    fn compare(_before: &Inputs, _after: &Inputs) -> Option<String> {
        None
    }

    /// Tests what this machine provides for the stage and what it lacks; this may start processes. `pipeline check` shows the result;
    /// a missing requirement is an error there, because [`Stage::run`] would fail.
    fn check_machine(_spec: &Self::Spec, _exec: &Self::Exec) -> Vec<MachineCheck> {
        Vec::new()
    }

    /// Returns facts of this machine that determine the output, by name, such as the version of an interpreter: part of the key. A fact is
    /// absent if the machine lacks what it is about. Every plan and run asks, so it is fast, and a fact
    /// that was found is the same for the life of the process. [`crate::Context`] has the facts of the key, for a stage to compare.
    fn machine_facts(_spec: &Self::Spec, _exec: &Self::Exec) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Returns the resources that it uses.
    fn needs(_spec: &Self::Spec, _exec: &Self::Exec) -> Needs {
        Needs::default()
    }

    /// Reads `context.inputs` and writes every output port.
    ///
    /// # Errors
    /// Returns [`crate::StageError::Interrupted`] if `context.cancel` was set, otherwise a failure with its location and a hint.
    fn run(spec: &Self::Spec, exec: &Self::Exec, context: &Context) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_pattern_keeps_the_folder_at_which_it_starts() {
        for (folder, escaped) in [("/p/proj", "/p/proj"), ("/p/a[1]*?", "/p/a[[]1[]][*][?]"), ("/", "/")] {
            let pattern = SourcePattern::in_folder(escaped, "./scripts/[a-c].py");
            assert_eq!(pattern.folder(), Some(folder.into()));
            assert_eq!(pattern.to_string(), format!("{}/scripts/[a-c].py", escaped.trim_end_matches('/')));
        }
        let absolute = SourcePattern("/data/*.gz".to_owned());
        assert_eq!((absolute.folder(), absolute.to_string()), (None, "/data/*.gz".to_owned()));
    }
}
