//! Words of a command line, as a shell needs them quoted.

use std::borrow::Cow;

/// The text as one word of a POSIX shell: as it is where that is one, else in single quotes.
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
    fn what_a_shell_would_change_is_quoted() {
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
