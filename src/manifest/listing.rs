//! The settings of a kind as a list, for people: each with its default, what it may be, and its docs.

use serde_json::Value;

use super::check::join;
use super::shape::{Form, Shape};

/// One setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting<'s> {
    /// Its path: `threshold`, `line_max.threshold`, `prompts[].text`.
    pub path: String,
    /// What it is where it is left out, if that says anything.
    pub default: Option<&'s Value>,
    /// Whether it must be written.
    pub required: bool,
    /// What it may be: "an integer, 1 to 64".
    pub permitted: String,
    /// The strings that it may be, each with its docs, where all have some.
    pub choices: Vec<(&'s str, &'s str)>,
    /// Its docs.
    pub about: &'s str,
}

/// Every setting that a JSON schema lists, those inside tables after the table.
pub fn settings(schema: &Value) -> Vec<Setting<'_>> {
    let mut list = Vec::new();
    collect(Shape::of(schema), "", schema.get("default"), &mut list);
    list
}

fn collect<'s>(table: Shape<'s>, path: &str, defaults: Option<&'s Value>, list: &mut Vec<Setting<'s>>) {
    for key in table.keys() {
        let Some(shape) = table.key(key) else { continue };
        let path = join(path, key);
        let default = shape.default().or_else(|| defaults?.get(key));
        list.push(Setting {
            path: path.clone(),
            default: default.filter(|default| !default.is_null()),
            required: table.required().any(|required| required == key),
            permitted: shape.permitted(),
            choices: match (shape.form(), shape.explained_choices()) {
                (Form::Choice(all), choices) if all.len() == choices.len() => choices,
                _ => Vec::new(),
            },
            about: shape.about().unwrap_or_default(),
        });
        match shape.form() {
            Form::Table => collect(shape, &path, default, list),
            Form::Array { items: Some(items), .. } if matches!(items.form(), Form::Table) => {
                collect(items, &format!("{path}[]"), None, list);
            }
            _ => {}
        }
    }
}
