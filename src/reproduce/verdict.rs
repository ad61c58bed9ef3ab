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
    let ports = locked.inputs.iter().filter(|(port, tree)| found.key.inputs.get(*port) != Some(tree));
    causes.extend(ports.map(|(port, _)| Cause::Input { port: port.clone() }));
    let digest = |line: &String| SourceFile::of_line(line).map(|file| file.digest);
    let mut sources: Vec<_> = locked.sources.iter().map(digest).collect();
    let mut here: Vec<_> = found.key.sources.digests().into_iter().map(Some).collect();
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
    use contract::{Device, Digest};

    use super::*;
    use crate::key::{Key, KeyRecord};
    use crate::plan::StageKey;
    use crate::report::run_lock::LockedOutput;
    use crate::store::{Machine, Record, SourceSnapshot};

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

    const LIMIT: f64 = 0.01;

    /// A stage as a lock has it, whose one input and output hold these.
    fn locked(tolerance: Option<f64>) -> LockedStage {
        let output = LockedOutput { ty: "report".to_owned(), tree: Digest::of(b"locked"), files: Vec::new() };
        LockedStage {
            name: "loss".to_owned(),
            kind: "eval-loss".to_owned(),
            revision: 1,
            key: Digest::of(b"key"),
            inputs: BTreeMap::from([("model".to_owned(), Digest::of(b"model"))]),
            sources: Vec::new(),
            seconds: 1.0,
            ran: true,
            device: Device::Cpu.to_string(),
            tolerance,
            metrics: BTreeMap::from([("loss/valid".to_owned(), 2.0)]),
            machine: Machine::this(),
            outputs: BTreeMap::from([("report".to_owned(), output)]),
        }
    }

    /// The same found with other bytes, and what `change` changes.
    fn found(change: impl FnOnce(&mut StageOutcome)) -> StageOutcome {
        let record = Record {
            key: Digest::of(b"key"),
            kind: "eval-loss".to_owned(),
            revision: 1,
            stage: "loss".to_owned(),
            run: "run".to_owned(),
            number: None,
            outputs: BTreeMap::from([("report".to_owned(), Digest::of(b"found"))]),
            key_record: KeyRecord::default(),
            started: 0,
            seconds: 1.0,
            cpu_seconds: None,
            peak_memory: None,
            operations: None,
            input_bytes: None,
            metrics: BTreeMap::from([("loss/valid".to_owned(), 2.001)]),
            threads: 1,
            device: Device::Cpu,
            machine: Machine::this(),
            program: String::new(),
        };
        let key = StageKey {
            key: Key::of(record.key),
            record: record.key_record.clone(),
            inputs: BTreeMap::from([("model".to_owned(), Digest::of(b"model"))]),
            sources: SourceSnapshot::default(),
            sources_missing: false,
        };
        let trees = BTreeMap::new();
        let mut found = StageOutcome { key, record, trees, ran: true, differs: false, earlier: 0 };
        change(&mut found);
        found
    }

    fn another_model(found: &mut StageOutcome) {
        found.key.inputs.insert("model".to_owned(), Digest::of(b"another"));
        found.record.key = Digest::of(b"another key");
    }

    fn causes(verdict: Verdict) -> (&'static str, Vec<Cause>) {
        match verdict {
            Verdict::Identical { causes } => ("identical", causes),
            Verdict::Equal { causes, .. } => ("equal", causes),
            Verdict::NotComparable => ("not comparable", Vec::new()),
            Verdict::Different { causes, .. } => ("different", causes),
            Verdict::NotAttempted { .. } => ("not attempted", Vec::new()),
        }
    }

    #[test]
    fn a_tolerance_excuses_the_machine_and_what_is_below_such_a_stage_and_what_else_differs_is_said() {
        let none = BTreeSet::new();
        let model = BTreeSet::from(["model".to_owned()]);
        let (input, revision) = (Cause::Input { port: "model".to_owned() }, Cause::Revision { locked: 1, here: 2 });
        let elsewhere = |found: &mut StageOutcome| found.record.machine.cpu = Some("another".to_owned());
        let of = |tolerance, found: StageOutcome, excused| causes(Verdict::of(&locked(tolerance), &found, excused));
        // The same machine owes the same bytes.
        assert_eq!(of(Some(LIMIT), found(|_| ()), &none), ("different", vec![Cause::NotDeterministic]));
        assert_eq!(of(Some(LIMIT), found(elsewhere), &none), ("equal", vec![]));
        let far = |found: &mut StageOutcome| {
            elsewhere(found);
            found.record.metrics.insert("loss/valid".to_owned(), 2.1);
        };
        assert_eq!(of(Some(LIMIT), found(far), &none).0, "different");
        let newer = |found: &mut StageOutcome| {
            elsewhere(found);
            found.record.revision = 2;
        };
        assert_eq!(of(Some(LIMIT), found(newer), &none), ("equal", vec![revision.clone()]), "and that is said");
        // Below a stage that is equal within its tolerance.
        assert_eq!(of(Some(LIMIT), found(another_model), &model), ("equal", vec![]));
        assert_eq!(of(None, found(another_model), &model), ("not comparable", vec![]));
        assert_eq!(of(None, found(another_model), &none), ("different", vec![input.clone()]));
        let both = |found: &mut StageOutcome| {
            another_model(found);
            found.record.revision = 2;
        };
        assert_eq!(of(None, found(both), &model), ("different", vec![revision, input]));
        // The same input, and other bytes all the same.
        assert_eq!(of(None, found(|_| ()), &model), ("different", vec![Cause::NotDeterministic]));
    }
}
