//! Converts TOML text to a [`Table`], or to its first syntax error.

use serde_json::Value as Json;
use toml::de::{DeTable, Error};

use super::diagnostic::Diagnostic;
use super::document::Table;
use super::source::{SourceId, Sources, Span};

/// Parses the text of a source.
///
/// # Errors
/// Returns the first syntax error, with the message of the `toml` crate except for missing values and strings without quotes.
pub(super) fn parse(source: SourceId, sources: &Sources) -> Result<Table, Diagnostic> {
    let text = &sources.get(source).text;
    match DeTable::parse(text) {
        Ok(document) => Ok(Table::of(source, document.into_inner())),
        Err(error) => Err(diagnostic(source, text, &error)),
    }
}

fn diagnostic(source: SourceId, text: &str, error: &Error) -> Diagnostic {
    let range = error.span().unwrap_or(text.len()..text.len());
    let span = Span { source, start: range.start.min(text.len()), end: range.end.min(text.len()) };
    let [before, word] = [text.get(..span.start), text.get(span.start..span.end)].map(Option::unwrap_or_default);
    let is_value = before.trim_end().ends_with(['=', '[', ',']);
    let is_word = word.starts_with(char::is_alphabetic) && !["true", "false"].contains(&word.to_lowercase().as_str());
    let (title, label) = match error.message().split_once(", expected ") {
        _ if word.trim().is_empty() && before.trim_end_matches([' ', '\t']).ends_with('=') => {
            ("missing value", "expected a value".to_owned())
        }
        _ if is_value && is_word => ("string values must be quoted", format!("expected {}", Json::from(word))),
        Some((title, "nothing")) => (title, String::new()),
        Some((title, expected)) => (title, format!("expected {expected}")),
        None => (error.message(), String::new()),
    };
    let diagnostic = Diagnostic::error(title).at(span, label);
    match first_of_key(text, span) {
        Some(first) => diagnostic.at(first, "first here"),
        None => diagnostic,
    }
}

/// Returns the first position of the key or header at `span`, if an earlier line already has it.
fn first_of_key(text: &str, span: Span) -> Option<Span> {
    let (before, after) = (text.get(..span.start)?, text.get(span.end..)?);
    let is_key = after.trim_start_matches([' ', '\t']).starts_with(['=', ']']);
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let key = key_of(text[start..].lines().next().filter(|_| is_key)?);
    let mut end = start;
    for line in before[..start].split_inclusive('\n').rev() {
        end -= line.len();
        if key_of(line) == key {
            let start = end + line.len() - line.trim_start().len();
            return Some(Span { source: span.source, start, end: start + key.len() });
        }
        // A key belongs to the section that precedes it.
        if line.starts_with('[') && !key.starts_with('[') {
            return None;
        }
    }
    None
}

/// Returns the key of a line, or the whole line of a header.
fn key_of(line: &str) -> &str {
    line.split('=').next().unwrap_or_default().trim()
}
