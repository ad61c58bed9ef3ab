//! TOML text to a [`Table`], with every syntax error.

use toml::de::DeTable;

use super::diagnostic::Diagnostic;
use super::document::{Entry, Table, Value};
use super::source::{SourceId, Sources, Span};
use super::syntax_hint;

/// Syntax errors reported of one text.
const MOST: usize = 100;

/// A parsed text.
pub(super) struct Parsed {
    /// The document, as far as it could be parsed.
    pub table: Table,
    pub problems: Vec<Diagnostic>,
    /// Whether the document is complete. A duplicate key leaves the rest meaningful, any other syntax error does not.
    pub is_complete: bool,
}

/// Parses a text.
pub(super) fn parse(source: SourceId, sources: &Sources) -> Parsed {
    let text = &sources.get(source).text;
    let (document, errors) = DeTable::parse_recoverable(text);
    let table = Table::of(source, 0, document.into_inner());
    let mut errors: Vec<_> = errors
        .into_iter()
        .map(|error| {
            let range = error.span().unwrap_or(text.len()..text.len());
            let span = Span { source, start: range.start.min(text.len()), end: range.end.min(text.len()) };
            (span, error)
        })
        .collect();
    errors.sort_by_key(|(span, _)| *span);
    let mut parsed = Parsed { table, problems: Vec::new(), is_complete: errors.len() <= MOST };
    let (mut last_line, mut repeated_header): (_, Option<usize>) = (None, None);
    for (span, error) in errors.into_iter().take(MOST) {
        let in_repeated = repeated_header.is_some_and(|header| is_same_section(text, header, span));
        let key = KeyAgain::find(text, &parsed.table, span, in_repeated);
        let is_duplicate = key.as_ref().is_some_and(|key| !key.extends);
        parsed.is_complete &= is_duplicate;
        let line = sources.place(span).line;
        // The keys of a table that is declared twice are duplicates of the first one's, and one mistake often causes further
        // errors on its line.
        let is_consequence = if is_duplicate { in_repeated } else { last_line == Some(line) };
        last_line = Some(line);
        if is_consequence {
            continue;
        }
        if is_duplicate && header(text, span).is_some() {
            repeated_header = Some(span.start);
        }
        let (diagnostic, is_last) = match key {
            Some(key) => (key.diagnostic(text, span), false),
            None => syntax_hint::diagnostic(error.message(), span, text),
        };
        parsed.problems.push(diagnostic);
        if is_last {
            break;
        }
    }
    parsed
}

/// A key that is written again.
struct KeyAgain {
    /// Where it is written first.
    first: Span,
    /// Whether it is used as a table (`key.inner = 1`), although its value is none.
    extends: bool,
}

impl KeyAgain {
    /// Returns the key at `span` if it is one that is written again. `in_repeated` says that it is in a table that is declared
    /// again, which has the keys of the first declaration too.
    fn find(text: &str, table: &Table, span: Span, in_repeated: bool) -> Option<Self> {
        let blank = [' ', '\t'];
        let before = text.get(..span.start)?.trim_end_matches(blank);
        let after = text.get(span.end..)?.trim_start_matches(blank);
        let header = header(text, span);
        let begins = before.is_empty() || before.ends_with(['\n', '[', '{', ',', '.']);
        let ends = after.starts_with(['=', '.']) || (after.starts_with(']') && header.is_some());
        let first = match header {
            _ if !begins || !ends || span.start == span.end => None,
            Some(header) if after.starts_with(']') => first_header(text, header, span),
            Some(header) => first_of_header(header, table),
            None => first_key(text, table, span).filter(|first| in_repeated || is_same_section(text, first.end, span)),
        };
        let first = first.filter(|first| first.end <= span.start)?;
        Some(Self { first, extends: after.starts_with('.') })
    }

    fn diagnostic(&self, text: &str, span: Span) -> Diagnostic {
        let key = text.get(span.start..span.end).unwrap_or_default().trim_matches(['"', '\'']);
        let stage = header(text, span).and_then(|header| header.strip_prefix("stages."));
        let (message, label) = match (self.extends, stage) {
            (true, _) => (format!("'{key}' has a value already, so it cannot have keys"), ""),
            (false, Some(stage)) if stage == key => (format!("stage '{key}' is declared twice"), "again here"),
            (false, _) => (format!("duplicate key '{key}'"), "again here"),
        };
        Diagnostic::error(message).at(span, label).at(self.first, "first here")
    }
}

/// Returns the path of a table header up to the key at `span`, if that is in one.
fn header(text: &str, span: Span) -> Option<&str> {
    let path = text.get(..span.end)?.rsplit('\n').next()?.trim_start();
    path.starts_with('[').then(|| path.trim_start_matches('[').trim_start())
}

/// Returns the keys of the path of a header.
fn keys(header: &str) -> impl Iterator<Item = &str> {
    header.split('.').map(|key| key.trim().trim_matches(['"', '\'']))
}

/// Returns the key that a header names, as far as the table has it.
fn first_of_header(header: &str, table: &Table) -> Option<Span> {
    let mut keys = keys(header);
    let first = table.get(keys.next()?)?;
    keys.try_fold(first, |entry, key| entry.node.as_table()?.get(key)).map(|entry| entry.key)
}

/// Returns the last key of the first header of this path before the line of `again`: the table has the key of the last one.
fn first_header(text: &str, path: &str, again: Span) -> Option<Span> {
    let mut end = 0;
    for line in text[..again.start].split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        end += line.len();
        let Some((header, _)) = line.trim_start().split_once(']').filter(|(header, _)| header.starts_with('[')) else {
            continue;
        };
        let header = header.trim_start_matches('[');
        if keys(header).eq(keys(path)) {
            let key = header.rsplit('.').next()?.trim();
            let start = end - line.len() + line.find(header)? + header.rfind(key)?;
            return Some(Span { start, end: start + key.len(), ..again });
        }
    }
    None
}

/// Returns whether there is no header between these places.
fn is_same_section(text: &str, start: usize, span: Span) -> bool {
    text.get(start..span.start).is_some_and(|between| !between.contains("\n["))
}

/// Returns the last key of the same name before `again`: the table keeps the first.
fn first_key(text: &str, table: &Table, again: Span) -> Option<Span> {
    let name = text.get(again.start..again.end)?.trim_matches(['"', '\'']);
    let mut found: Option<Span> = None;
    let mut tables = vec![table];
    while let Some(table) = tables.pop() {
        for (key, Entry { key: span, node }) in &table.0 {
            if key == name && span.end <= again.start {
                found = found.max(Some(*span));
            }
            match &node.value {
                Value::Table(table) => tables.push(table),
                Value::Array(items) => tables.extend(items.iter().filter_map(|item| item.as_table())),
                _ => {}
            }
        }
    }
    found
}
