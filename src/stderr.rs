//! Prints to standard error. Control characters are escaped here ([`contract::printable`]), since names and values come from
//! files that anyone may have written. A failed write is ignored: there is nowhere left to report it.

use std::fmt;
use std::io::Write;

/// Prints a line to standard error, as `eprintln!` does, escaped, and never fails.
macro_rules! stderr {
    ($($text:tt)*) => { $crate::stderr::print(format_args!($($text)*)) };
}

pub(crate) use stderr;

/// Prints a line for [`stderr!`].
pub(crate) fn print(text: fmt::Arguments<'_>) {
    let _ = writeln!(anstream::stderr(), "{}", contract::printable(&text.to_string(), &['\t']));
}
