//! Saying something on standard error. What nobody can read, as where the log is on a full disk, is no reason to stop.

/// Writes a line to standard error, as `eprintln!` does, and never fails.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(anstream::stderr(), $($text)*);
    }};
}

pub(crate) use say;
