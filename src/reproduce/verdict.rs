//! What a reproduction proves of one stage.

use std::collections::{BTreeMap, BTreeSet};

use contract::SourceFile;
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
        /// The largest relative difference of a loss.
        largest: f64,
        /// What else differs, save inputs that can only be equal within a tolerance.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        causes: Vec<Cause>,
    },
    /// Other bytes of a kind without a tolerance, and nothing that determines them differs but inputs that can only be equal
    /// within a tolerance: nothing can be said.
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

    /// Compares what a stage gave with its lock. `tolerated` are the input ports that read a stage which is
    /// [`Verdict::Equal`], or is below one, so that they cannot hold the same bytes.
    pub fn of(locked: &LockedStage, found: &StageOutcome, tolerated: &BTreeSet<String>) -> Self {
        let differences = differences(locked, found);
        if locked.trees() == found.record.outputs {
            return Self::Identical { causes: differences };
        }
        let excused = |cause: &Cause| matches!(cause, Cause::Input { port } if tolerated.contains(port));
        let is_below = differences.iter().any(excused);
        let causes: Vec<_> = differences.iter().filter(|cause| !excused(cause)).cloned().collect();
        let here = &found.record;
        // Locks of before have the name of the model alone, which tells little.
        let elsewhere = locked.device != here.device.to_string() || locked.machine.cpu != here.machine.cpu;
        let largest = largest_difference(&locked.metrics, &here.metrics);
        match (locked.tolerance.filter(|_| elsewhere || is_below), largest) {
            (Some(tolerance), Some(largest)) if largest <= tolerance => Self::Equal { tolerance, largest, causes },
            (None, _) if is_below && causes.is_empty() => Self::NotComparable,
            _ => Self::Different {
                causes: if differences.is_empty() { vec![Cause::NotDeterministic] } else { differences },
                metrics: differing_metrics(&locked.metrics, &here.metrics),
            },
        }
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
    let digest = |line: &String| SourceFile::of_line(line).map(|file| file.digest);
    let mut sources: Vec<_> = locked.sources.iter().map(digest).collect();
    let mut here: Vec<_> = found.keyed.sources.digests().into_iter().map(Some).collect();
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

/// The largest relative difference of a loss; `None` where the lock has no loss, or one that was not found: it diverged, so
/// that its value is no number. Other series, such as the norm of the last gradient, are noise at this scale.
fn largest_difference(locked: &BTreeMap<String, f64>, found: &BTreeMap<String, f64>) -> Option<f64> {
    let losses = locked.iter().filter(|(name, _)| name.starts_with("loss"));
    let differences = losses.map(|(name, value)| Some(distance(*value, *found.get(name)?)));
    differences.collect::<Option<Vec<_>>>()?.into_iter().reduce(f64::max)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_is_no_number_here_is_no_equal_one() {
        let metrics = |all: &[(&str, f64)]| all.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let locked = metrics(&[("loss/train", 1.0), ("loss/validation", 2.0), ("gradient_norm", 1.0)]);
        let near = metrics(&[("loss/train", 1.25), ("loss/validation", 2.0)]);
        assert_eq!(largest_difference(&locked, &near), Some(0.2));
        // What diverged is not in a record, which holds numbers alone.
        assert_eq!(largest_difference(&locked, &metrics(&[("loss/train", 1.0)])), None);
        assert_eq!(largest_difference(&metrics(&[("gradient_norm", 1.0)]), &near), None);
    }
}
