//! A manifest as resolved: one TOML text with all layers merged, from which the same stages are read again.
//!
//! Settings at their default are left out, paths are absolute, `[exec]` is left out: it is the machine's.

use serde_json::{Map, Value as Json};
use toml::{Table, Value};

use super::{Manifest, StageDeclaration};
use crate::parallel;

impl Manifest {
    /// The resolved text. Reading it gives the same name, seed and stages, and so the same keys.
    pub fn resolved(&self) -> String {
        let mut run = Table::new();
        run.insert("name".to_owned(), self.name.clone().into());
        // A manifest is TOML, whose integers have 63 bits and a sign.
        run.insert("seed".to_owned(), Value::Integer(i64::try_from(self.seed).unwrap_or(i64::MAX)));
        // A table of tables, strings, numbers and lists always has a text.
        let section = |path: &[&str], table: Table| {
            let wrap = |inner, name: &&str| Value::Table(Table::from_iter([((*name).to_owned(), inner)]));
            toml::to_string_pretty(&path.iter().rev().fold(Value::Table(table), wrap)).unwrap_or_default()
        };
        // Stage by stage, as there may be many.
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

/// A setting as TOML, which has no null: nothing is a setting left out.
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
