//! A value of a wrong type, with a hint that writes it in the right one.

use serde_json::Value as Json;

use super::diagnostic::Diagnostic;
use super::document::{Node, Value};
use super::place::COMMAND_LINE;
use super::setting_schema::{SettingSchema, ValueType, quoted};
use super::shell;
use super::validate::{Path, Validator, accepts};

impl Validator<'_> {
    /// Reports a value of a wrong type; always `None`.
    pub(super) fn mismatch(
        &mut self,
        node: &Node,
        schema: SettingSchema<'_>,
        expected: &ValueType<'_>,
        path: &Path,
    ) -> Option<Json> {
        let described = match expected {
            ValueType::Choice(choices) => format!("one of {}", quoted(choices)),
            _ => schema.described(),
        };
        let found = match &node.value {
            Value::String(text) if text.is_empty() && self.is_argument(node) => "nothing",
            value => value.described(),
        };
        let respelled = self.respelled(node, expected).map(|spelling| self.write(node, &spelling));
        let keys: Vec<_> = schema.keys().collect();
        let keys = (matches!(expected, ValueType::Table) && !keys.is_empty())
            .then(|| format!("its settings are: {}", keys.join(", ")));
        let label = if described.len() < 40 { format!("expected {described}") } else { String::new() };
        let diagnostic = Diagnostic::error(format!("'{}' expects {described}, found {found}", path.manifest));
        self.reject(&path.manifest, diagnostic.at(node.span, label).hint(respelled.or(keys)));
        None
    }

    /// Returns the value written in the expected type, if it can be.
    fn respelled(&self, node: &Node, expected: &ValueType<'_>) -> Option<String> {
        let text = self.sources.text(node.span);
        match (expected, &node.value) {
            (ValueType::Integer { .. }, Value::Float(float)) if float.fract() == 0.0 && float.abs() < 1e15 => {
                Some(format!("{float}"))
            }
            (ValueType::Integer { .. }, Value::String(text)) if text.parse::<i64>().is_ok() => Some(text.clone()),
            (ValueType::Number { .. }, Value::String(text)) if text.parse::<f64>().is_ok_and(f64::is_finite) => {
                Some(text.clone())
            }
            (ValueType::Boolean, Value::String(text)) if text == "true" || text == "false" => Some(text.clone()),
            (ValueType::Boolean, Value::Integer(bit @ 0..=1)) => Some((*bit == 1).to_string()),
            (ValueType::Text { .. }, Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime) => {
                Some(format!("\"{text}\""))
            }
            (ValueType::Array { items, .. }, value) if accepts(&items.value_type(), value) && text.len() < 60 => {
                // On the command line a string needs no quotes, except in an array.
                match value {
                    Value::String(string) if !text.starts_with(['"', '\'']) => {
                        Some(format!("[{}]", Json::from(string.as_str())))
                    }
                    _ => Some(format!("[{text}]")),
                }
            }
            _ => None,
        }
    }

    /// Returns whether a value is from the command line.
    fn is_argument(&self, node: &Node) -> bool {
        self.sources.get(node.span.source).name == COMMAND_LINE
    }

    /// Returns a hint to write `spelling` in place of the value; for an argument, the whole argument quoted for a shell.
    fn write(&self, node: &Node, spelling: &str) -> String {
        let source = self.sources.get(node.span.source);
        let around = source.text.get(..node.span.start).zip(source.text.get(node.span.end..));
        match around.filter(|_| self.is_argument(node)) {
            Some((before, after)) => {
                format!("write --set {}", shell::quoted(&format!("{before}{spelling}{after}")))
            }
            None => format!("write {spelling}"),
        }
    }
}
