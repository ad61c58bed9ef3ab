//! The differences between two runs: the settings of their manifests, then the outputs of their stages.

use std::collections::{BTreeMap, BTreeSet};

use contract::Kind;
use serde::Serialize;
use serde_json::Value;

use super::run_lock::{LockedStage, RunLock};

/// The differences between two runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunDiff {
    /// Settings of the resolved manifests that differ, sorted by path.
    pub settings: Vec<SettingDiff>,
    /// Stages that differ, in the order of the newer run, then those that only the older one has.
    pub stages: Vec<StageDiff>,
}

/// A setting that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SettingDiff {
    /// The path: `stages.train.learning_rate`.
    pub path: String,
    /// The older run's value; `None` if it has none, or the default of another revision of the kind.
    pub old: Option<Value>,
    /// The newer run's value.
    pub new: Option<Value>,
    /// Whether the older run's value is a default.
    pub old_is_default: bool,
    /// Whether the newer run's value is a default.
    pub new_is_default: bool,
}

/// A stage that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageDiff {
    /// The name.
    pub stage: String,
    /// The kind of difference.
    pub change: StageChange,
    /// Metrics that differ: older and newer value.
    pub metrics: BTreeMap<String, [Option<f64>; 2]>,
}

/// The kinds of differences of a stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum StageChange {
    /// The stage exists only in the newer run.
    Added,
    /// The stage exists only in the older run.
    Removed,
    /// The output differs.
    Output {
        /// The number of files added, removed and changed, by port.
        ports: BTreeMap<String, [usize; 3]>,
    },
    /// It has a different key and the same output.
    SameOutput,
}

/// The settings of a run's manifest, and its stages by name.
struct Side<'l> {
    settings: BTreeMap<String, Value>,
    stages: BTreeMap<&'l str, &'l LockedStage>,
}

impl RunDiff {
    /// Compares an older and a newer run. `kinds` provides the defaults of settings.
    pub fn new(old: &RunLock, new: &RunLock, kinds: &[Kind]) -> Self {
        let [before, after] = [old, new].map(|lock| Side {
            settings: settings(&lock.manifest),
            stages: lock.stages.iter().map(|stage| (stage.name.as_str(), stage)).collect(),
        });
        let paths: BTreeSet<_> = before.settings.keys().chain(after.settings.keys()).collect();
        let setting = |path: &String| {
            let [(old, old_is_default), (new, new_is_default)] = [&before, &after].map(|side| side.value(path, kinds));
            let path = path.clone();
            (old != new).then_some(SettingDiff { path, old, new, old_is_default, new_is_default })
        };
        let removed = old.stages.iter().filter(|stage| !after.stages.contains_key(stage.name.as_str()));
        let removed = removed.map(|stage| diff(stage, StageChange::Removed, None));
        let stages = new.stages.iter().filter_map(|stage| match before.stages.get(stage.name.as_str()) {
            None => Some(diff(stage, StageChange::Added, None)),
            Some(before) => change(before, stage).map(|change| diff(stage, change, Some(before))),
        });
        Self { settings: paths.into_iter().filter_map(setting).collect(), stages: stages.chain(removed).collect() }
    }

    /// Returns whether the runs are equal.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.stages.is_empty()
    }
}

impl Side<'_> {
    /// Returns the value of a setting, and whether it is a default. The default of another revision of the kind is unknown.
    fn value(&self, path: &str, kinds: &[Kind]) -> (Option<Value>, bool) {
        if let Some(value) = self.settings.get(path) {
            return (Some(value.clone()), false);
        }
        let place = path.strip_prefix("stages.").and_then(|path| path.split_once('.'));
        let Some((stage, setting)) = place.and_then(|(stage, path)| Some((self.stages.get(stage)?, path))) else {
            return (None, false);
        };
        let Some(kind) = kinds.iter().find(|kind| kind.name == stage.kind) else { return (None, true) };
        let default = kind.default_of(setting);
        let is_default = default.is_some();
        (default.filter(|_| kind.revision == stage.revision), is_default)
    }
}

fn diff(stage: &LockedStage, change: StageChange, before: Option<&LockedStage>) -> StageDiff {
    let metrics = before.map(|before| differing_metrics(&before.metrics, &stage.metrics)).unwrap_or_default();
    StageDiff { stage: stage.name.clone(), change, metrics }
}

/// Returns the metrics that differ or exist on only one side: older and newer value.
pub fn differing_metrics(
    old: &BTreeMap<String, f64>,
    new: &BTreeMap<String, f64>,
) -> BTreeMap<String, [Option<f64>; 2]> {
    let pairs =
        old.keys().chain(new.keys()).map(|name| (name.clone(), [old.get(name).copied(), new.get(name).copied()]));
    pairs.filter(|(_, [old, new])| old != new).collect()
}

fn change(old: &LockedStage, new: &LockedStage) -> Option<StageChange> {
    if old.trees() == new.trees() {
        return (old.key != new.key).then_some(StageChange::SameOutput);
    }
    let mut ports = BTreeMap::new();
    for port in old.outputs.keys().chain(new.outputs.keys()) {
        let [before, after] = [old, new].map(|stage| -> BTreeMap<&str, &str> {
            let files = stage.outputs.get(port).map(|output| output.files.as_slice()).unwrap_or_default();
            files.iter().filter_map(|line| Some((line.splitn(3, ' ').nth(2)?, line.as_str()))).collect()
        });
        let added = after.keys().filter(|path| !before.contains_key(*path)).count();
        let removed = before.keys().filter(|path| !after.contains_key(*path)).count();
        let changed = after.iter().filter(|(path, line)| before.get(*path).is_some_and(|old| old != *line)).count();
        if added + removed + changed > 0 {
            ports.insert(port.clone(), [added, removed, changed]);
        }
    }
    Some(StageChange::Output { ports })
}

/// Returns the settings of a manifest by path. Invalid TOML is returned as a single setting.
fn settings(manifest: &str) -> BTreeMap<String, Value> {
    let mut settings = BTreeMap::new();
    match toml::from_str::<Value>(manifest) {
        Ok(document) => collect("", document, &mut settings),
        Err(_) => drop(settings.insert("manifest".to_owned(), manifest.into())),
    }
    settings
}

fn collect(path: &str, value: Value, settings: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let path = if path.is_empty() { name } else { format!("{path}.{name}") };
                collect(&path, field, settings);
            }
        }
        value => drop(settings.insert(path.to_owned(), value)),
    }
}
