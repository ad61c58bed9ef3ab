//! `run.lock`: a record of a run, in TOML, from which it can be reproduced and compared anywhere.
//!
//! ```toml
//! check = "<64 hex digits>"       # digest of everything after this line
//! version = 1
//! manifest = '''...'''            # all layers merged, as `pipeline reproduce` reads it
//!
//! [run]
//! name = "quickstart"
//! number = 3
//! status = "done"
//! ...
//!
//! [[stages]]                       # in the order of the graph
//! name = "train"
//! kind = "train"
//! revision = 1
//! key = "<64 hex digits>"
//! inputs = { train = "<tree>" }
//! sources = ["<digest> <bytes> <path>"]
//! seconds = 12.5
//!
//! [stages.outputs.model]
//! type = "model"
//! tree = "<64 hex digits>"
//! files = ["<digest> <bytes> <path>"]
//! ```
//!
//! Inputs and outputs are trees of the store; a line of `files` is a line of a tree. Times and the machine are informative:
//! they are not compared. The check detects damage and edits: to change a run, edit its manifest instead.

use std::collections::{BTreeMap, BTreeSet};

use contract::{Digest, Tree};
use serde::{Deserialize, Serialize};

use crate::events::RunStatus;
use crate::store::Machine;

/// The format version that this program reads and writes.
pub const VERSION: u32 = 1;

/// The name of the file in the directory of a run.
pub const FILE: &str = "run.lock";

const CHECK: &str = "check = \"";
/// The line that begins a stage.
const STAGE: &str = "[[stages]]";

/// A recorded run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunLock {
    /// The format version, [`VERSION`].
    pub version: u32,
    /// The manifest as resolved ([`crate::manifest::Manifest::resolved`]).
    pub manifest: String,
    /// The run.
    pub run: LockedRun,
    /// The stages that had an output when the run ended, in the order of the graph.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<LockedStage>,
}

/// The properties of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedRun {
    /// The name.
    pub name: String,
    /// The number of the run, counted per name.
    pub number: u32,
    /// The status at the end.
    pub status: RunStatus,
    /// The start time, in UTC: `2026-11-25T06:36:11Z`.
    pub started: String,
    /// The duration, in seconds.
    pub seconds: f64,
    /// The compute device.
    pub device: String,
    /// The total number of threads of all stages.
    pub threads: usize,
    /// The version of the program.
    pub program: String,
    /// The machine that it ran on.
    pub machine: Machine,
}

/// A stage with its outputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedStage {
    /// The name.
    pub name: String,
    /// The kind.
    pub kind: String,
    /// The kind's revision.
    pub revision: u32,
    /// The key.
    pub key: Digest,
    /// The tree that each input port read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Digest>,
    /// The external files that it read, as `<digest> <bytes> <path>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// The facts of the machine that are in the key, such as the version of an interpreter.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub machine_facts: BTreeMap<String, String>,
    /// The duration of the build, in seconds.
    pub seconds: f64,
    /// Whether this run built it; false if the stage was cached.
    pub ran: bool,
    /// The device that the build computed on.
    pub device: String,
    /// The relative tolerance of its losses on another device; `None` if the output must be the same on any machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
    /// The last value of each metric.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// The machine that it was built on.
    pub machine: Machine,
    /// The outputs by port.
    pub outputs: BTreeMap<String, LockedOutput>,
}

/// The output of a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedOutput {
    /// The port's type.
    #[serde(rename = "type")]
    pub ty: String,
    /// The digest of its tree.
    pub tree: Digest,
    /// The tree's files, as `<digest> <bytes> <path>`.
    pub files: Vec<String>,
}

/// The reason that a string is not a valid lock.
#[derive(Debug, thiserror::Error)]
pub enum InvalidLock {
    /// The string is not TOML, or does not match the format.
    #[error("line {line}: {problem}")]
    Format {
        /// The line, from 1.
        line: usize,
        /// The problem.
        problem: String,
    },
    /// The first line is not a check.
    #[error("the first line is not a check")]
    NoCheck,
    /// The content does not match the check.
    #[error("its check does not match: it was modified after it was written")]
    Modified,
    /// A stage is listed twice.
    #[error("stage '{0}' is listed twice")]
    DuplicateStage(String),
    /// A name contains a control character.
    #[error("invalid name {0:?}")]
    Name(String),
    /// The lock has another format version.
    #[error("expected version {VERSION}, found {0}")]
    Version(u32),
    /// The files of an output do not match its tree.
    #[error("the files of {stage}.{port} do not match its tree {tree}")]
    Tree {
        /// The stage.
        stage: String,
        /// The port.
        port: String,
        /// The tree.
        tree: Digest,
    },
}

impl InvalidLock {
    fn format(body: &str, error: &toml::de::Error) -> Self {
        let start = error.span().map_or(0, |span| span.start.min(body.len()));
        // The check is line 1.
        let line = 2 + body.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
        Self::Format { line, problem: error.message().lines().next().unwrap_or_default().to_owned() }
    }
}

/// A run and the number of its stages, as `pipeline runs` lists them.
#[derive(Debug, Clone, PartialEq)]
pub struct LockSummary {
    /// The run.
    pub run: LockedRun,
    /// The number of stages that the run built.
    pub ran: usize,
    /// The number of stages that had an output when the run ended.
    pub stages: usize,
}

impl RunLock {
    /// Returns the text of the file.
    ///
    /// # Errors
    /// Returns an error if a value has no TOML form.
    pub fn encode(&self) -> Result<String, toml::ser::Error> {
        let body = toml::to_string_pretty(self)?;
        Ok(format!("{CHECK}{}\"\n{body}", Digest::of(body.as_bytes())))
    }

    /// Parses the text of [`RunLock::encode`]; CRLF line endings are accepted.
    ///
    /// # Errors
    /// See [`InvalidLock`].
    pub fn decode(text: &str) -> Result<Self, InvalidLock> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let text = text.replace("\r\n", "\n");
        let body = checked_body(&text)?;
        let Head { version } = toml::from_str(body).map_err(|error| InvalidLock::format(body, &error))?;
        if version != VERSION {
            return Err(InvalidLock::Version(version));
        }
        let lock: Self = toml::from_str(body).map_err(|error| InvalidLock::format(body, &error))?;
        let mut names = BTreeSet::new();
        for stage in &lock.stages {
            let ports = stage.inputs.keys().chain(stage.outputs.keys());
            let mut named =
                [&lock.run.name, &stage.name, &stage.kind].into_iter().chain(ports).chain(stage.metrics.keys());
            if let Some(name) = named.find(|name| name.contains(char::is_control)) {
                return Err(InvalidLock::Name(name.clone()));
            }
            if !names.insert(&stage.name) {
                return Err(InvalidLock::DuplicateStage(stage.name.clone()));
            }
            for (port, output) in &stage.outputs {
                if output.listing().is_none() {
                    return Err(InvalidLock::Tree { stage: stage.name.clone(), port: port.clone(), tree: output.tree });
                }
            }
        }
        Ok(lock)
    }

    /// Reads the head of a lock and counts its stages. The check is verified; the stages are not decoded.
    ///
    /// # Errors
    /// See [`InvalidLock`].
    pub fn summarize(text: &str) -> Result<LockSummary, InvalidLock> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
            run: LockedRun,
        }
        let text = text.replace("\r\n", "\n");
        let body = checked_body(&text)?;
        let end = body.find(&format!("\n{STAGE}\n")).map_or(body.len(), |start| start + 1);
        let (head, stages) = body.split_at(end);
        let Ok(Head { version, run }) = toml::from_str(head) else {
            // The lock has another version, or its manifest contains such a line.
            let Self { run, stages, .. } = Self::decode(&text)?;
            return Ok(LockSummary { run, ran: stages.iter().filter(|stage| stage.ran).count(), stages: stages.len() });
        };
        let count = |wanted| stages.lines().filter(|line| *line == wanted).count();
        match version {
            VERSION => Ok(LockSummary { run, ran: count("ran = true"), stages: count(STAGE) }),
            other => Err(InvalidLock::Version(other)),
        }
    }

    /// Returns the stage of this name.
    pub fn stage(&self, name: &str) -> Option<&LockedStage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// Returns the trees that the lock names, with their files.
    pub fn listings(&self) -> impl Iterator<Item = (Digest, Tree)> {
        let outputs = self.stages.iter().flat_map(|stage| stage.outputs.values());
        outputs.filter_map(|output| Some((output.tree, output.listing()?)))
    }
}

/// Returns the text after the check, which must match it.
fn checked_body(text: &str) -> Result<&str, InvalidLock> {
    let (check, body) = text.split_once('\n').ok_or(InvalidLock::NoCheck)?;
    let check = check.strip_prefix(CHECK).and_then(|check| check.strip_suffix('"')).ok_or(InvalidLock::NoCheck)?;
    if check.parse() == Ok(Digest::of(body.as_bytes())) { Ok(body) } else { Err(InvalidLock::Modified) }
}

impl LockedStage {
    /// Returns the tree of each output port.
    pub fn trees(&self) -> BTreeMap<String, Digest> {
        self.outputs.iter().map(|(port, output)| (port.clone(), output.tree)).collect()
    }
}

impl LockedOutput {
    /// Returns the files of the tree; `None` if they do not match its digest.
    pub fn listing(&self) -> Option<Tree> {
        let text = self.files.iter().fold("pipeline tree 1\n".to_owned(), |text, line| text + line + "\n");
        Tree::decode(&text).ok().filter(|tree| tree.digest() == self.tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(manifest: &str, stages: usize) -> RunLock {
        let tree = Tree::decode("pipeline tree 1\n").unwrap();
        let stage = |number: usize| LockedStage {
            name: number.to_string(),
            kind: "kind".to_owned(),
            revision: 1,
            key: Digest::of(b"key"),
            inputs: BTreeMap::from([("in".to_owned(), Digest::of(b"tree"))]),
            sources: vec!["a 'name' in quotes".to_owned(), String::new()],
            machine_facts: BTreeMap::from([("python".to_owned(), "3.12.1".to_owned())]),
            seconds: 0.5,
            ran: number > 2,
            device: "cpu".to_owned(),
            tolerance: Some(1e-3),
            metrics: BTreeMap::from([("loss/valid".to_owned(), 2.0)]),
            machine: Machine::this().clone(),
            outputs: BTreeMap::from([(
                "out".to_owned(),
                LockedOutput { ty: "documents".to_owned(), tree: tree.digest(), files: Vec::new() },
            )]),
        };
        let run = LockedRun {
            name: "run".to_owned(),
            number: 3,
            status: RunStatus::Done,
            started: "2026-11-25T06:36:11Z".to_owned(),
            seconds: 1.5,
            device: "cpu".to_owned(),
            threads: 2,
            program: "0".to_owned(),
            machine: Machine::this().clone(),
        };
        RunLock { version: VERSION, manifest: manifest.to_owned(), run, stages: (0..stages).map(stage).collect() }
    }

    #[test]
    fn a_lock_and_its_summary_are_read_as_they_were_written() {
        let manifests = [
            "",
            "[run]\nname = \"a\"\n",
            "lines\nwith '''three''' and \"\"\"three\"\"\" of both",
            "\u{1b}[31m and \u{0} and \u{7f}",
            "\n[[stages]]\nran = true\n",
        ];
        for (manifest, stages) in manifests.into_iter().flat_map(|manifest| [0, 1, 6].map(|count| (manifest, count))) {
            let lock = lock(manifest, stages);
            let text = lock.encode().unwrap();
            assert_eq!(RunLock::decode(&text).unwrap(), lock, "{manifest:?}, {stages} stages");
            let summary = RunLock::summarize(&text).unwrap();
            assert_eq!((summary.run, summary.ran, summary.stages), (lock.run, stages.saturating_sub(3), stages));
            assert!(matches!(RunLock::summarize(&text.replace("cpu", "gpu")), Err(InvalidLock::Modified)));
        }
    }

    #[test]
    fn the_published_lock_is_written_as_it_was() {
        const PUBLISHED: &str = include_str!("../../manifests/quickstart.lock");
        assert_eq!(RunLock::decode(PUBLISHED).unwrap().encode().unwrap(), PUBLISHED);
        assert_eq!(RunLock::summarize(PUBLISHED).unwrap().stages, RunLock::decode(PUBLISHED).unwrap().stages.len());
    }

    #[test]
    fn a_name_with_a_control_character_is_invalid() {
        let mut lock = lock("", 1);
        lock.stages[0].metrics.insert("loss\u{1b}[2J".to_owned(), 1.0);
        assert!(matches!(RunLock::decode(&lock.encode().unwrap()), Err(InvalidLock::Name(_))));
    }
}
