//! The resolved manifest: a single TOML text with all layers merged, which loads as the same stages.
//!
//! Paths are absolute. Settings at their default are omitted, as is `[exec]`, which belongs to the machine.

use serde_json::{Map, Value as Json};
use toml::{Table, Value};

use super::{Manifest, StageDeclaration};
use crate::parallel;

impl Manifest {
    /// Returns the resolved manifest as text. It loads with the same name, seed and stages, and so the same keys.
    pub fn resolved(&self) -> String {
        let mut run = Table::new();
        run.insert("name".to_owned(), self.name.clone().into());
        // The seed comes from TOML, whose integers are 64-bit signed.
        run.insert("seed".to_owned(), Value::Integer(i64::try_from(self.seed).unwrap_or(i64::MAX)));
        // Serialising tables of strings, numbers and lists does not fail.
        let section = |path: &[&str], table: Table| {
            let wrap = |inner, name: &&str| Value::Table(Table::from_iter([((*name).to_owned(), inner)]));
            toml::to_string_pretty(&path.iter().rev().fold(Value::Table(table), wrap)).unwrap_or_default()
        };
        // In parallel, since there may be many stages.
        let stages = self.stages.iter().collect::<Vec<_>>();
        let stages = parallel::map(&stages, |(name, stage)| section(&["stages", name.as_str()], declaration(stage)));
        [section(&["run"], run)].into_iter().chain(stages).collect::<Vec<_>>().join("\n")
    }
}

fn declaration(stage: &StageDeclaration) -> Table {
    let mut table = Table::new();
    table.insert("kind".to_owned(), stage.kind.name.into());
    if !stage.inputs.is_empty() {
        let edge = |(port, edge): (&String, &super::Edge)| {
            (port.clone(), Value::String(format!("{}.{}", edge.stage, edge.output)))
        };
        table.insert("inputs".to_owned(), Value::Table(stage.inputs.iter().map(edge).collect()));
    }
    table.extend(settings(stage.stage.spec()));
    table.extend(settings(stage.stage.exec()));
    table
}

fn settings(settings: &Map<String, Json>) -> Table {
    settings.iter().filter_map(|(name, setting)| Some((name.clone(), value(setting)?))).collect()
}

/// Converts a setting to TOML; `None` for null, which TOML does not have.
fn value(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => return None,
        Json::Bool(value) => Value::Boolean(*value),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::Integer(integer),
            None => Value::Float(number.as_f64()?),
        },
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => Value::Array(items.iter().filter_map(value).collect()),
        Json::Object(fields) => Value::Table(settings(fields)),
    })
}
