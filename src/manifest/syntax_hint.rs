//! Hints for TOML syntax errors, from the text around them: what was most likely meant.
//!
//! The message is toml's own, except where the text shows a mistake that it cannot know: an unquoted string, YAML, an unclosed
//! bracket. Nothing here depends on the wording of toml's messages.

use serde_json::Value as Json;

use super::diagnostic::Diagnostic;
use super::source::Span;

/// Describes an error of the parser at `span` of `text`. Also whether it is the last one worth reporting: after an unclosed
/// bracket the parser reads the rest of the text as its content.
pub(super) fn diagnostic(message: &str, span: Span, text: &str) -> (Diagnostic, bool) {
    let [before, after] = [text.get(..span.start), text.get(span.start..)].map(Option::unwrap_or_default);
    if let Some((kind, close, open)) = unclosed(before, after) {
        let open = Span { start: open, end: open + 1, ..span };
        let diagnostic = Diagnostic::error(format!("unclosed {kind}"));
        return (diagnostic.at(span, format!("expected `{close}` before this")).at(open, "opened here"), true);
    }
    let line = before.rsplit('\n').next().unwrap_or_default().trim_end();
    let word = text.get(span.start..span.end).unwrap_or_default();
    let is_item = || open_bracket(before).is_some_and(|(_, bracket)| bracket == "[");
    let is_value = line.ends_with('=') || ((line.is_empty() || line.ends_with(['[', ','])) && is_item());
    // Of dates, and of numbers in several parts, the parser knows more.
    let is_word =
        |word: &str| !word.starts_with(is_number) || word.contains(|c: char| !is_number(c) && !"T:Z".contains(c));
    let diagnostic = match after.chars().next() {
        Some(':') if !line.contains('=') => colon(Span { end: span.start + 1, ..span }),
        _ if line.ends_with(':') && !line.contains('=') => {
            let end = before.trim_end().len();
            colon(Span { start: end - 1, end, ..span })
        }
        None | Some('\n' | '\r') if line.ends_with('=') => {
            Diagnostic::error("missing value").at(span, "expected a value")
        }
        Some(first) if is_value && !word.is_empty() && !"\"'[]{}=,#\n\r".contains(first) && is_word(word) => {
            unquoted(word, span)
        }
        Some(c) if c.is_control() && !c.is_whitespace() => {
            let diagnostic = Diagnostic::error("invalid control character").at(span, "");
            diagnostic.hint(format!("remove it, or write it as \\u{:04x} in double quotes", u32::from(c)))
        }
        first => {
            let (title, label) = match message.split_once(", expected ") {
                Some((title, "nothing")) => (title, String::new()),
                Some((title, expected)) => (title, format!("expected {expected}")),
                None => (message, String::new()),
            };
            let open = open_quotes(before, line).filter(|_| matches!(first, None | Some('\n' | '\r')));
            let diagnostic = match open {
                Some((start, length)) => {
                    let open = Span { start, end: start + length, ..span };
                    Diagnostic::error("unclosed string").at(span, label).at(open, "opened here")
                }
                None => Diagnostic::error(title).at(span, label),
            };
            diagnostic.hint(hint(before, line, after))
        }
    };
    (diagnostic, false)
}

/// The hint for an error between `before`, the last line of which is `line`, and `after`.
fn hint(before: &str, line: &str, after: &str) -> Option<String> {
    let mut letters = after.chars();
    let (first, second) = (letters.next(), letters.next());
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let hint = match first {
        Some('{') if before.trim().is_empty() => {
            "this looks like JSON; a manifest is TOML, like manifests/quickstart.toml"
        }
        _ if before.ends_with('\r') => "save the file with LF or CRLF line endings",
        _ if before.ends_with('\\') => r"write \\ for a backslash, or the string in single quotes",
        Some('0') if is_digit(second) => "remove the leading zero",
        Some(',') if is_digit(before.chars().last()) && is_digit(second) => "the decimal point is '.'",
        Some(c) if c.is_alphanumeric() && before.ends_with('\'') => {
            "a single quote ends the string: write a string that contains one in double quotes"
        }
        Some(c) if c.is_alphanumeric() && before.ends_with('"') => "a quote ends the string: write \\\" for one in it",
        _ => {
            let (rest, value) = after.lines().next()?.split_once('=')?;
            if line.contains('=') && !value.is_empty() {
                return Some("write each setting on its own line".to_owned());
            }
            let words = format!("{line} {rest}");
            let is_bare = words.chars().all(|c| c.is_ascii_alphanumeric() || "_- ".contains(c));
            let key = words.split_whitespace().collect::<Vec<_>>().join("_");
            return (is_bare && !line.is_empty() && !rest.trim().is_empty())
                .then(|| format!("a key is one word, like {key}"));
        }
    };
    Some(hint.to_owned())
}

/// A colon after a key, as in YAML.
fn colon(span: Span) -> Diagnostic {
    let diagnostic = Diagnostic::error("expected '=' after a key, found ':'").at(span, "");
    diagnostic.hint("write KEY = VALUE; a table is [KEY]".to_owned())
}

/// Whether a number may begin with `c`.
fn is_number(c: char) -> bool {
    c.is_ascii_digit() || "+-.".contains(c)
}

/// A word without quotes as a value.
fn unquoted(word: &str, span: Span) -> Diagnostic {
    let diagnostic = Diagnostic::error(format!("invalid TOML value '{word}'"));
    let is_curly = |c: char| "“”„‟‘’«»`".contains(c);
    match word.to_lowercase().as_str() {
        boolean @ ("true" | "false") => diagnostic.at(span, "").hint(format!("write {boolean}")),
        "null" | "none" | "nil" => diagnostic.at(span, "").hint("remove the line to use the default".to_owned()),
        _ if word.starts_with(is_curly) => {
            let is_closed = word.chars().count() > 1 && word.ends_with(is_curly);
            let straight = Json::from(if is_closed { word.trim_matches(is_curly) } else { "..." });
            diagnostic.at(span, "expected straight quotes").hint(format!("write {straight}"))
        }
        _ if word.starts_with(is_number) => diagnostic.at(span, "neither a number nor a string in quotes"),
        _ => diagnostic.at(span, "a string needs quotes").hint(format!("write {}", Json::from(word))),
    }
}

/// The bracket still open before an error at the start of a line that looks like the next setting or section: its kind, how it
/// is closed, and its position.
fn unclosed(before: &str, after: &str) -> Option<(&'static str, char, usize)> {
    let line = after.lines().next()?;
    let is_statement =
        line.starts_with('[') || line.split_once('=').is_some_and(|(key, _)| !key.contains(['"', '\'', ',']));
    if !is_statement || !before.trim_end_matches([' ', '\t']).ends_with(['\n', '\r']) {
        return None;
    }
    let (open, bracket) = open_bracket(before)?;
    Some(if bracket == "[" { ("array", ']', open) } else { ("inline table", '}', open) })
}

/// The position of the bracket of a value that is still open at the end of `before`, and the bracket.
fn open_bracket(before: &str) -> Option<(usize, &str)> {
    let mut closed = 0u32;
    let (open, bracket) = before.rmatch_indices(['[', ']', '{', '}']).find_map(|(place, bracket)| {
        match (bracket, closed) {
            ("]" | "}", _) => closed += 1,
            (_, 0) => return Some((place, bracket)),
            _ => closed -= 1,
        }
        None
    })?;
    let start = before[..open].rsplit('\n').next().unwrap_or_default();
    let is_of_value = start.contains('=') && !start.contains('#');
    is_of_value.then_some((open, bracket))
}

/// The position and length of the quotes of a string that is still open at the end of `line`, the last of `text`.
fn open_quotes(text: &str, line: &str) -> Option<(usize, usize)> {
    let is_open = |text: &str, quotes: &str| text.matches(quotes).count() % 2 == 1;
    if let Some(quotes) = ["\"\"\"", "'''"].into_iter().find(|quotes| is_open(text, quotes)) {
        return Some((text.rfind(quotes)?, quotes.len()));
    }
    let start = line.find(['"', '\''])?;
    let is_open = is_open(line, &line[start..=start]);
    is_open.then(|| (text.rfind(line).unwrap_or_default() + start, 1))
}
