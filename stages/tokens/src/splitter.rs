//! A hand-written matcher of GPT-2's pattern: splits text into words, within which byte-pair encoding merges symbols.
//!
//! ```text
//! 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//! ```
//!
//! (Radford et al., 2019; the pattern of Hugging Face's `ByteLevel` with `use_regex`.) The first alternative that
//! matches wins, and every character starts some match, so the joined words are the text. In other words:
//!
//! 1. an apostrophe before `s t m d re ve ll` forms a word with these, whatever follows;
//! 2. letters, numbers, or characters that are neither nor whitespace form a word of one class, with one space before it;
//! 3. whitespace forms a word without its last character, which belongs to the next word; at the end of the text it is
//!    one word.
//!
//! The classes come from the tables of `regex-syntax`, on which the regular expressions of `tokenizers` and fastokens
//! are based too.

use std::sync::LazyLock;

use regex_syntax::hir::{Class as HirClass, HirKind};

/// The class of a character in the pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Class {
    Other,
    Letter,
    Number,
    Space,
}

/// The class of each code point.
static CLASSES: LazyLock<Box<[Class]>> = LazyLock::new(|| {
    let mut classes = vec![Class::Other; char::MAX as usize + 1];
    for (pattern, class) in [(r"\p{L}", Class::Letter), (r"\p{N}", Class::Number), (r"\s", Class::Space)] {
        let hir = regex_syntax::parse(pattern).expect("the three patterns are constant and parse");
        let HirKind::Class(HirClass::Unicode(unicode)) = hir.kind() else { continue };
        for range in unicode.ranges() {
            classes[range.start() as usize..=range.end() as usize].fill(class);
        }
    }
    classes.into()
});

/// Returns the words of `text`, in order; concatenated, they are `text`.
pub fn words(text: &str) -> Words<'_> {
    Words { rest: text, classes: &CLASSES }
}

/// Returns `text` in pieces of about `bytes`, cut at the ends of words: the words of the pieces are those of the text.
pub fn pieces(text: &str, bytes: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut end = rest.len();
        if end > bytes {
            let mut ends = words(rest).scan(0, |end, word| {
                *end += word.len();
                Some(*end)
            });
            end = ends.find(|end| *end >= bytes).unwrap_or(end);
        }
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// See [`words`].
#[derive(Debug, Clone)]
pub struct Words<'a> {
    rest: &'a str,
    classes: &'static [Class],
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let end = self.word_end()?;
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(word)
    }
}

impl Words<'_> {
    /// Returns the bytes of the first word of `rest`.
    fn word_end(&self) -> Option<usize> {
        let bytes = self.rest.as_bytes();
        if *bytes.first()? == b'\'' {
            let contraction = match bytes.get(1..) {
                Some([b's' | b't' | b'm' | b'd', ..]) => 2,
                Some([b'r' | b'v', b'e', ..] | [b'l', b'l', ..]) => 3,
                _ => 0,
            };
            if contraction > 0 {
                return Some(contraction);
            }
        }
        let (class, width) = self.class_at(0)?;
        if class != Class::Space {
            return Some(self.run_end(class, width));
        }
        match self.class_at(1) {
            Some((class, width)) if bytes[0] == b' ' && class != Class::Space => Some(self.run_end(class, 1 + width)),
            _ => Some(self.space_end(width)),
        }
    }

    /// Returns the class and width in bytes of the character at a byte position; `None` at the end or inside a character.
    fn class_at(&self, at: usize) -> Option<(Class, usize)> {
        match self.rest.as_bytes().get(at) {
            None => None,
            Some(byte) if byte.is_ascii() => Some((self.classes[usize::from(*byte)], 1)),
            Some(_) => {
                let character = self.rest.get(at..)?.chars().next()?;
                Some((self.classes[character as usize], character.len_utf8()))
            }
        }
    }

    /// Returns the end of the run of `class` that continues at `at`.
    fn run_end(&self, class: Class, mut at: usize) -> usize {
        while let Some((next, width)) = self.class_at(at) {
            if next != class {
                break;
            }
            at += width;
        }
        at
    }

    /// Returns the end of a word of whitespace whose first character has `width` bytes.
    fn space_end(&self, width: usize) -> usize {
        let (mut last, mut at) = (0, width);
        while let Some((Class::Space, width)) = self.class_at(at) {
            last = at;
            at += width;
        }
        // `\s+(?!\S)` excludes its last character if something follows; a single one is matched by `\s+`.
        if at < self.rest.len() && last > 0 { last } else { at }
    }
}
