//! Syntax errors in the words of people: what the TOML parser met, and what was most likely meant.

use serde_json::Value as Json;

use super::diagnostic::Diagnostic;
use super::source::Span;

const OPEN_ARRAY: &str = "the array is not closed";
const OPEN_TABLE: &str = "the inline table is not closed";
const OPEN_STRING: &str = "the string is not closed";

/// An error of the parser at `span` of `text`.
pub(super) fn diagnostic(message: &str, span: Span, text: &str) -> Diagnostic {
    let (what, expected) = match message.split_once(", expected ") {
        Some((what, "nothing")) => (what, String::new()),
        Some((what, expected)) => (what, format!("expected {expected}")),
        None => (message, String::new()),
    };
    let word = text.get(span.start..span.end).unwrap_or_default();
    let before = text.get(..span.start).unwrap_or_default();
    let after = text.get(span.start..).unwrap_or_default();
    let met = after.chars().next();
    let plain = Diagnostic::error(what).at(span, expected);
    match what {
        "string values must be quoted" | "invalid boolean" => value(word, span),
        _ if what.starts_with("invalid float") && word.starts_with(char::is_alphabetic) => value(word, span),
        "key with no value" | "invalid unquoted key" if after.starts_with(':') => {
            colon(Span { end: span.start + 1, ..span })
        }
        "key with no value" if before.trim_end_matches(' ').ends_with(':') => {
            let end = before.trim_end_matches(' ').len();
            colon(Span { start: end - 1, end, ..span })
        }
        "key with no value" | "invalid unquoted key" | "invalid key-value pair" => plain.hint(key(before, after)),
        "unexpected key or value" => plain.hint(further(before, after)),
        "missing escaped value" => plain.hint(r"write \\ for a backslash, or the string in single quotes".to_owned()),
        "carriage return must be followed by newline" => {
            plain.hint("save it with lines that end in LF or CRLF".to_owned())
        }
        "unexpected leading zero" => plain.hint("write it without the zero in front".to_owned()),
        _ if what.starts_with("invalid ") && what.ends_with(" string") => match met {
            None if what.contains("multi-line basic") => unclosed(OPEN_STRING, before.rfind("\"\"\""), 3, plain),
            None if what.contains("multi-line literal") => unclosed(OPEN_STRING, before.rfind("'''"), 3, plain),
            None | Some('\n' | '\r') => Diagnostic { message: OPEN_STRING.to_owned(), ..plain },
            Some(control) if control.is_control() => {
                let diagnostic = Diagnostic::error("the string holds a control character").at(span, "");
                diagnostic.hint(format!("write it as \\u{:04x} between double quotes", u32::from(control)))
            }
            Some(_) => plain,
        },
        // The next setting or section, taken for an item.
        "missing comma between array elements" if begins_line(before) && statement(after) => unclosed(
            OPEN_ARRAY,
            last_open(before, '[', ']'),
            1,
            Diagnostic::error(what).at(span, "expected `]` before this"),
        ),
        "missing key for inline table element" | "missing comma between key-value pairs"
            if begins_line(before) && statement(after) =>
        {
            unclosed(
                OPEN_TABLE,
                last_open(before, '{', '}'),
                1,
                Diagnostic::error(what).at(span, "expected `}` before this"),
            )
        }
        _ => plain,
    }
}

/// Whether what the parser says after this means nothing: it takes the rest of the text for items of what is open.
pub(super) fn is_last(diagnostic: &Diagnostic) -> bool {
    [OPEN_ARRAY, OPEN_TABLE].contains(&diagnostic.message.as_str())
}

/// A colon after a key, as in YAML.
fn colon(span: Span) -> Diagnostic {
    let diagnostic = Diagnostic::error("a key is followed by '=', not by ':'").at(span, "");
    diagnostic.hint("write KEY = VALUE; a table is [KEY]".to_owned())
}

/// A word where a value should be.
fn value(word: &str, span: Span) -> Diagnostic {
    let diagnostic = Diagnostic::error(format!("'{word}' is no TOML value"));
    let curly = |c: char| "“”„‟‘’«»`".contains(c);
    match word.to_lowercase().as_str() {
        "" => Diagnostic::error("the key has no value").at(span, "expected a value"),
        boolean @ ("true" | "false") => diagnostic.at(span, "").hint(format!("write {boolean}")),
        "null" | "none" | "nil" => {
            diagnostic.at(span, "").hint("leave the line out: the setting then has its default".to_owned())
        }
        _ if word.starts_with(curly) => {
            let whole = word.chars().count() > 1 && word.ends_with(curly);
            let straight = Json::from(if whole { word.trim_matches(curly) } else { "..." });
            diagnostic.at(span, "these are not the quotes of TOML").hint(format!("write {straight}"))
        }
        _ if word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
            diagnostic.at(span, "neither a number nor a string in quotes")
        }
        _ => diagnostic.at(span, "a string needs quotes").hint(format!("write {}", Json::from(word))),
    }
}

/// What was meant where the parser wanted a key and `=`.
fn key(before: &str, after: &str) -> Option<String> {
    let line = before.rsplit('\n').next().unwrap_or_default().trim();
    if before.trim().is_empty() && after.starts_with('{') {
        return Some("this looks like JSON; a manifest is TOML, as manifests/quickstart.toml is".to_owned());
    }
    let rest = after.lines().next().unwrap_or_default().split('=').next().filter(|rest| after.len() > rest.len())?;
    let bare = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_- ".contains(c));
    let words = format!("{line} {}", rest.trim());
    (bare(line) && bare(rest.trim()) && after.contains('='))
        .then(|| format!("a key is one word, as {}", words.split_whitespace().collect::<Vec<_>>().join("_")))
}

/// What was meant by what stands after a value.
fn further(before: &str, after: &str) -> Option<String> {
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    if after.starts_with(',') && digit(before.chars().last()) && digit(after[1..].chars().next()) {
        return Some("the decimal point is '.'".to_owned());
    }
    if after.starts_with(char::is_alphanumeric) {
        if before.ends_with('\'') {
            return Some("a single quote ends the string: put one that holds it in double quotes".to_owned());
        }
        if before.ends_with('"') {
            return Some("a quote ends the string: write \\\" for one in it".to_owned());
        }
    }
    Some("each setting has a line of its own".to_owned())
}

/// With the place where what is not closed begins.
fn unclosed(message: &str, opened: Option<usize>, length: usize, diagnostic: Diagnostic) -> Diagnostic {
    let diagnostic = Diagnostic { message: message.to_owned(), ..diagnostic };
    match (opened, diagnostic.labels.first().map(|label| label.span)) {
        (Some(start), Some(Span { source, .. })) => {
            diagnostic.at(Span { source, start, end: start + length }, "opened here")
        }
        _ => diagnostic,
    }
}

/// The last of `open` before the end of the text that no `close` closes.
fn last_open(before: &str, open: char, close: char) -> Option<usize> {
    let mut closed = 0u32;
    before.rmatch_indices([open, close]).find_map(|(place, bracket)| {
        match (bracket.starts_with(close), closed) {
            (true, _) => closed += 1,
            (false, 0) => return Some(place),
            (false, _) => closed -= 1,
        }
        None
    })
}

fn begins_line(before: &str) -> bool {
    before.trim_end_matches([' ', '\t']).ends_with(['\n', '\r'])
}

fn statement(after: &str) -> bool {
    let line = after.lines().next().unwrap_or_default();
    line.starts_with('[') || line.split_once('=').is_some_and(|(key, _)| !key.contains(['"', '\'', ',']))
}
