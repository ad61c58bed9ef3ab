//! Prints to standard error. Control characters are escaped here ([`contract::printable`]), because names and values come from untrusted
//! files. A failed write is ignored: there is nowhere left to report it.

use std::fmt;
use std::io::Write;

/// Prints a line to standard error like `eprintln!`, but escaped, and never fails.
macro_rules! stderr {
    ($($text:tt)*) => { $crate::stderr::print(format_args!($($text)*)) };
}

pub(crate) use stderr;

/// Prints a line for [`stderr!`].
pub(crate) fn print(text: fmt::Arguments<'_>) {
    let _ = writeln!(anstream::stderr(), "{}", contract::printable(&text.to_string(), &['\t']));
}
