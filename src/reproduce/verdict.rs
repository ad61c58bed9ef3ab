//! What a reproduction proves of one stage.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::report::LockedStage;
use crate::run::StageOutcome;
use crate::store::Machine;

/// The comparison of one stage with its lock.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// The same bytes.
    Identical,
    /// Other bytes, on another device or processor, or below such a stage; every metric within the lock's tolerance.
    Equal {
        /// The tolerance, relative.
        tolerance: f64,
        /// The largest relative difference of a metric.
        largest: f64,
    },
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

/// Where a run computed.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The lock's machine.
    pub locked: &'a Machine,
    /// This one.
    pub here: &'a Machine,
}

impl Verdict {
    /// Whether the stage is reproduced.
    pub const fn holds(&self) -> bool {
        matches!(self, Self::Identical | Self::Equal { .. })
    }

    /// Compares what a stage gave with its lock. `tolerated` says that a stage above it is [`Verdict::Equal`], so that its
    /// inputs cannot hold the same bytes.
    pub fn of(locked: &LockedStage, found: &StageOutcome, place: Place<'_>, tolerated: bool) -> Self {
        if locked.trees() == found.record.outputs {
            return Self::Identical;
        }
        let elsewhere = locked.device != found.record.device.to_string() || place.locked.cpu != place.here.cpu;
        let differing = differing(&locked.metrics, &found.record.metrics);
        let largest = differing.values().map(|pair| distance(*pair)).fold(0.0, f64::max);
        let tolerance = locked.tolerance.filter(|_| elsewhere || tolerated);
        match tolerance {
            Some(tolerance) if !locked.metrics.is_empty() && largest <= tolerance => Self::Equal { tolerance, largest },
            _ => Self::Different { causes: causes(locked, found), metrics: differing },
        }
    }
}

fn causes(locked: &LockedStage, found: &StageOutcome) -> Vec<Cause> {
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
    if causes.is_empty() {
        causes.push(if locked.key == found.record.key { Cause::NotDeterministic } else { Cause::Settings });
    }
    causes
}

/// The metrics that are not equal, or that only one side has.
fn differing(locked: &BTreeMap<String, f64>, found: &BTreeMap<String, f64>) -> BTreeMap<String, [Option<f64>; 2]> {
    let names = locked.keys().chain(found.keys());
    let pairs = names.map(|name| (name.clone(), [locked.get(name).copied(), found.get(name).copied()]));
    pairs.filter(|(_, [locked, found])| locked != found).collect()
}

/// The relative difference; a metric that only one side has is infinitely far away.
fn distance(pair: [Option<f64>; 2]) -> f64 {
    match pair {
        [Some(one), Some(other)] => (one - other).abs() / one.abs().max(other.abs()).max(f64::MIN_POSITIVE),
        _ => f64::INFINITY,
    }
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
