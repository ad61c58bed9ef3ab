//! The events of a run.

use std::collections::BTreeMap;

use contract::progress::Sample;
use contract::{Digest, Note};
use serde::{Deserialize, Serialize};

/// An event with its time, in the format of `--json` and `events.jsonl`, one object per line:
/// `{"at":1.25,"event":"stage-started","stage":"train",...}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// The seconds since the run started.
    pub at: f64,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// An event of a run. Every field is always present; a field without a value is `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The first event.
    RunStarted {
        /// The run's name.
        run: String,
        /// The stages of the run, in order.
        stages: Vec<String>,
    },
    /// A stage started to run.
    StageStarted {
        /// The stage.
        stage: String,
        /// The kind.
        kind: String,
        /// The key.
        key: Digest,
        /// The share of the threads.
        threads: usize,
        /// The reasons that it runs, one line each.
        reasons: Vec<String>,
    },
    /// Another process builds the same key.
    StageWaiting {
        /// The stage.
        stage: String,
        /// The process: `pid 4121, stage train, for 12:41`.
        holder: String,
    },
    /// The progress of a running stage.
    StageProgress {
        /// The stage.
        stage: String,
        /// The counters.
        sample: Sample,
        /// The rate in units per second, if known.
        rate: Option<f64>,
    },
    /// A note of a running stage.
    StageNote {
        /// The stage.
        stage: String,
        /// The note.
        #[serde(flatten)]
        note: Note,
    },
    /// A stage ran and succeeded.
    StageFinished {
        /// The stage.
        stage: String,
        /// The output, by port.
        outputs: BTreeMap<String, OutputSummary>,
        /// The duration, in seconds.
        seconds: f64,
        /// The ports with the same bytes as in the build `compared_with`: they do not make stages stale.
        unchanged: Vec<String>,
        /// Whether its bytes differ from the build that is used for its key, or from every earlier build: the stage is not deterministic.
        #[serde(default)]
        differs: bool,
        /// The earlier build, such as `quickstart.3`, that its output and the reasons for running are compared with.
        #[serde(default)]
        compared_with: Option<String>,
        /// The difference from the output of that build, as described by the kind: `12 of 8,192 merges changed`.
        compared: Option<String>,
        /// The differences from the key of that build, one line each, if every port nevertheless has the same bytes.
        without_effect: Vec<String>,
    },
    /// A stage's output is in the store.
    StageCached {
        /// The stage.
        stage: String,
        /// The key.
        key: Digest,
        /// The output, by port.
        outputs: BTreeMap<String, OutputSummary>,
    },
    /// A stage failed.
    StageFailed {
        /// The stage.
        stage: String,
        /// The error.
        message: String,
        /// The file and line: `data/x.json.gz:17`, `train.toml:41`.
        place: Option<String>,
        /// The hint.
        hint: Option<String>,
    },
    /// A stage was not run.
    StageSkipped {
        /// The stage.
        stage: String,
        /// The reason, such as `import failed`.
        because: String,
    },
    /// The last event.
    RunFinished {
        /// The status at the end.
        status: RunStatus,
        /// The number of stages that ran and succeeded.
        ran: usize,
        /// The number of stages whose output was in the store.
        cached: usize,
        /// The number of failed stages.
        failed: usize,
        /// The number of stages that could not run.
        skipped: usize,
        /// The duration, in seconds.
        seconds: f64,
    },
}

impl Event {
    /// Returns the stage of the event, if it concerns one.
    pub fn stage(&self) -> Option<&str> {
        match self {
            Self::StageStarted { stage, .. }
            | Self::StageWaiting { stage, .. }
            | Self::StageProgress { stage, .. }
            | Self::StageNote { stage, .. }
            | Self::StageFinished { stage, .. }
            | Self::StageCached { stage, .. }
            | Self::StageFailed { stage, .. }
            | Self::StageSkipped { stage, .. } => Some(stage),
            Self::RunStarted { .. } | Self::RunFinished { .. } => None,
        }
    }
}

/// The status of a run at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunStatus {
    /// The run succeeded.
    Done,
    /// A stage failed.
    Failed,
    /// The run was interrupted.
    Interrupted,
}

/// The content of an output port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputSummary {
    /// The digest of its tree.
    pub digest: Digest,
    /// The number of files.
    pub files: usize,
    /// The total size of the files, in bytes.
    pub bytes: u64,
}

impl OutputSummary {
    /// Summarises a tree.
    pub fn of(tree: &contract::Tree) -> Self {
        Self { digest: tree.digest(), files: tree.entries().len(), bytes: tree.size() }
    }

    /// Summarises the tree of each port.
    pub fn by_port(trees: &BTreeMap<String, contract::Tree>) -> BTreeMap<String, Self> {
        trees.iter().map(|(port, tree)| (port.clone(), Self::of(tree))).collect()
    }
}
