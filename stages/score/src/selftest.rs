//! The self-test of the evaluator on this machine, before it scores a model: in the same sandbox and with the same
//! limits, every reference solution must pass and every empty completion must fail (`pass` is the body of a function
//! that has none). Otherwise nothing is reported.
//!
//! Reference solutions are truncated like samples, to detect a truncation that destroys correct answers; under
//! [`Rule::LastStop`], which is known to destroy them, they are not.

use contract::figures::{count, counted};
use contract::{Result, StageError, shortened};
use serde::{Deserialize, Serialize};

use crate::problems::{Problem, as_module};
use crate::program::{Code, Job};
use crate::run::Ended;
use crate::truncate::{Rule, Truncated, Truncation};

/// The maximum number of problems that an error lists.
const NAMED: usize = 5;

/// The result of a passed self-test: every reference solution passed, and every empty completion failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTest {
    /// The number of reference solutions that passed: all.
    pub canonical_passed: u64,
    /// The number of empty completions that passed: 0.
    pub empty_passed: u64,
    /// The number of problems.
    pub problems: u64,
}

/// Returns the jobs of the self-test: the reference solution of each problem, then an empty completion of each.
pub fn jobs<'j>(problems: &'j [Problem], truncation: &Truncation) -> Vec<Job<'j>> {
    let canonical = |problem: &'j Problem| {
        let solution = problem.canonical_solution.as_str();
        let code = match truncation.rule {
            Rule::FirstStop => match truncation.apply(&problem.beginning, solution.to_owned()) {
                Truncated::Completion(kept) => Code::Completion(kept.into()),
                Truncated::Program(program) => Code::Solution(program.into()),
            },
            Rule::LastStop => Code::Completion(solution.into()),
        };
        Job { problem, code }
    };
    // With a body where the prompt has none: otherwise it would not compile, and fail whatever the tests are.
    let empty = |problem: &'j Problem| Job { problem, code: Code::Solution(as_module(&problem.beginning).into()) };
    problems.iter().map(canonical).chain(problems.iter().map(empty)).collect()
}

/// Checks the results of the jobs.
///
/// # Errors
/// Returns an error that lists the reference solutions that failed or the empty completions that passed, and why.
pub fn check(problems: &[Problem], jobs: &[Job<'_>], ended: &[Ended]) -> Result<SelfTest> {
    let all = problems.len();
    let mut failed = Vec::new();
    for ((problem, job), ended) in problems.iter().zip(jobs).zip(ended) {
        if let Some(kind) = ended.result.failure {
            let cut = match job.code.text().len() < problem.canonical_solution.len() {
                true => ", truncated at a stop",
                false => "",
            };
            failed.push(format!("{} ({kind}: {}{cut})", shortened(&problem.task_id), shortened(&ended.result.detail)));
        }
    }
    let empty = problems.iter().zip(ended.iter().skip(all)).filter(|(_, ended)| ended.result.passed());
    let passed: Vec<_> = empty.map(|(problem, _)| shortened(&problem.task_id).into_owned()).collect();
    let message = match (failed.is_empty(), passed.is_empty()) {
        (true, true) => {
            return Ok(SelfTest { canonical_passed: all as u64, empty_passed: 0, problems: all as u64 });
        }
        (false, _) => format!(
            "the evaluator's self-test failed: {} of {} did not pass: {}",
            count(failed.len() as u64),
            counted(all as u64, "reference solution"),
            named(&failed)
        ),
        (true, false) => format!(
            "the evaluator's self-test failed: {} of {} passed: {}",
            count(passed.len() as u64),
            counted(all as u64, "empty completion"),
            named(&passed)
        ),
    };
    Err(StageError::new(message).hint(
        "no score is reported, as it would be meaningless: raise the limits, change the truncation, or remove these problems",
    ))
}

fn named(items: &[String]) -> String {
    let mut text = items[..items.len().min(NAMED)].join(", ");
    if items.len() > NAMED {
        text += &format!(" and {} more", count((items.len() - NAMED) as u64));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::tests::problem;
    use crate::program_result::{FailureKind, ProgramResult};
    use contract::Digest;

    fn ended(failures: &[Option<FailureKind>]) -> Vec<Ended> {
        let result = |failure: &Option<FailureKind>| ProgramResult { failure: *failure, detail: "why".to_owned() };
        failures.iter().map(|failure| Ended { program: Digest::of(b""), result: result(failure) }).collect()
    }

    #[test]
    fn it_passes_only_if_all_reference_solutions_pass_and_no_empty_one_does() {
        let problems = [problem(0), problem(1)];
        let jobs = jobs(&problems, &Truncation::default());
        let failed = Some(FailureKind::Timeout);
        let check = |failures: &[Option<FailureKind>]| check(&problems, &jobs, &ended(failures));
        let passed = SelfTest { canonical_passed: 2, empty_passed: 0, problems: 2 };
        assert_eq!(check(&[None, None, failed, failed]).unwrap(), passed);
        let message = "the evaluator's self-test failed: 1 of 2 reference solutions did not pass: t/1 (timeout: why)";
        assert_eq!(check(&[None, failed, failed, failed]).unwrap_err().to_string(), message);
        let message = "the evaluator's self-test failed: 1 of 2 empty completions passed: t/0";
        assert_eq!(check(&[None, None, None, failed]).unwrap_err().to_string(), message);
    }

    #[test]
    fn an_empty_completion_compiles_so_that_tests_without_an_assertion_are_detected() {
        let problems =
            [problem(0), Problem { beginning: "def f():\n    \"\"\"Text.\"\"\"\n".to_owned(), ..problem(1) }];
        let candidates: Vec<_> =
            jobs(&problems, &Truncation::default()).iter().map(|job| job.program().candidate).collect();
        assert_eq!(candidates[2..], ["def f0():\n    pass\n\n", "def f():\n    \"\"\"Text.\"\"\"\n\n"]);
    }

    #[test]
    fn many_failures_are_counted() {
        let problems: Vec<_> = (0..7).map(problem).collect();
        let jobs = jobs(&problems, &Truncation::default());
        let failures = vec![Some(FailureKind::Syntax); 14];
        let error = check(&problems, &jobs, &ended(&failures)).unwrap_err().to_string();
        assert!(error.contains("7 of 7") && error.ends_with("t/4 (syntax: why) and 2 more"), "{error}");
    }

    #[test]
    fn a_truncation_that_cuts_a_reference_solution_is_named() {
        let problems = [Problem { canonical_solution: "    return 0\n# more\n".to_owned(), ..problem(0) }];
        let truncation = Truncation { stops: vec!["\n#".to_owned()], ..Truncation::default() };
        let jobs = jobs(&problems, &truncation);
        assert_eq!(jobs[0].code.text(), "    return 0");
        let failed = Some(FailureKind::Name);
        let error = check(&problems, &jobs, &ended(&[failed, failed])).unwrap_err().to_string();
        assert!(error.ends_with("t/0 (name: why, truncated at a stop)"), "{error}");
        let published = Truncation { rule: Rule::LastStop, ..truncation };
        assert_eq!(super::jobs(&problems, &published)[0].code.text(), "    return 0\n# more\n");
    }
}
