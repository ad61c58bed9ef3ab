//! The verdict of a reproduction for one stage.

use std::collections::{BTreeMap, BTreeSet};

use contract::SourceFile;
use serde::Serialize;

use crate::report::LockedStage;
use crate::report::diff::differing_metrics;
use crate::run::StageOutcome;

/// The comparison of one stage with its lock.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum StageReproduction {
    /// The bytes are the same.
    Identical {
        /// The differences that had no effect.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        causes: Vec<Cause>,
    },
    /// The bytes differ, but the stage or one upstream ran on another device or processor, and every loss is within the lock's tolerance.
    Equal {
        /// The relative tolerance.
        tolerance: f64,
        /// The largest relative difference of a loss.
        largest: f64,
        /// Other differences, except inputs that are equal within tolerance.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        causes: Vec<Cause>,
    },
    /// The bytes differ and the kind has no tolerance, but its inputs are equal only within tolerance.
    NotComparable,
    /// The bytes are different.
    Different {
        /// The possible causes.
        causes: Vec<Cause>,
        /// The metrics that differ: locked and found values.
        metrics: BTreeMap<String, [Option<f64>; 2]>,
    },
    /// The stage has no output.
    NotAttempted {
        /// The reason.
        because: String,
    },
}

/// A possible cause of a difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Cause {
    /// The kind has another revision in this program.
    Revision {
        /// The revision in the lock.
        locked: u32,
        /// The revision in this program.
        here: u32,
    },
    /// An input has different content.
    Input {
        /// The port.
        port: String,
    },
    /// The source files have different content.
    Sources,
    /// A fact of the machine that determines the output differs.
    Machine {
        /// The fact.
        fact: String,
        /// Its value in the lock.
        locked: Option<String>,
        /// Its value on this machine.
        here: Option<String>,
    },
    /// The settings differ, by `--set` or a changed default.
    Settings,
    /// No difference in anything that determines the output.
    NotDeterministic,
}

impl StageReproduction {
    /// Returns whether the stage counts as reproduced.
    pub const fn holds(&self) -> bool {
        matches!(self, Self::Identical { .. } | Self::Equal { .. } | Self::NotComparable)
    }

    /// Compares the output of a stage with its lock. `tolerated` contains the input ports that read a stage that is
    /// [`StageReproduction::Equal`] or downstream of one, so that their bytes cannot be the same.
    pub fn of(locked: &LockedStage, found: &StageOutcome, tolerated: &BTreeSet<String>) -> Self {
        let differences = differences(locked, found);
        if locked.trees() == found.record.outputs {
            return Self::Identical { causes: differences };
        }
        let excused = |cause: &Cause| matches!(cause, Cause::Input { port } if tolerated.contains(port));
        let is_downstream = differences.iter().any(excused);
        let causes: Vec<_> = differences.iter().filter(|cause| !excused(cause)).cloned().collect();
        let here = &found.record;
        // Older locks contain only the model name of the processor, which always differs.
        let elsewhere = locked.device != here.device.to_string() || locked.machine.cpu != here.machine.cpu;
        let largest = largest_difference(&locked.metrics, &here.metrics);
        match (locked.tolerance.filter(|_| elsewhere || is_downstream), largest) {
            (Some(tolerance), Some(largest)) if largest <= tolerance => Self::Equal { tolerance, largest, causes },
            (None, _) if is_downstream && causes.is_empty() => Self::NotComparable,
            _ => Self::Different {
                causes: if differences.is_empty() { vec![Cause::NotDeterministic] } else { differences },
                metrics: differing_metrics(&locked.metrics, &here.metrics),
            },
        }
    }
}

/// Returns the differences in what determines the output.
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
    let facts = found.key.key_record.machine_facts();
    for fact in locked.machine_facts.keys().chain(facts.keys()).collect::<BTreeSet<_>>() {
        let (locked, here) = (locked.machine_facts.get(fact).cloned(), facts.get(fact).cloned());
        if locked != here {
            causes.push(Cause::Machine { fact: fact.clone(), locked, here });
        }
    }
    if causes.is_empty() && locked.key != found.record.key {
        causes.push(Cause::Settings);
    }
    causes
}

/// Returns the largest relative difference of a loss; `None` if the lock has no loss, or the new run lacks one because it diverged. Other
/// metrics, such as the last gradient norm, are too noisy to compare.
fn largest_difference(locked: &BTreeMap<String, f64>, found: &BTreeMap<String, f64>) -> Option<f64> {
    let losses = locked.iter().filter(|(name, _)| name.starts_with("loss"));
    let differences = losses.map(|(name, value)| Some(distance(*value, *found.get(name)?)));
    differences.collect::<Option<Vec<_>>>()?.into_iter().reduce(f64::max)
}

/// Returns the relative difference.
fn distance(one: f64, other: f64) -> f64 {
    (one - other).abs() / one.abs().max(other.abs()).max(f64::MIN_POSITIVE)
}

impl Cause {
    /// Returns the cause as text.
    pub fn text(&self) -> String {
        match self {
            Self::Revision { locked, here } => {
                format!("revision {locked} of the kind in the lock, {here} in this program")
            }
            Self::Input { port } => format!("its input '{port}' differs"),
            Self::Sources => "its source files differ".to_owned(),
            Self::Machine { fact, locked, here } => {
                let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
                format!("{fact} {} in the lock, {} on this machine", value(locked), value(here))
            }
            Self::Settings => "its settings differ".to_owned(),
            Self::NotDeterministic => "not deterministic: the key is the same".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::{Device, Digest};

    use super::*;
    use crate::key::{Key, KeyInput, KeyRecord};
    use crate::plan::StageKey;
    use crate::report::run_lock::LockedOutput;
    use crate::store::{Machine, Record, SourceSnapshot};

    #[test]
    fn a_loss_that_diverged_is_not_equal() {
        let metrics = |all: &[(&str, f64)]| all.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let locked = metrics(&[("loss/train", 1.0), ("loss/validation", 2.0), ("gradient_norm", 1.0)]);
        let near = metrics(&[("loss/train", 1.25), ("loss/validation", 2.0)]);
        assert_eq!(largest_difference(&locked, &near), Some(0.2));
        // A record holds finite numbers only.
        assert_eq!(largest_difference(&locked, &metrics(&[("loss/train", 1.0)])), None);
        assert_eq!(largest_difference(&metrics(&[("gradient_norm", 1.0)]), &near), None);
    }

    const LIMIT: f64 = 0.01;

    /// Returns a locked stage with one input and one output.
    fn locked(tolerance: Option<f64>) -> LockedStage {
        let output = LockedOutput { ty: "report".to_owned(), tree: Digest::of(b"locked"), files: Vec::new() };
        LockedStage {
            name: "loss".to_owned(),
            kind: "eval-loss".to_owned(),
            revision: 1,
            key: Digest::of(b"key"),
            inputs: BTreeMap::from([("model".to_owned(), Digest::of(b"model"))]),
            sources: Vec::new(),
            machine_facts: BTreeMap::new(),
            seconds: 1.0,
            ran: true,
            device: Device::Cpu.to_string(),
            tolerance,
            metrics: BTreeMap::from([("loss/valid".to_owned(), 2.0)]),
            machine: Machine::this().clone(),
            outputs: BTreeMap::from([("report".to_owned(), output)]),
        }
    }

    /// Returns the outcome of the same stage with different bytes, modified by `change`.
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
            updates: None,
            input_bytes: None,
            metrics: BTreeMap::from([("loss/valid".to_owned(), 2.001)]),
            threads: 1,
            device: Device::Cpu,
            machine: Machine::this().clone(),
            program: String::new(),
        };
        let key = StageKey {
            key: Key::of(record.key),
            key_record: record.key_record.clone(),
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

    fn causes(verdict: StageReproduction) -> (&'static str, Vec<Cause>) {
        match verdict {
            StageReproduction::Identical { causes } => ("identical", causes),
            StageReproduction::Equal { causes, .. } => ("equal", causes),
            StageReproduction::NotComparable => ("not comparable", Vec::new()),
            StageReproduction::Different { causes, .. } => ("different", causes),
            StageReproduction::NotAttempted { .. } => ("not attempted", Vec::new()),
        }
    }

    #[test]
    fn a_tolerance_excuses_another_machine_and_stages_downstream_and_other_causes_are_reported() {
        let none = BTreeSet::new();
        let model = BTreeSet::from(["model".to_owned()]);
        let (input, revision) = (Cause::Input { port: "model".to_owned() }, Cause::Revision { locked: 1, here: 2 });
        let elsewhere = |found: &mut StageOutcome| found.record.machine.cpu = Some("another".to_owned());
        let of = |tolerance, found: StageOutcome, excused| {
            causes(StageReproduction::of(&locked(tolerance), &found, excused))
        };
        // The same machine must give the same bytes.
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
        assert_eq!(of(Some(LIMIT), found(newer), &none), ("equal", vec![revision.clone()]), "with the cause");
        let python = |found: &mut StageOutcome| {
            let machine = BTreeMap::from([("python".to_owned(), "3.12.1".to_owned())]);
            let (settings, inputs) = (serde_json::Map::new(), BTreeMap::new());
            let key = KeyInput {
                kind: "k",
                revision: 1,
                settings: &settings,
                seed: None,
                inputs: &inputs,
                sources: &[],
                machine: &machine,
            };
            found.key.key_record = key.record();
            found.record.key = key.key().digest();
        };
        let verdict = of(None, found(python), &none);
        assert_eq!(verdict.1.len(), 1, "{verdict:?}");
        assert_eq!(verdict.1[0].text(), "python none in the lock, 3.12.1 on this machine");
        // Downstream of a stage that is equal within its tolerance.
        assert_eq!(of(Some(LIMIT), found(another_model), &model), ("equal", vec![]));
        assert_eq!(of(None, found(another_model), &model), ("not comparable", vec![]));
        assert_eq!(of(None, found(another_model), &none), ("different", vec![input.clone()]));
        let both = |found: &mut StageOutcome| {
            another_model(found);
            found.record.revision = 2;
        };
        assert_eq!(of(None, found(both), &model), ("different", vec![revision, input]));
        // The same input and other bytes.
        assert_eq!(of(None, found(|_| ()), &model), ("different", vec![Cause::NotDeterministic]));
    }
}
