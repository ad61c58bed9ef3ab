//! `--set stages.train.learning_rate=6e-4`: one setting of the command line, which overrides all files.
//!
//! The argument is a line of TOML. A value that is not valid TOML is a string, so that
//! `--set stages.export.source=data/*.json.gz` needs no second pair of quotes, unless it starts like a TOML string, array or
//! table. A shell removes quotes: `["mit"]` arrives as `[mit]`.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Node, Table, Value};
use super::source::{COMMAND_LINE, SourceId, Span};
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
        return parsed.map_err(|error| diagnostics.push(invalid_value(error, value))).ok();
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

/// Describes the syntax error of a value.
fn invalid_value(error: Diagnostic, value: &str) -> Diagnostic {
    let example = shell::quoted(r#"stages.export.allow=["mit", "isc"]"#);
    let hint = format!("the value is parsed as TOML; quote it for the shell, for example --set {example}");
    Diagnostic { message: format!("invalid TOML value '{}'", contract::shortened(value)), hint: Some(hint), ..error }
}
