//! Syntax errors in the words of people: what the TOML parser met, and what was most likely meant.

use serde_json::Value as Json;

use super::diagnostic::Diagnostic;
use super::source::Span;

/// After this the parser takes the rest of the text for items of the array.
pub(super) const OPEN_ARRAY: &str = "the array is not closed";

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
        "invalid basic string" | "invalid literal string" => match met {
            None | Some('\n' | '\r') => Diagnostic { message: OPEN_STRING.to_owned(), ..plain },
            Some(control) if control.is_control() => {
                let diagnostic = Diagnostic::error("the string holds a control character").at(span, "");
                diagnostic.hint(format!("write it as \\u{:04x} between double quotes", u32::from(control)))
            }
            Some(_) => plain,
        },
        "invalid multi-line basic string" => unclosed(OPEN_STRING, before.rfind("\"\"\""), 3, plain),
        "invalid multi-line literal string" => unclosed(OPEN_STRING, before.rfind("'''"), 3, plain),
        // The next setting or section, taken for an item.
        "missing comma between array elements" if begins_line(before) && statement(after) => {
            let opens = |start: &usize| before[..*start].trim_end_matches([' ', '\t']).ends_with('=');
            let opened = before.rmatch_indices('[').map(|(start, _)| start).find(opens);
            unclosed(OPEN_ARRAY, opened, 1, Diagnostic::error(what).at(span, "expected `]` before this"))
        }
        _ => plain,
    }
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
            let straight = Json::from(word.trim_matches(curly));
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

fn begins_line(before: &str) -> bool {
    before.trim_end_matches([' ', '\t']).ends_with(['\n', '\r'])
}

fn statement(after: &str) -> bool {
    let line = after.lines().next().unwrap_or_default();
    line.starts_with('[') || line.split_once('=').is_some_and(|(key, _)| !key.contains(['"', '\'', ',']))
}
