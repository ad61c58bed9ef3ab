//! `--set stages.train.learning_rate=6e-4`: one setting of the command line, which overrides all files.
//!
//! The argument is a line of TOML. A value that is not valid TOML is a string, so that
//! `--set stages.export.source=data/*.json.gz` needs no second pair of quotes, unless it starts like a TOML string, array or
//! table. A shell removes quotes (`["mit"]` arrives as `[mit]`), so the hint writes the argument quoted for a shell.

use std::path::Path;

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Node, Table, Value};
use super::place::COMMAND_LINE;
use super::source::{SourceId, Span};
use super::{shell, suggest, syntax};

const EXAMPLE: &str = "for example --set stages.train.steps=100";

/// Parses one argument and applies it to the document.
pub(super) fn apply(document: &mut Table, argument: &str, directory: &Path, diagnostics: &mut Diagnostics) {
    let source = diagnostics.add_source(COMMAND_LINE, directory.to_owned(), argument.to_owned());
    let whole = Span { source, start: 0, end: argument.len() };
    let Some((key, value)) = argument.split_once('=').filter(|(key, _)| !key.trim_start().starts_with('[')) else {
        let diagnostic = Diagnostic::error(format!("invalid argument '{argument}': expected PATH=VALUE")).at(whole, "");
        diagnostics.push(diagnostic.hint(EXAMPLE.to_owned()));
        return;
    };
    let Some(mut table) = parsed(source, argument, key, value, diagnostics) else { return };
    if let Some(entry) = table.get("extends") {
        let diagnostic = Diagnostic::error("cannot set 'extends' on the command line").at(entry.key, "");
        diagnostics.push(diagnostic.hint("write a manifest that extends the base".to_owned()));
        return;
    }
    if let Some(Value::Table(stages)) = table.0.get_mut("stages").map(|entry| &mut entry.node.value) {
        let known = document.table("stages");
        stages.0.retain(|name, entry| {
            let exists = known.is_some_and(|known| known.get(name).is_some());
            if !exists {
                let names = known.iter().flat_map(|known| known.0.keys().map(String::as_str));
                let diagnostic = Diagnostic::error(format!("unknown stage '{name}'")).at(entry.key, "");
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
    // The key with a placeholder value.
    let line = format!("{key}=0");
    let Ok(document) = DeTable::parse(&line) else {
        let span = Span { source, start: 0, end: key.len() };
        let message = match key.trim() {
            "" => "missing path before '='".to_owned(),
            key => format!("invalid path '{key}' of a setting"),
        };
        let hint = match key.split_once('[') {
            Some((list, _)) if key.trim_end().ends_with(']') => {
                format!("set the whole list, for example --set '{list}=[1, 2]'")
            }
            _ => EXAMPLE.to_owned(),
        };
        diagnostics.push(Diagnostic::error(message).at(span, "").hint(hint));
        return None;
    };
    if !bare {
        let parsed = syntax::parse(source, diagnostics.sources());
        if parsed.is_complete {
            diagnostics.extend(parsed.problems);
            return Some(parsed.table);
        }
        let first = parsed.problems.into_iter().next();
        diagnostics.extend(first.map(|first| invalid_value(first, key, value)));
        return None;
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

/// The first syntax error of a value, with a hint that writes the argument as it was most likely meant.
fn invalid_value(first: Diagnostic, key: &str, value: &str) -> Diagnostic {
    let closed = ["\"", "'", "]", "}", "\"]"].map(|end| Some(format!("{value}{end}")));
    let mut candidates =
        std::iter::once(with_quotes(value)).chain(closed).flatten().map(|value| format!("{key}={value}"));
    let hint = match candidates.find(|argument| DeTable::parse(argument).is_ok()) {
        Some(argument) => format!(
            "write --set {}; without the outer quotes, a shell removes the inner ones",
            shell::quoted(&argument)
        ),
        None => {
            let example = shell::quoted(r#"stages.export.allow=["mit", "isc"]"#).into_owned();
            format!("the value is parsed as TOML; quote it for the shell, for example --set {example}")
        }
    };
    let shown: String = value.chars().take(SHOWN).collect();
    let more = if shown.len() < value.len() { "..." } else { "" };
    Diagnostic { message: format!("invalid TOML value '{shown}{more}'"), hint: Some(hint), ..first }
}

/// Characters of a value shown in a message.
const SHOWN: usize = 60;

/// Adds quotes around each word that needs them; `None` if a quote is not closed.
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
    fn only_unquoted_words_are_quoted() {
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
