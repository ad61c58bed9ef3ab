//! Applies `--set stages.train.learning_rate=6e-4`: one setting on the command line, which overrides all files.
//!
//! The argument is a line of TOML. A value that is not valid TOML is a string, so that
//! `--set stages.export.source=data/*.json.gz` needs no second pair of quotes, unless it starts like a TOML string, array or
//! table. A shell removes quotes: `["mit"]` arrives as `[mit]`.

use std::path::Path;

use toml::de::DeValue;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Table, Value};
use super::place::COMMAND_LINE;
use super::source::Span;
use super::{suggest, syntax};

/// The hint of an argument for a manifest that is not valid.
pub(super) const HINT: &str =
    "for example --set stages.train.steps=100, or --set 'stages.export.allow=[\"mit\", \"isc\"]'";

/// Parses one argument and applies it to the document; `hint` shows how to write one.
pub(super) fn apply(document: &mut Table, argument: &str, directory: &Path, hint: &str, diagnostics: &mut Diagnostics) {
    let line = line(argument);
    let text = line.clone().unwrap_or_else(|| argument.to_owned());
    let source = diagnostics.add_source(COMMAND_LINE, directory.to_owned(), text);
    let parsed = match line {
        Some(_) => syntax::parse(source, diagnostics.sources()),
        None => {
            let whole = Span { source, start: 0, end: argument.len() };
            Err(Diagnostic::error(format!("invalid argument '{argument}': expected PATH=VALUE")).at(whole, ""))
        }
    };
    let mut table = match parsed {
        Ok(table) => table,
        Err(error) => return diagnostics.push(error.hint(hint.to_owned())),
    };
    if let Some(entry) = table.get("extends") {
        let diagnostic = Diagnostic::error("cannot set 'extends' on the command line").at(entry.key, "");
        return diagnostics.push(diagnostic.hint("write a manifest that extends the base".to_owned()));
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

/// Returns the argument as a line of TOML; `None` if it does not have the form `PATH=VALUE`.
fn line(argument: &str) -> Option<String> {
    let (key, value) = argument.split_once('=').filter(|(key, _)| !key.trim_start().starts_with('['))?;
    let value = value.trim();
    let is_string = !value.starts_with(['"', '\'', '[', '{']) && DeValue::parse(value).is_err();
    Some(if is_string { format!("{key}={}", toml::Value::from(value)) } else { argument.to_owned() })
}
