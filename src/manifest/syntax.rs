//! TOML text to a [`Table`]: every syntax error of the text.

use toml::de::{DeTable, Error};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Entry, Table, Value};
use super::slip;
use super::source::{SourceId, Span};

/// The message of the one error that leaves the rest of a document meaningful.
const DUPLICATE: &str = "duplicate key";

/// The message for a key that has a value and is used as a table, up to the type of the value.
const EXTENDED: &str = "cannot extend value of type ";

/// Syntax errors told of one text.
const MOST: usize = 100;

/// The document of a text, as far as it could be read, and whether it is sound: a duplicate key leaves the rest
/// meaningful, any other syntax error does not.
pub(super) fn parse(source: SourceId, diagnostics: &mut Diagnostics) -> (Table, bool) {
    let text = diagnostics.source(source).text.clone();
    let (document, errors) = DeTable::parse_recoverable(&text);
    let table = Table::of(source, 0, document.into_inner());
    let sound = errors.iter().all(|error| error.message() == DUPLICATE);
    let mut last_line = None;
    let mut twice_declared: Option<usize> = None;
    let mut errors: Vec<_> = errors.into_iter().take(MOST).collect();
    errors.sort_by_key(|error| error.span().map_or(text.len(), |span| span.start));
    for error in errors {
        let duplicate = error.message() == DUPLICATE;
        let start = error.span().map_or(text.len(), |span| span.start).min(text.len());
        // The keys of a table that is declared twice collide with those of the first.
        let same_table = |header: usize| text.get(header..start).is_some_and(|between| !between.contains("\n["));
        if duplicate && twice_declared.is_some_and(same_table) {
            continue;
        }
        if duplicate && header_at(&text, start).is_some() {
            twice_declared = Some(start);
        }
        let diagnostic = described(&error, source, &text, &table);
        // What follows on the same line is mostly a consequence of the first.
        let line = diagnostic.labels.first().map(|label| diagnostics.sources().place(label.span).line);
        if duplicate || last_line.is_none() || line != last_line {
            diagnostics.push(diagnostic);
        }
        last_line = line;
        if diagnostics.list().last().is_some_and(slip::is_last) {
            break;
        }
    }
    (table, sound)
}

fn described(error: &Error, source: SourceId, text: &str, table: &Table) -> Diagnostic {
    let range = error.span().unwrap_or(text.len()..text.len());
    let span = Span { source, start: range.start.min(text.len()), end: range.end.min(text.len()) };
    if let Some(rest) = error.message().strip_prefix(EXTENDED) {
        let ty = rest.split_once(" with a dotted key").map_or(rest, |(ty, _)| ty);
        let key = text.get(span.start..span.end).unwrap_or_default();
        let article = if ty.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        let diagnostic = Diagnostic::error(format!("'{key}' is {article} {ty} already: it takes no further keys"));
        let diagnostic = diagnostic.at(span, "");
        return match first_key(text, table, span) {
            Some(first) => diagnostic.at(first, "first here"),
            None => diagnostic,
        };
    }
    if error.message() != DUPLICATE {
        return slip::diagnostic(error.message(), span, text);
    }
    let key = text.get(span.start..span.end).unwrap_or_default().trim_matches(['"', '\'']);
    let message = match header_at(text, span.start).map(|header| header.trim_matches(['[', ']'])) {
        Some(header) if header.strip_prefix("stages.") == Some(key) => format!("stage '{key}' is declared twice"),
        _ => format!("duplicate key '{key}'"),
    };
    let diagnostic = Diagnostic::error(message).at(span, "again here");
    match first_header(text, span).or_else(|| first_key(text, table, span)) {
        Some(first) => diagnostic.at(first, "first here"),
        None => diagnostic,
    }
}

/// The table header on the line of `place`, if there is one.
fn header_at(text: &str, place: usize) -> Option<&str> {
    let line_start = text.get(..place)?.rfind('\n').map_or(0, |end| end + 1);
    let line = text[line_start..].lines().next()?.split('#').next()?.trim();
    line.starts_with('[').then_some(line)
}

/// The same table header on an earlier line.
fn first_header(text: &str, again: Span) -> Option<Span> {
    let header = header_at(text, again.start)?;
    let line_start = text[..again.start].rfind('\n').map_or(0, |end| end + 1);
    let mut start = 0;
    for line in text[..line_start].split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        let earlier = line.split('#').next()?.trim();
        if earlier.starts_with('[') && earlier.trim_matches(['[', ']']) == header.trim_matches(['[', ']']) {
            let start = start + indent;
            return Some(Span { source: again.source, start, end: start + earlier.len() });
        }
        start += line.len();
    }
    None
}

/// The last key before `again` of the same name under the same header: the table kept the first.
fn first_key(text: &str, table: &Table, again: Span) -> Option<Span> {
    let again_name = text.get(again.start..again.end)?.trim_matches(['"', '\'']);
    let mut found: Option<Span> = None;
    let mut tables = vec![table];
    while let Some(table) = tables.pop() {
        for (name, Entry { key, node }) in &table.0 {
            let earlier = key.end <= again.start && name == again_name;
            if earlier && found.is_none_or(|found| found < *key) {
                found = Some(*key);
            }
            match &node.value {
                Value::Table(table) => tables.push(table),
                Value::Array(items) => tables.extend(items.iter().filter_map(|item| item.as_table())),
                _ => {}
            }
        }
    }
    let between = |first: &Span| text.get(first.end..again.start).is_some_and(|text| !text.contains("\n["));
    found.filter(between)
}
