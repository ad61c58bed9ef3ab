//! `--set stages.train.learning_rate=6e-4`: one setting of the command line, laid over all files.
//!
//! The argument is a line of TOML. A value that is no TOML is taken as a string, so that
//! `--set stages.export.source=data/*.json.gz` needs no second pair of quotes.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Node, Table, Value};
use super::source::{COMMAND_LINE, SourceId, Span};
use super::{suggest, syntax};

/// Reads one argument and lays it over the document.
pub(super) fn lay(document: &mut Table, argument: &str, folder: &Path, diagnostics: &mut Diagnostics) {
    let source = diagnostics.add_source(COMMAND_LINE, folder.to_owned(), argument.to_owned());
    let whole = Span { source, start: 0, end: argument.len() };
    let Some((key, value)) = argument.split_once('=').filter(|(key, _)| !key.trim_start().starts_with('[')) else {
        let diagnostic = Diagnostic::error(format!("'{argument}' is not PATH=VALUE")).at(whole, "");
        diagnostics.push(diagnostic.hint("as --set stages.train.steps=100".to_owned()));
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
    if !bare {
        let (table, sound) = syntax::parse(source, diagnostics);
        return sound.then_some(table);
    }
    // The key with some value in place of the word.
    let line = format!("{key}=0");
    let Ok(document) = DeTable::parse(&line) else {
        let span = Span { source, start: 0, end: key.len() };
        let diagnostic = Diagnostic::error(format!("'{key}' is not the path of a setting")).at(span, "");
        diagnostics.push(diagnostic.hint("as --set stages.train.steps=100".to_owned()));
        return None;
    };
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
