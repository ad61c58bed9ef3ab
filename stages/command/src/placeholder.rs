//! Placeholders in arguments, in the program's name and in values of environment variables.
//!
//! | placeholder | replaced by |
//! |---|---|
//! | `{input:PORT}` | the directory of that input; `{input}` is that of the port `input` |
//! | `{output:PORT}` | the directory of that output; `{output}` if there is only one |
//! | `{source:NAME}` | the path of the file in `files` that ends in `NAME`; `{source}` if there is only one |
//! | `{{`, `}}` | a brace |
//!
//! Anything else in braces is an error, so that a typo does not reach the program.

use std::str::FromStr;

/// A string with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

/// The path that replaces a placeholder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An input port.
    Input(String),
    /// An output port; the only one if `None`.
    Output(Option<String>),
    /// A file of `files`, by the end of its path; the only one if `None`.
    Source(Option<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(Place),
}

/// The port of `{input}`.
pub const INPUT: &str = "input";

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal += &rest[..at];
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                literal += brace;
                rest = after;
                continue;
            }
            let (inside, after) = match rest.split_once('}') {
                Some(parts) if brace == "{" => parts,
                _ => return Err(format!("unmatched '{brace}'")),
            };
            pieces.push(Piece::Text(std::mem::take(&mut literal)));
            pieces.push(Piece::Place(inside.parse()?));
            rest = after;
        }
        literal += rest;
        pieces.push(Piece::Text(literal));
        Ok(Self(pieces))
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(inside: &str) -> Result<Self, String> {
        let (noun, name) = match inside.split_once(':') {
            Some((noun, name)) if !name.is_empty() => (noun, Some(name.to_owned())),
            Some(_) => return Err(format!("placeholder '{{{inside}}}' has no name")),
            None => (inside, None),
        };
        match noun {
            "input" => Ok(Self::Input(name.unwrap_or_else(|| INPUT.to_owned()))),
            "output" => Ok(Self::Output(name)),
            "source" => Ok(Self::Source(name)),
            _ => Err(format!("unknown placeholder '{{{inside}}}'")),
        }
    }
}

impl Template {
    /// Returns its placeholders, in order.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Place(place) => Some(place),
            Piece::Text(_) => None,
        })
    }

    /// Returns the string with each placeholder replaced.
    ///
    /// # Errors
    /// Returns the first error of `value`.
    pub fn fill<E>(&self, mut value: impl FnMut(&Place) -> Result<String, E>) -> Result<String, E> {
        self.0.iter().try_fold(String::new(), |text, piece| match piece {
            Piece::Text(literal) => Ok(text + literal),
            Piece::Place(place) => Ok(text + &value(place)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, String> {
        let template: Template = text.parse()?;
        template.fill(|place| Ok(format!("<{place:?}>")))
    }

    #[test]
    fn placeholders_are_replaced_and_doubled_braces_are_braces() {
        assert_eq!(filled("a{input:x}/b{{c}}").unwrap(), "a<Input(\"x\")>/b{c}");
        assert_eq!(filled("{input}{output}{source}").unwrap(), "<Input(\"input\")><Output(None)><Source(None)>");
        assert_eq!(filled("plain").unwrap(), "plain");
        assert_eq!(filled("{source:a/b.py}").unwrap(), "<Source(Some(\"a/b.py\"))>");
    }

    #[test]
    fn anything_else_in_braces_is_an_error() {
        assert_eq!(filled("{inptu:x}").unwrap_err(), "unknown placeholder '{inptu:x}'");
        assert_eq!(filled("{input:}").unwrap_err(), "placeholder '{input:}' has no name");
        assert_eq!(filled("a { b").unwrap_err(), "unmatched '{'");
        assert_eq!(filled("a } b").unwrap_err(), "unmatched '}'");
    }
}
