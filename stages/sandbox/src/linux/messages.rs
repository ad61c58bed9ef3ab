//! What the server and the checker send to the host, and the nonce by which it knows the checker.
//!
//! | from | message |
//! |---|---|
//! | server, when it starts | `ready`, or a layer that cannot be applied ([`missing`]) |
//! | server, after a program | [`Report`] |
//! | checker | the compiled tests ([`split_code`]), and the line with the nonce ([`verdict`]) |

use std::{fs::File, io::Read};

use serde::Deserialize;
use serde_json::json;

use super::enter::step;
use crate::{Broken, Failure, Layer, Missing, Verdict};

/// The server's report on a program's processes.
#[derive(Deserialize)]
pub(super) struct Report {
    pub candidate: Option<Process>,
    pub checker: Process,
}

/// The wait status of the first process, and the CPU time of all processes.
#[derive(Deserialize)]
pub(super) struct Process {
    pub status: i32,
    pub seconds: f64,
}

impl Process {
    /// Returns whether this signal ended it.
    pub fn ended_by(&self, signal: i32) -> bool {
        libc::WIFSIGNALED(self.status) && libc::WTERMSIG(self.status) == signal
    }
}

/// Splits what the checker wrote into the code of the tests, which it sent before it read anything of the candidate's, and the rest.
pub(super) fn split_code(text: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let Some((length, rest)) = text.split_first_chunk() else { return (None, text) };
    let code = usize::try_from(u64::from_le_bytes(*length)).ok().and_then(|length| rest.split_at_checked(length));
    code.map_or((None, &[]), |(code, rest)| ((!code.is_empty()).then_some(code), rest))
}

/// Returns the verdict from the checker's line and its wait status, within the limits.
pub(super) fn verdict(nonce: &str, line: &[u8], status: i32) -> Result<Verdict, Broken> {
    let ended = |detail: &str| Ok(Verdict::Failed { failure: Failure::Ended, detail: detail.into() });
    let Ok((sent, result, detail)) = serde_json::from_slice::<(String, String, String)>(line) else {
        return ended("the tests ended without a verdict");
    };
    if sent != nonce {
        return ended("the verdict is forged");
    }
    match result.as_str() {
        "passed" if status == 0 => Ok(Verdict::Passed),
        "passed" => ended("the tests' process failed"),
        "tests" => Err(Broken::Tests(detail)),
        other => match serde_json::from_value(json!(other)) {
            Ok(failure) => Ok(Verdict::Failed { failure, detail }),
            Err(_) => ended("the verdict is forged"),
        },
    }
}

/// Reads `layer: number of the error: reason`; `None` if it is something else, or an error that may pass.
pub(super) fn missing(text: &str) -> Option<Missing> {
    let (name, rest) = text.split_once(": ")?;
    let (number, reason) = rest.split_once(": ")?;
    let layer = Layer::ALL.into_iter().find(|layer| layer.name() == name)?;
    let error = std::io::Error::from_raw_os_error(number.parse().ok()?);
    step::is_refusal(&error).then(|| Missing { layer, reason: reason.to_owned() })
}

/// Returns a random number of 128 bits in hexadecimal.
pub(super) fn nonce() -> Result<String, Broken> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(Broken::system("cannot read /dev/urandom"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_by_the_kernel_is_a_missing_layer() {
        let refused = missing("seccomp: 22: Invalid argument").unwrap();
        assert_eq!((refused.layer, refused.reason.as_str()), (Layer::Seccomp, "Invalid argument"));
        assert_eq!(missing("pid: 12: Cannot allocate memory"), None);
        assert_eq!(missing("nothing: 1: Operation not permitted"), None);
        assert_eq!(missing("seccomp: Invalid argument"), None);
    }
}
