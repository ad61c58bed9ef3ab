//! `run.lock`: a run written down, as TOML, so that it can be done again anywhere and compared.
//!
//! ```toml
//! check = "<64 hex digits>"       # digest of all that follows this line
//! version = 1
//! manifest = '''...'''            # all layers merged, as `pipeline reproduce` reads it again
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
//! Inputs and outputs are trees of the store; a line of `files` is a line of a tree. Times and the machine are there for
//! people and for the price of a reproduction; they are not compared. The check finds damage and edits: a lock is evidence,
//! and who wants another run changes its manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use contract::{Digest, Tree};
use serde::{Deserialize, Serialize};

use crate::events::RunStatus;
use crate::parallel;
use crate::store::Machine;

/// The format that this program reads and writes.
pub const VERSION: u32 = 1;

/// Its name in the folder of a run.
pub const FILE: &str = "run.lock";

const CHECK: &str = "check = \"";

/// A run written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunLock {
    /// [`VERSION`].
    pub version: u32,
    /// The manifest as resolved ([`crate::manifest::Manifest::resolved`]).
    pub manifest: String,
    /// The run.
    pub run: LockedRun,
    /// The stages that had an output when it ended, in the order of the graph.
    #[serde(default)]
    pub stages: Vec<LockedStage>,
}

/// What is said of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedRun {
    /// Its name.
    pub name: String,
    /// Which run of that name.
    pub number: u32,
    /// How it ended.
    pub status: RunStatus,
    /// When it started, in UTC: `2026-11-25T06:36:11Z`.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// Where tensors lived.
    pub device: String,
    /// Threads of all stages together.
    pub threads: usize,
    /// Version of the program.
    pub program: String,
    /// On what it ran.
    pub machine: Machine,
}

/// A stage with what it gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedStage {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// The kind's revision.
    pub revision: u32,
    /// Its key.
    pub key: Digest,
    /// The tree that each input port read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Digest>,
    /// The files outside the store that it read, as `<digest> <bytes> <path>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// How long the build took.
    pub seconds: f64,
    /// Whether this run built it; else it was in the store.
    pub ran: bool,
    /// The device that the build computed on.
    pub device: String,
    /// By how much, relatively, its losses may differ on another device; a kind without it gives the same bytes anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
    /// The last value of each series that the build gave.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// The machine that it was built on.
    pub machine: Machine,
    /// What it gave, by port.
    pub outputs: BTreeMap<String, LockedOutput>,
}

/// What an output port held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedOutput {
    /// The port's type.
    #[serde(rename = "type")]
    pub ty: String,
    /// Its tree.
    pub tree: Digest,
    /// The tree's files, as `<digest> <bytes> <path>`.
    pub files: Vec<String>,
}

/// Why a text is no lock.
#[derive(Debug, thiserror::Error)]
pub enum NotALock {
    /// No TOML, or not of the format.
    #[error("line {line}: {problem}")]
    Format {
        /// Where, from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// Its first line is no check.
    #[error("it does not begin with its check")]
    NoCheck,
    /// Something of it is not as it was written.
    #[error("it was changed after it was written: its check does not hold")]
    Changed,
    /// A stage is there twice.
    #[error("it has stage '{0}' twice")]
    Twice(String),
    /// Of another version.
    #[error("the lock has version {0}, this program reads {VERSION}")]
    Version(u32),
    /// A stage's files are not those of its tree.
    #[error("the files of {stage}.{port} are not those of its tree {tree}")]
    Tree {
        /// The stage.
        stage: String,
        /// The port.
        port: String,
        /// The tree.
        tree: Digest,
    },
}

impl NotALock {
    fn format(body: &str, error: &toml::de::Error) -> Self {
        let start = error.span().map_or(0, |span| span.start.min(body.len()));
        // The check is line 1.
        let line = 2 + body.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
        Self::Format { line, problem: error.message().lines().next().unwrap_or_default().to_owned() }
    }
}

/// What every version begins with.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

impl RunLock {
    /// Encodes the lock as the text of its file.
    ///
    /// # Errors
    /// When a value has no TOML form.
    pub fn encode(&self) -> Result<String, toml::ser::Error> {
        #[derive(Serialize)]
        struct Run<'l> {
            run: &'l LockedRun,
        }
        #[derive(Serialize)]
        struct Stage<'l> {
            stages: [&'l LockedStage; 1],
        }
        let Self { version, manifest, run, stages } = self;
        // Piece by piece, as a lock may hold many stages.
        let run = toml::to_string_pretty(&Run { run })?;
        let stages = parallel::map(stages, |stage| toml::to_string_pretty(&Stage { stages: [stage] }));
        let stages = stages.into_iter().collect::<Result<Vec<_>, _>>()?;
        let unknown = format!("{CHECK}{}\"\n", Digest::from_bytes([0; 32]));
        let length = stages.iter().fold(2 * manifest.len(), |sum, stage| sum + 1 + stage.len());
        // A text of megabytes does not grow bit by bit.
        let mut text = String::with_capacity(length);
        // Writing to a string does not fail.
        let _ = write!(text, "{unknown}version = {version}\nmanifest = ");
        manifest.serialize(toml::ser::ValueSerializer::new(&mut text))?;
        let _ = write!(text, "\n\n{run}");
        for stage in &stages {
            text.push('\n');
            text += stage;
        }
        let check = Digest::of(&text.as_bytes()[unknown.len()..]);
        text.replace_range(CHECK.len()..CHECK.len() + 64, &check.to_string());
        Ok(text)
    }

    /// Reads what [`RunLock::encode`] gave. Lines may end as on another system.
    ///
    /// # Errors
    /// See [`NotALock`].
    pub fn decode(text: &str) -> Result<Self, NotALock> {
        let text = text.replace("\r\n", "\n");
        let (check, body) = text.split_once('\n').ok_or(NotALock::NoCheck)?;
        let check = check.strip_prefix(CHECK).and_then(|check| check.strip_suffix('"')).ok_or(NotALock::NoCheck)?;
        if check.parse() != Ok(Digest::of(body.as_bytes())) {
            return Err(NotALock::Changed);
        }
        let Head { version } = toml::from_str(body).map_err(|error| NotALock::format(body, &error))?;
        if version != VERSION {
            return Err(NotALock::Version(version));
        }
        let lock: Self = toml::from_str(body).map_err(|error| NotALock::format(body, &error))?;
        let mut names = BTreeSet::new();
        for stage in &lock.stages {
            if !names.insert(&stage.name) {
                return Err(NotALock::Twice(stage.name.clone()));
            }
            for (port, output) in &stage.outputs {
                if output.listing().is_none() {
                    return Err(NotALock::Tree { stage: stage.name.clone(), port: port.clone(), tree: output.tree });
                }
            }
        }
        Ok(lock)
    }

    /// The stage of this name.
    pub fn stage(&self, name: &str) -> Option<&LockedStage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// The trees that the lock names, with their files: what it needs of a store.
    pub fn listings(&self) -> impl Iterator<Item = (Digest, Tree)> {
        let outputs = self.stages.iter().flat_map(|stage| stage.outputs.values());
        outputs.filter_map(|output| Some((output.tree, output.listing()?)))
    }
}

impl LockedStage {
    /// The tree of each output port.
    pub fn trees(&self) -> BTreeMap<String, Digest> {
        self.outputs.iter().map(|(port, output)| (port.clone(), output.tree)).collect()
    }
}

impl LockedOutput {
    /// The tree's files; `None` when they are not what the tree's digest says.
    pub fn listing(&self) -> Option<Tree> {
        let text = self.files.iter().fold("pipeline tree 1\n".to_owned(), |text, line| text + line + "\n");
        Tree::decode(&text).ok().filter(|tree| tree.digest() == self.tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(name: usize) -> LockedStage {
        let files = vec![format!("{} 7 rows/\"1\".jsonl", Digest::of(b"content"))];
        let output = LockedOutput { ty: "documents".to_owned(), tree: Digest::of(b"tree"), files };
        LockedStage {
            name: name.to_string(),
            kind: "kind".to_owned(),
            revision: 1,
            key: Digest::of(b"key"),
            inputs: BTreeMap::from([("in".to_owned(), Digest::of(b"tree"))]),
            sources: vec!["a 'name' in quotes".to_owned(), String::new()],
            seconds: 0.5,
            ran: name > 2,
            device: "cpu".to_owned(),
            tolerance: Some(1e-3),
            metrics: BTreeMap::from([("loss/valid".to_owned(), 2.0)]),
            machine: Machine::this(),
            outputs: BTreeMap::from([("out".to_owned(), output)]),
        }
    }

    #[test]
    fn a_lock_is_written_as_one_document_would_be() {
        let manifests = [
            "",
            "plain",
            "[run]\nname = \"a\"\n",
            "a \\ and a \" in a line",
            "lines\nwith '''three''' and \"\"\"three\"\"\" of both",
            "'''\nends with a quote'",
            "ends with a quote\"",
            "\u{1b}[31m and \u{0} and \u{7f} and \r\n",
            "\n\n",
            "\u{e9}\u{1F600}",
        ];
        for (manifest, count) in manifests.into_iter().flat_map(|manifest| [0, 1, 6].map(|count| (manifest, count))) {
            let run = LockedRun {
                name: "run".to_owned(),
                number: 3,
                status: RunStatus::Done,
                started: "2026-11-25T06:36:11Z".to_owned(),
                seconds: 1.5,
                device: "cpu".to_owned(),
                threads: 2,
                program: "0".to_owned(),
                machine: Machine::this(),
            };
            let lock = RunLock {
                version: VERSION,
                manifest: manifest.to_owned(),
                run,
                stages: (0..count).map(stage).collect(),
            };
            let text = lock.encode().unwrap();
            let (_, body) = text.split_once('\n').unwrap();
            // That there are no stages is said by there being none.
            let whole = toml::to_string_pretty(&lock).unwrap().replace("stages = []\n", "");
            assert_eq!(body, whole, "{manifest:?}, {count} stages");
            let head = format!("{CHECK}{}\"\n", Digest::of(body.as_bytes()));
            assert!(text.starts_with(&head));
        }
    }
}
