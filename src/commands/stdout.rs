//! Standard output, with errors that are not mistaken for those of any other file.
//!
//! A reader that closes its end of the pipe (`pipeline sql ... | head`) ends a command quietly. No other broken pipe does, so
//! what decides is where the error comes from, not its kind or its text.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

/// Writes to standard output and marks its errors.
pub(super) struct Stdout<W = anstream::AutoStream<io::Stdout>>(W);

/// Standard output for text: colour goes where a terminal shows it.
pub(super) fn stdout() -> Stdout {
    Stdout(anstream::stdout())
}

/// Standard output for bytes as they are.
pub(super) fn raw_stdout() -> Stdout<io::Stdout> {
    Stdout(io::stdout())
}

/// An error of standard output.
#[derive(Debug)]
pub(super) struct NotPrinted(pub(super) io::Error);

impl NotPrinted {
    /// Marks an error of standard output; its kind stays.
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
        self.0.write(bytes).map_err(NotPrinted::mark)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(NotPrinted::mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::CommandError;
    use crate::exit::Exit;

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
        let printed = |kind| writeln!(Stdout(Fails(kind)), "text").unwrap_err();
        assert_eq!(end(printed(io::ErrorKind::BrokenPipe)), (Exit::Done, String::new()));
        let (exit, text) = end(printed(io::ErrorKind::StorageFull));
        assert!(exit == Exit::StageFailed && text.contains("cannot write to standard output: "), "{text}");
        let (exit, text) = end(io::ErrorKind::BrokenPipe.into());
        assert!(exit == Exit::StageFailed && !text.contains("standard output"), "{text}");
    }
}
