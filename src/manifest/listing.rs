//! The settings of a kind as a list for people, each with its default, allowed values and docs.

use serde_json::Value;

use super::setting_schema::{SettingSchema, ValueType};
use contract::setting_path;

/// One setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting<'s> {
    /// The path: `threshold`, `line_max.threshold`, `prompts[].text`.
    pub path: String,
    /// The default, unless it is null.
    pub default: Option<&'s Value>,
    /// Whether it is required.
    pub required: bool,
    /// The allowed values: `an integer, 1 to 64`.
    pub permitted: String,
    /// The allowed strings with their docs, if all have docs.
    pub choices: Vec<(&'s str, &'s str)>,
    /// The docs.
    pub about: &'s str,
}

/// Returns every setting of a JSON schema, those inside tables after the table.
pub fn settings(schema: &Value) -> Vec<Setting<'_>> {
    let mut list = Vec::new();
    collect(SettingSchema::of(schema), "", schema.get("default"), &mut list);
    list
}

fn collect<'s>(table: SettingSchema<'s>, path: &str, defaults: Option<&'s Value>, list: &mut Vec<Setting<'s>>) {
    for key in table.keys() {
        let Some(schema) = table.key(key) else { continue };
        let path = setting_path(path, key);
        let default = schema.default().or_else(|| defaults?.get(key));
        list.push(Setting {
            path: path.clone(),
            default: default.filter(|default| !default.is_null()),
            required: table.required().any(|required| required == key),
            permitted: schema.permitted(),
            choices: match (schema.value_type(), schema.explained_choices()) {
                (ValueType::Choice(all), choices) if all.len() == choices.len() => choices,
                _ => Vec::new(),
            },
            about: schema.about().unwrap_or_default(),
        });
        match schema.value_type() {
            ValueType::Table => collect(schema, &path, default, list),
            ValueType::Array { items, .. } if matches!(items.value_type(), ValueType::Table) => {
                collect(items, &format!("{path}[]"), None, list);
            }
            _ => {}
        }
    }
}
