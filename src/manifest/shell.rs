//! Quoting of words for a shell.

use std::borrow::Cow;

/// Returns the text as one word of a POSIX shell, in single quotes if it needs them.
pub fn quoted(text: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_a_shell_would_change_are_quoted() {
        for (text, word) in [
            ("runs/m.toml", "runs/m.toml"),
            ("stages.a.rate=6e-4", "stages.a.rate=6e-4"),
            ("my run.toml", "'my run.toml'"),
            ("it's", r"'it'\''s'"),
            ("data/*.json", "'data/*.json'"),
            ("~/m", "'~/m'"),
            ("a=[\"b\"]", "'a=[\"b\"]'"),
            ("café", "'café'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(text), word);
        }
    }
}
