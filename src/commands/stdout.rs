//! Standard output. Control characters are escaped here ([`contract::printable`]), because names, rows and reports come from untrusted
//! files.
//!
//! A reader that closes its end of the pipe (`pipeline sql ... | head`) ends a command without an error. A broken pipe elsewhere
//! does not: errors of standard output are marked by their type, not recognised by their kind or text.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

use crate::exit::Exit;

/// Writes to standard output and marks its errors.
pub(super) struct Stdout<W = anstream::AutoStream<io::Stdout>> {
    output: W,
    /// Whether control characters are escaped.
    escapes: bool,
}

/// Returns standard output for text; control characters other than tabs and line feeds are escaped.
pub(super) fn stdout() -> Stdout {
    Stdout { output: anstream::stdout(), escapes: true }
}

/// Returns standard output for text with colours, whose writer escapes names and values itself.
pub(super) fn coloured_stdout() -> Stdout {
    Stdout { output: anstream::stdout(), escapes: false }
}

/// Returns standard output for bytes, written unchanged.
pub(super) fn raw_stdout() -> Stdout<io::Stdout> {
    Stdout { output: io::stdout(), escapes: false }
}

/// Prints a value as indented JSON.
pub(super) fn print_json(value: &impl Serialize) -> io::Result<Exit> {
    writeln!(raw_stdout(), "{}", json_text(serde_json::to_string_pretty(value)?))?;
    Ok(Exit::Done)
}

/// Escapes the control characters that JSON permits in strings.
pub(super) fn json_text(text: String) -> String {
    let steers = |c: char| c.is_control() && c != '\n';
    if !text.contains(steers) {
        return text;
    }
    text.chars().map(|c| if steers(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

/// An error of standard output.
#[derive(Debug)]
pub(super) struct NotPrinted(pub(super) io::Error);

impl NotPrinted {
    /// Marks an error of standard output; its kind is preserved.
    pub(super) fn mark(error: io::Error) -> io::Error {
        io::Error::new(error.kind(), Self(error))
    }
}

impl fmt::Display for NotPrinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write to standard output: {}", self.0)
    }
}

impl Error for NotPrinted {}

impl<W: Write> Write for Stdout<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.escapes {
            let text = contract::printable(&String::from_utf8_lossy(bytes), &['\t']);
            return self.output.write_all(text.as_bytes()).map(|()| bytes.len()).map_err(NotPrinted::mark);
        }
        self.output.write(bytes).map_err(NotPrinted::mark)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush().map_err(NotPrinted::mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::CommandError;

    /// A writer that fails with this kind.
    struct Fails(io::ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_broken_pipe_ends_a_command_quietly_only_where_it_is_that_of_standard_output() {
        let end = |error: io::Error| {
            let error = CommandError::from(error);
            (error.exit(), error.to_string())
        };
        let printed = |kind| writeln!(Stdout { output: Fails(kind), escapes: true }, "text").unwrap_err();
        assert_eq!(end(printed(io::ErrorKind::BrokenPipe)), (Exit::Done, String::new()));
        let (exit, text) = end(printed(io::ErrorKind::StorageFull));
        assert!(exit == Exit::StageFailed && text.contains("cannot write to standard output: "), "{text}");
        let (exit, text) = end(io::ErrorKind::BrokenPipe.into());
        assert!(exit == Exit::StageFailed && !text.contains("standard output"), "{text}");
    }

    #[test]
    fn control_characters_are_escaped_in_text_and_in_json() {
        let mut bytes = Vec::new();
        let (hostile, accented) = ("a\u{1b}[2J\u{9b}", "\u{e9}");
        writeln!(Stdout { output: &mut bytes, escapes: true }, "{hostile}\t{accented:>6}").unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), "a\\u{1b}[2J\\u{9b}\t     \u{e9}\n");
        assert_eq!(json_text("\"\u{9b}\u{7f}\"\n".to_owned()), "\"\\u009b\\u007f\"\n");
    }
}
