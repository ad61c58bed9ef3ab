//! Untrusted text, escaped and shortened for a terminal.

use std::borrow::Cow;

use crate::figures::counted;

/// Returns the string with every control character escaped as in Rust (`\u{1b}`, `\r`), except for line feeds and those in `kept`: names,
/// rows and the output of programs are untrusted, and must not control a terminal.
pub fn printable(text: &str, kept: &[char]) -> String {
    let steers = |c: char| c.is_control() && c != '\n' && !kept.contains(&c);
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        match steers(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
        shown
    })
}

/// The maximum number of characters of a value that is shown completely.
const WHOLE: usize = 100;
/// The minimum number of characters to omit, so that the note about them is shorter.
const LEFT_OUT: usize = 40;
/// The number of characters shown before the first difference between two values.
const BEFORE: usize = 20;

/// Formats a value for a message: its beginning and its length if it has more than 100 characters.
pub fn shortened(text: &str) -> Cow<'_, str> {
    shortened_to(text, WHOLE)
}

/// Formats a string that may contain values: its beginning and its length if it has more than `whole` characters.
pub fn shortened_to(text: &str, whole: usize) -> Cow<'_, str> {
    // A character has at least one byte.
    if text.len() <= whole { text.into() } else { cut(text, 0, text.chars().count(), whole) }
}

/// Formats two different values for a message: if one is longer than a line, both are shown from shortly before their first difference.
pub fn shortened_pair<'t>(old: &'t str, new: &'t str) -> [Cow<'t, str>; 2] {
    let lengths = [old, new].map(|text| text.chars().count());
    if lengths.iter().all(|length| *length <= WHOLE) {
        return [old.into(), new.into()];
    }
    let common = old.chars().zip(new.chars()).take_while(|(one, other)| one == other).count();
    let from = if common > 2 * BEFORE { common - BEFORE } else { 0 };
    [cut(old, from, lengths[0], WHOLE), cut(new, from, lengths[1], WHOLE)]
}

/// Returns the part of `text`, of `length` characters, from the character `from` on.
fn cut(text: &str, from: usize, length: usize, whole: usize) -> Cow<'_, str> {
    let before = if from > 0 { "..." } else { "" };
    let rest = length.saturating_sub(from);
    let place = |characters: usize| text.char_indices().nth(characters).map_or(text.len(), |(place, _)| place);
    match (from, rest > whole) {
        (0, false) => text.into(),
        (_, false) => format!("{before}{}", &text[place(from)..]).into(),
        (_, true) => {
            let shown = &text[place(from)..place(from + whole.saturating_sub(LEFT_OUT))];
            format!("{before}{shown}... ({})", counted(length as u64, "character")).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LEFT_OUT, WHOLE, printable, shortened, shortened_pair};

    const SHOWN: usize = WHOLE - LEFT_OUT;

    #[test]
    fn long_values_are_shown_by_their_beginning_and_length() {
        for length in [0, WHOLE - 1, WHOLE] {
            let text = "ß".repeat(length);
            assert_eq!(shortened(&text), text);
        }
        let (long, head) = ("ß".repeat(WHOLE + 1), "ß".repeat(SHOWN));
        assert_eq!(shortened(&long), format!("{head}... (101 characters)"));
        assert_eq!(shortened(&"a".repeat(100_000)), format!("{}... (100,000 characters)", "a".repeat(SHOWN)));
    }

    #[test]
    fn two_long_values_are_shown_where_they_differ() {
        assert_eq!(shortened_pair("5e-4", "6e-4"), ["5e-4", "6e-4"]);
        let same = "a".repeat(100_000);
        let [old, new] = shortened_pair(&same, &(same.clone() + "b")).map(String::from);
        assert_eq!([old.as_str(), new.as_str()], ["...aaaaaaaaaaaaaaaaaaaa", "...aaaaaaaaaaaaaaaaaaaab"]);
        let [old, new] = shortened_pair("x", &same).map(String::from);
        assert_eq!((old.as_str(), new), ("x", format!("{}... (100,000 characters)", "a".repeat(SHOWN))));
    }

    #[test]
    fn what_steers_is_spelled_out() {
        assert_eq!(printable("a\u{1b}[2J\r\u{9b}\tß\n", &[]), "a\\u{1b}[2J\\r\\u{9b}\\tß\n");
        assert_eq!(printable("\ta\r", &['\t']), "\ta\\r");
    }
}
