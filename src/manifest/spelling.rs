//! A value of a wrong type, and how it would be spelt in the right one.

use serde_json::Value as Json;

use super::check::Check;
use super::diagnostic::Diagnostic;
use super::document::{Node, Value};
use super::shape::{Form, Shape, quoted};
use super::shell;
use super::source::COMMAND_LINE;
use super::variant::takes;

impl Check<'_> {
    /// Reports a value of a wrong type; always `None`.
    pub(super) fn mismatch(&mut self, node: &Node, shape: Shape<'_>, form: &Form<'_>, path: &str) -> Option<Json> {
        self.faults.add(path);
        let expected = match form {
            Form::Choice(choices) => format!("one of {}", quoted(choices)),
            _ => shape.described(),
        };
        let found = match &node.value {
            Value::String(text) if text.is_empty() && self.argument(node) => "nothing",
            value => value.described(),
        };
        let respelled = self.respelled(node, form).map(|spelling| self.write(node, &spelling));
        let keys: Vec<_> = shape.keys().collect();
        let keys =
            (matches!(form, Form::Table) && !keys.is_empty()).then(|| format!("its settings are: {}", keys.join(", ")));
        let diagnostic = Diagnostic::error(format!("'{path}' takes {expected}, found {found}"))
            .at(node.span, if expected.len() < 40 { format!("expected {expected}") } else { String::new() })
            .hint(respelled.or(keys));
        self.diagnostics.push(diagnostic);
        None
    }

    /// How the value would be spelt in the type that is expected, where it has such a spelling.
    fn respelled(&self, node: &Node, form: &Form<'_>) -> Option<String> {
        let text = self.diagnostics.sources().text(node.span);
        match (form, &node.value) {
            (Form::Integer { .. }, Value::Float(float)) if float.fract() == 0.0 && float.abs() < 1e15 => {
                Some(format!("{float}"))
            }
            (Form::Integer { .. }, Value::String(text)) if text.parse::<i64>().is_ok() => Some(text.clone()),
            (Form::Number { .. }, Value::String(text)) if text.parse::<f64>().is_ok_and(f64::is_finite) => {
                Some(text.clone())
            }
            (Form::Boolean, Value::String(text)) if text == "true" || text == "false" => Some(text.clone()),
            (Form::Boolean, Value::Integer(bit @ 0..=1)) => Some((*bit == 1).to_string()),
            (Form::Text { .. }, Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime) => {
                Some(format!("\"{text}\""))
            }
            (Form::Array { items: Some(items), .. }, value) if takes(&items.form(), value) && text.len() < 60 => {
                // On the command line a string may stand without quotes; in an array it may not.
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

    /// Whether a value stands on the command line.
    fn argument(&self, node: &Node) -> bool {
        self.diagnostics.source(node.span.source).name == COMMAND_LINE
    }

    /// A hint to write `spelling` in place of the value; of an argument, the whole of it as a shell takes it.
    fn write(&self, node: &Node, spelling: &str) -> String {
        let source = self.diagnostics.source(node.span.source);
        let around = source.text.get(..node.span.start).zip(source.text.get(node.span.end..));
        match around.filter(|_| self.argument(node)) {
            Some((before, after)) => {
                format!("write --set {}", shell::quoted(&format!("{before}{spelling}{after}")))
            }
            None => format!("write {spelling}"),
        }
    }
}
