//! What happens in a run.

use std::collections::BTreeMap;

use contract::progress::Sample;
use contract::{Digest, Note};
use serde::{Deserialize, Serialize};

/// An event with its time: what `--json` prints and `events.jsonl` keeps, one object a line:
/// `{"at":1.25,"event":"stage-started","stage":"train",...}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// Seconds since the run started.
    pub at: f64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Something that happened. Every field is there in every event of its kind; one without a value is `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The first event.
    RunStarted {
        /// The run's name.
        run: String,
        /// The stages that will be looked at, in order.
        stages: Vec<String>,
    },
    /// A stage began to run.
    StageStarted {
        /// The stage.
        stage: String,
        /// Its kind.
        kind: String,
        /// Its key.
        key: Digest,
        /// Threads that it was given.
        threads: usize,
        /// Why it runs, a line each.
        reasons: Vec<String>,
    },
    /// Another process builds the same key.
    StageWaiting {
        /// The stage.
        stage: String,
        /// Who: `pid 4121, stage train, for 12:41`.
        holder: String,
    },
    /// How far a running stage is.
    StageProgress {
        /// The stage.
        stage: String,
        /// Its counters.
        sample: Sample,
        /// Units a second, where it is known.
        rate: Option<f64>,
    },
    /// A running stage said something.
    StageNote {
        /// The stage.
        stage: String,
        /// What.
        #[serde(flatten)]
        note: Note,
    },
    /// A stage ran to its end.
    StageFinished {
        /// The stage.
        stage: String,
        /// What it gave, by port.
        outputs: BTreeMap<String, OutputSummary>,
        /// How long it ran, in seconds.
        seconds: f64,
        /// The ports that hold the same bytes as in the build `compared_with`: nothing is stale for their sake.
        unchanged: Vec<String>,
        /// Whether its bytes are not those of the build of its key that is used, or of any earlier one: it is not deterministic.
        #[serde(default)]
        differs: bool,
        /// The earlier build that it is compared with, which the reasons for which it ran compare with too: `quickstart.3`.
        #[serde(default)]
        compared_with: Option<String>,
        /// What differs from its output, in the words of the kind: `12 of 8,192 merges changed`.
        compared: Option<String>,
        /// What differs from its key, where every port holds the same bytes, a line each.
        without_effect: Vec<String>,
    },
    /// A stage's output is in the store.
    StageCached {
        /// The stage.
        stage: String,
        /// Its key.
        key: Digest,
        /// What it gave, by port.
        outputs: BTreeMap<String, OutputSummary>,
    },
    /// A stage failed.
    StageFailed {
        /// The stage.
        stage: String,
        /// What is wrong.
        message: String,
        /// Where: `data/x.json.gz:17`, `train.toml:41`.
        place: Option<String>,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A stage cannot run.
    StageSkipped {
        /// The stage.
        stage: String,
        /// Why: `import failed`.
        because: String,
    },
    /// The last event.
    RunFinished {
        /// How it ended.
        status: RunStatus,
        /// Stages that ran to their end.
        ran: usize,
        /// Stages whose output was in the store.
        cached: usize,
        /// Stages that failed.
        failed: usize,
        /// Stages that could not run.
        skipped: usize,
        /// How long it took, in seconds.
        seconds: f64,
    },
}

impl Event {
    /// The stage that it is about, if it is about one.
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

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunStatus {
    /// Everything asked for is done.
    Done,
    /// A stage failed.
    Failed,
    /// It was asked to stop.
    Interrupted,
}

/// What an output port holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputSummary {
    /// The digest of its tree.
    pub digest: Digest,
    /// Files.
    pub files: usize,
    /// Bytes.
    pub bytes: u64,
}

impl OutputSummary {
    /// Of a tree.
    pub fn of(tree: &contract::Tree) -> Self {
        Self { digest: tree.digest(), files: tree.entries().len(), bytes: tree.size() }
    }

    /// Of each port's tree.
    pub fn by_port(trees: &BTreeMap<String, contract::Tree>) -> BTreeMap<String, Self> {
        trees.iter().map(|(port, tree)| (port.clone(), Self::of(tree))).collect()
    }

    /// Of a tree as a stage reads it.
    pub fn of_input(tree: &contract::InputTree) -> Self {
        Self { digest: tree.digest, files: tree.files.len(), bytes: tree.files.iter().map(|file| file.size).sum() }
    }
}
