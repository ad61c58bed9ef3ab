//! Two runs, compared: the settings of their manifests, then the outputs of their stages.

use std::collections::{BTreeMap, BTreeSet};

use contract::Kind;
use serde::Serialize;
use serde_json::Value;

use super::run_lock::{LockedStage, RunLock};

/// What differs between two runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Leaves of the resolved manifests that differ, sorted by path.
    pub settings: Vec<SettingDifference>,
    /// Stages that differ, in the order of the newer run, then those that only the older one has.
    pub stages: Vec<StageDifference>,
}

/// A leaf of the manifest that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SettingDifference {
    /// Where: `stages.train.learning_rate`.
    pub path: String,
    /// The older run's value; `None` where it has none, or a default that is not known any more.
    pub old: Option<Value>,
    /// The newer run's.
    pub new: Option<Value>,
    /// Whether the older run's value is a default.
    pub old_is_default: bool,
    /// Whether the newer run's is.
    pub new_is_default: bool,
}

/// A stage that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageDifference {
    /// Its name.
    pub stage: String,
    /// In what way.
    pub change: Change,
    /// Metrics that differ: older and newer value.
    pub metrics: BTreeMap<String, [Option<f64>; 2]>,
}

/// In what way a stage differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// Only the newer run has it.
    Added,
    /// Only the older run has it.
    Removed,
    /// These ports hold other bytes.
    Output {
        /// The ports, with files that came, went or changed.
        ports: BTreeMap<String, [usize; 3]>,
    },
    /// It has another key and the same output.
    SameOutput,
}

impl Difference {
    /// Of the older and the newer run. `kinds` says what the defaults of settings are.
    pub fn of(old: &RunLock, new: &RunLock, kinds: &[Kind]) -> Self {
        let (before, after) = (leaves(&old.manifest), leaves(&new.manifest));
        let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let side = |lock: &RunLock, leaves: &BTreeMap<String, Value>, path: &str| match leaves.get(path) {
            Some(value) => (Some(value.clone()), false),
            None => default(lock, kinds, path),
        };
        let setting = |path: &String| {
            let ((old, old_is_default), (new, new_is_default)) = (side(old, &before, path), side(new, &after, path));
            let path = path.clone();
            (old != new).then_some(SettingDifference { path, old, new, old_is_default, new_is_default })
        };
        let settings = paths.into_iter().filter_map(setting).collect();
        let removed = old.stages.iter().filter(|stage| new.stage(&stage.name).is_none());
        let removed = removed.map(|stage| difference(stage, Change::Removed, None));
        let stages = new.stages.iter().filter_map(|stage| match old.stage(&stage.name) {
            None => Some(difference(stage, Change::Added, None)),
            Some(before) => change(before, stage).map(|change| difference(stage, change, Some(before))),
        });
        Self { settings, stages: stages.chain(removed).collect() }
    }

    /// Whether the runs are equal.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.stages.is_empty()
    }
}

/// The default of a setting that a run's manifest leaves out, and whether it has one. That of another revision of the kind is
/// not known.
fn default(lock: &RunLock, kinds: &[Kind], path: &str) -> (Option<Value>, bool) {
    let place = path.strip_prefix("stages.").and_then(|path| path.split_once('.'));
    let Some((stage, setting)) = place.and_then(|(stage, path)| Some((lock.stage(stage)?, path))) else {
        return (None, false);
    };
    let Some(kind) = kinds.iter().find(|kind| kind.name == stage.kind) else { return (None, true) };
    let default = kind.default_of(setting);
    let is_default = default.is_some();
    if kind.revision == stage.revision { (default, is_default) } else { (None, is_default) }
}

fn difference(stage: &LockedStage, change: Change, before: Option<&LockedStage>) -> StageDifference {
    let metrics = before.map(|before| differing_metrics(&before.metrics, &stage.metrics)).unwrap_or_default();
    StageDifference { stage: stage.name.clone(), change, metrics }
}

/// The metrics that are not equal, or that only one side has: older and newer value.
pub fn differing_metrics(
    old: &BTreeMap<String, f64>,
    new: &BTreeMap<String, f64>,
) -> BTreeMap<String, [Option<f64>; 2]> {
    let pairs =
        old.keys().chain(new.keys()).map(|name| (name.clone(), [old.get(name).copied(), new.get(name).copied()]));
    pairs.filter(|(_, [old, new])| old != new).collect()
}

fn change(old: &LockedStage, new: &LockedStage) -> Option<Change> {
    if old.trees() == new.trees() {
        return (old.key != new.key).then_some(Change::SameOutput);
    }
    let mut ports = BTreeMap::new();
    for port in old.outputs.keys().chain(new.outputs.keys()) {
        let files = |stage: &LockedStage| -> BTreeMap<String, String> {
            let files = stage.outputs.get(port).map(|output| output.files.as_slice()).unwrap_or_default();
            let split = |line: &String| line.splitn(3, ' ').nth(2).map(|path| (path.to_owned(), line.clone()));
            files.iter().filter_map(split).collect()
        };
        let (before, after) = (files(old), files(new));
        let added = after.keys().filter(|path| !before.contains_key(*path)).count();
        let removed = before.keys().filter(|path| !after.contains_key(*path)).count();
        let changed = after.iter().filter(|(path, line)| before.get(*path).is_some_and(|old| old != *line)).count();
        if added + removed + changed > 0 {
            ports.insert(port.clone(), [added, removed, changed]);
        }
    }
    Some(Change::Output { ports })
}

/// The leaves of a manifest by path. Invalid TOML has one leaf: itself.
fn leaves(manifest: &str) -> BTreeMap<String, Value> {
    let mut leaves = BTreeMap::new();
    match toml::from_str::<Value>(manifest) {
        Ok(document) => collect("", &document, &mut leaves),
        Err(_) => drop(leaves.insert("manifest".to_owned(), manifest.into())),
    }
    leaves
}

fn collect(path: &str, value: &Value, leaves: &mut BTreeMap<String, Value>) {
    match value.as_object() {
        Some(fields) => {
            for (name, field) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(&path, field, leaves);
            }
        }
        None => drop(leaves.insert(path.to_owned(), value.clone())),
    }
}
