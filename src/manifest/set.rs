//! `--set stages.train.learning_rate=6e-4`: one setting of the command line, laid over all files.
//!
//! The argument is a line of TOML. A value that is no TOML is taken as a string, so that
//! `--set stages.export.source=data/*.json.gz` needs no second pair of quotes; one that begins as a TOML string, array or
//! table must be one. A shell takes quotes away (`[ "mit" ]` comes as `[mit]`): the hint writes the argument as it must be
//! typed.

use std::path::Path;

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Node, Table, Value};
use super::source::{COMMAND_LINE, SourceId, Span};
use super::{shell, suggest, syntax};

const EXAMPLE: &str = "as --set stages.train.steps=100";

/// Reads one argument and lays it over the document.
pub(super) fn lay(document: &mut Table, argument: &str, folder: &Path, diagnostics: &mut Diagnostics) {
    let source = diagnostics.add_source(COMMAND_LINE, folder.to_owned(), argument.to_owned());
    let whole = Span { source, start: 0, end: argument.len() };
    let Some((key, value)) = argument.split_once('=').filter(|(key, _)| !key.trim_start().starts_with('[')) else {
        let diagnostic = Diagnostic::error(format!("'{argument}' is not PATH=VALUE")).at(whole, "");
        diagnostics.push(diagnostic.hint(EXAMPLE.to_owned()));
        return;
    };
    let Some(mut table) = parsed(source, argument, key, value, diagnostics) else { return };
    if let Some(entry) = table.get("extends") {
        let diagnostic = Diagnostic::error("'extends' cannot be set on the command line").at(entry.key, "");
        diagnostics.push(diagnostic.hint("write a manifest of its own that extends the base".to_owned()));
        return;
    }
    if let Some(Value::Table(stages)) = table.0.get_mut("stages").map(|entry| &mut entry.node.value) {
        let known = document.table("stages");
        stages.0.retain(|name, entry| {
            let exists = known.is_some_and(|known| known.get(name).is_some());
            if !exists {
                let names = known.iter().flat_map(|known| known.0.keys().map(String::as_str));
                let diagnostic = Diagnostic::error(format!("there is no stage '{name}'")).at(entry.key, "");
                diagnostics.push(diagnostic.hint(suggest::hint(name, "the stages are", names)));
            }
            exists
        });
    }
    document.overlay(table);
}

fn parsed(source: SourceId, argument: &str, key: &str, value: &str, diagnostics: &mut Diagnostics) -> Option<Table> {
    let value = value.trim();
    let bare = !value.starts_with(['"', '\'', '[', '{']) && DeValue::parse(value).is_err();
    // The key with some value in place of the real one.
    let line = format!("{key}=0");
    let Ok(document) = DeTable::parse(&line) else {
        let span = Span { source, start: 0, end: key.len() };
        let message = match key.trim() {
            "" => "there is no path before '='".to_owned(),
            key => format!("'{key}' is not the path of a setting"),
        };
        let hint = match key.split_once('[') {
            Some((list, _)) if key.trim_end().ends_with(']') => {
                format!("a list is set as a whole, as --set '{list}=[1, 2]'")
            }
            _ => EXAMPLE.to_owned(),
        };
        diagnostics.push(Diagnostic::error(message).at(span, "").hint(hint));
        return None;
    };
    if !bare {
        let told = diagnostics.len();
        let (table, sound) = syntax::parse(source, diagnostics);
        if !sound {
            let first = diagnostics.take_after(told).into_iter().next();
            diagnostics.extend(first.map(|first| not_toml(first, key, value)));
        }
        return sound.then_some(table);
    }
    let mut table = Table::of(source, 0, Spanned::into_inner(document));
    let start = argument.rfind(value).filter(|_| !value.is_empty()).unwrap_or(argument.len());
    let span = Span { source, start, end: start + value.len() };
    let mut place = &mut table;
    while let Some(entry) = place.0.values_mut().next() {
        if !matches!(entry.node.value, Value::Table(_)) {
            entry.node = Node { span, value: Value::String(value.to_owned()) };
            break;
        }
        let Value::Table(inner) = &mut entry.node.value else { break };
        place = inner;
    }
    Some(table)
}

/// What the parser says of a value that begins as TOML but is none, with the argument as it may have been meant.
fn not_toml(first: Diagnostic, key: &str, value: &str) -> Diagnostic {
    let closed = ["\"", "'", "]", "}", "\"]"].map(|end| Some(format!("{value}{end}")));
    let mut meant = std::iter::once(with_quotes(value)).chain(closed).flatten().map(|value| format!("{key}={value}"));
    let hint = match meant.find(|argument| DeTable::parse(argument).is_ok()) {
        Some(argument) => format!("write --set {}; unquoted, a shell takes quotes away", shell::quoted(&argument)),
        None => {
            let example = shell::quoted(r#"stages.export.allow=["mit", "isc"]"#).into_owned();
            format!("the value is read as TOML; single quotes keep a shell from changing it, as --set {example}")
        }
    };
    let shown: String = value.chars().take(SHOWN).collect();
    let more = if shown.len() < value.len() { "..." } else { "" };
    let what = format!("'{shown}{more}' is no TOML value");
    let message = if first.message.ends_with("is no TOML value") { what } else { format!("{what}: {}", first.message) };
    Diagnostic { message, hint: Some(hint), ..first }
}

/// Characters of a value that a message repeats.
const SHOWN: usize = 60;

/// The value with quotes around each word that needs them; `None` where a quote is open.
fn with_quotes(value: &str) -> Option<String> {
    let mut quoted = String::new();
    let mut rest = value;
    while let Some(next) = rest.chars().next() {
        let end = match next {
            '"' | '\'' => rest[1..].find(next)? + 2,
            '[' | ']' | '{' | '}' | ',' | '=' => 1,
            _ => rest.find(['"', '\'', '[', ']', '{', '}', ',', '=']).unwrap_or(rest.len()),
        };
        let (part, after) = rest.split_at(end);
        let word = part.trim();
        let is_word = !word.is_empty() && next != '"' && next != '\'' && !"[]{},=".contains(next);
        if is_word && !after.starts_with('=') && DeValue::parse(word).is_err() {
            quoted.push_str(&part.replacen(word, &Json::from(word).to_string(), 1));
        } else {
            quoted.push_str(part);
        }
        rest = after;
    }
    Some(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_without_quotes_get_them_and_nothing_else_does() {
        for (value, quoted) in [
            ("[mit]", Some(r#"["mit"]"#)),
            ("[mit, \"isc\", gpl 2.0]", Some(r#"["mit", "isc", "gpl 2.0"]"#)),
            ("{name = adamw, beta = 0.9}", Some(r#"{name = "adamw", beta = 0.9}"#)),
            ("[1, true, 2026-11-25]", Some("[1, true, 2026-11-25]")),
            ("[\"mit]", None),
        ] {
            assert_eq!(with_quotes(value).as_deref(), quoted);
        }
    }
}
