//! What a reproduction proves of one stage.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::report::LockedStage;
use crate::report::difference::differing_metrics;
use crate::run::StageOutcome;

/// The comparison of one stage with its lock.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// The same bytes.
    Identical {
        /// What differs although they are the same.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        causes: Vec<Cause>,
    },
    /// Other bytes, on another device or processor, or below such a stage; every loss within the lock's tolerance.
    Equal {
        /// The tolerance, relative.
        tolerance: f64,
        /// The largest relative difference of a metric.
        largest: f64,
    },
    /// Other bytes, below a stage that is [`Verdict::Equal`], of a kind without a tolerance: nothing can be said.
    NotComparable,
    /// Other bytes.
    Different {
        /// Why that may be.
        causes: Vec<Cause>,
        /// The metrics that differ: locked and found.
        metrics: BTreeMap<String, [Option<f64>; 2]>,
    },
    /// It was not run to its end.
    NotAttempted {
        /// Why.
        because: String,
    },
}

/// What a difference may come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Cause {
    /// This program has another revision of the kind.
    Revision {
        /// In the lock.
        locked: u32,
        /// Here.
        here: u32,
    },
    /// An input port read other content.
    Input {
        /// The port.
        port: String,
    },
    /// The files outside the store hold other content.
    Sources,
    /// The settings differ: the command line changed them, or a default changed.
    Settings,
    /// All that determines the output is equal, and the bytes differ.
    NotDeterministic,
}

impl Verdict {
    /// Whether nothing speaks against the stage being reproduced.
    pub const fn holds(&self) -> bool {
        matches!(self, Self::Identical { .. } | Self::Equal { .. } | Self::NotComparable)
    }

    /// Compares what a stage gave with its lock. `tolerated` says that a stage above it is [`Verdict::Equal`], so that its
    /// inputs cannot hold the same bytes.
    pub fn of(locked: &LockedStage, found: &StageOutcome, tolerated: bool) -> Self {
        if locked.trees() == found.record.outputs {
            return Self::Identical { causes: differences(locked, found) };
        }
        let here = &found.record;
        let elsewhere = locked.device != here.device.to_string() || locked.machine.cpu != here.machine.cpu;
        let losses = losses(&locked.metrics, &here.metrics);
        let largest = losses.iter().map(|(one, other)| distance(*one, *other)).fold(0.0, f64::max);
        match locked.tolerance.filter(|_| elsewhere || tolerated) {
            Some(tolerance) if !losses.is_empty() && largest <= tolerance => Self::Equal { tolerance, largest },
            None if tolerated => Self::NotComparable,
            _ => Self::Different {
                causes: causes(locked, found),
                metrics: differing_metrics(&locked.metrics, &here.metrics),
            },
        }
    }
}

fn causes(locked: &LockedStage, found: &StageOutcome) -> Vec<Cause> {
    match differences(locked, found) {
        causes if causes.is_empty() => vec![Cause::NotDeterministic],
        causes => causes,
    }
}

/// What determines the output and differs.
fn differences(locked: &LockedStage, found: &StageOutcome) -> Vec<Cause> {
    let mut causes = Vec::new();
    if locked.revision != found.record.revision {
        causes.push(Cause::Revision { locked: locked.revision, here: found.record.revision });
    }
    let ports = locked.inputs.iter().filter(|(port, tree)| found.keyed.inputs.get(*port) != Some(tree));
    causes.extend(ports.map(|(port, _)| Cause::Input { port: port.clone() }));
    let digest = |line: &String| line.split(' ').next().unwrap_or_default().to_owned();
    let mut sources: Vec<_> = locked.sources.iter().map(digest).collect();
    let mut here: Vec<_> = found.keyed.sources.digests().iter().map(ToString::to_string).collect();
    sources.sort();
    here.sort();
    if sources != here {
        causes.push(Cause::Sources);
    }
    if causes.is_empty() && locked.key != found.record.key {
        causes.push(Cause::Settings);
    }
    causes
}

/// The losses that both sides have. Other series, such as the norm of the last gradient, are noise at this scale; a build
/// that was resumed has only the series of its last part.
fn losses(locked: &BTreeMap<String, f64>, found: &BTreeMap<String, f64>) -> Vec<(f64, f64)> {
    let locked = locked.iter().filter(|(name, _)| name.starts_with("loss"));
    locked.filter_map(|(name, value)| Some((*value, *found.get(name)?))).collect()
}

/// The relative difference.
fn distance(one: f64, other: f64) -> f64 {
    (one - other).abs() / one.abs().max(other.abs()).max(f64::MIN_POSITIVE)
}

impl Cause {
    /// For people.
    pub fn text(&self) -> String {
        match self {
            Self::Revision { locked, here } => format!("the kind has revision {here} here, {locked} in the lock"),
            Self::Input { port } => format!("its input '{port}' holds other bytes"),
            Self::Sources => "the source files hold other bytes".to_owned(),
            Self::Settings => "its settings differ".to_owned(),
            Self::NotDeterministic => "the same key gave other bytes".to_owned(),
        }
    }
}
