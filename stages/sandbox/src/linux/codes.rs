//! The compiled tests of problems, so that many programs of one problem share a compilation.
//!
//! A checker's process compiles the tests of the first program of a problem, and sends their code to the host before it reads anything of
//! the candidate's; the checkers of later programs receive the code in place of the source. No candidate reads it: it is in the memory of
//! this process, and in a file that only a checker's process reads.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::Program;

/// The maximum size of all codes, in bytes. At most this much is dropped and compiled again.
const MOST_BYTES: usize = 32 << 20;

/// The codes by setup and tests.
#[derive(Default)]
pub(super) struct Codes(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    codes: HashMap<(String, String), Arc<[u8]>>,
    bytes: usize,
}

impl Codes {
    /// Returns the code of a program's tests, if it is known.
    pub fn get(&self, program: &Program) -> Option<Arc<[u8]>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.codes.get(&key(program)).cloned()
    }

    /// Adds the code of a program's tests.
    pub fn add(&self, program: &Program, code: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let size = program.setup.len() + program.tests.len() + code.len();
        if kept.bytes + size > MOST_BYTES {
            *kept = Kept::default();
        }
        if size <= MOST_BYTES && kept.codes.insert(key(program), code.into()).is_none() {
            kept.bytes += size;
        }
    }
}

fn key(program: &Program) -> (String, String) {
    (program.setup.clone(), program.tests.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(setup: &str, tests: &str) -> Program {
        Program { setup: setup.into(), tests: tests.into(), ..Program::default() }
    }

    #[test]
    fn a_code_is_found_by_the_whole_of_setup_and_tests() {
        let codes = Codes::default();
        codes.add(&program("a", "bc"), b"1");
        assert_eq!(codes.get(&program("a", "bc")).as_deref(), Some(&b"1"[..]));
        assert_eq!(codes.get(&program("ab", "c")), None);
        assert_eq!(codes.get(&program("", "abc")), None);
    }

    #[test]
    fn codes_are_dropped_before_they_are_too_large() {
        let codes = Codes::default();
        let half = vec![0; MOST_BYTES / 2 - 1];
        codes.add(&program("", "1"), &half);
        codes.add(&program("", "2"), &half);
        assert!(codes.get(&program("", "1")).is_some(), "exactly as much as fits");
        codes.add(&program("", "3"), b"x");
        assert!(codes.get(&program("", "1")).is_none() && codes.get(&program("", "3")).is_some());
        codes.add(&program("", "4"), &vec![0; MOST_BYTES]);
        assert!(codes.get(&program("", "4")).is_none(), "more than fits");
    }
}
