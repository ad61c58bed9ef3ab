//! Runs jobs on several workers and keeps their results.
//!
//! | promise | how |
//! |---|---|
//! | results are in the order of the jobs | each result carries the index of its job, whichever finishes first |
//! | a program runs once | jobs with equal digests share a result, in this run and in the cache |
//! | a killed run loses little | each result is written to the cache when its program ends, and a worker waits for that: at most one program for each worker and one more run again |
//! | a fault that passes changes no result | a program without a verdict is tried [`ATTEMPTS`] times, and as often again, alone, when all others have ended. If there is still none, the run fails, and the next one runs only such programs |
//! | a broken sandbox does not delay the error | the run ends before its end if there is no verdict for more than a hundredth of all programs ([`FEW_FAULTS`] are accepted), or for [`MOST_CONSECUTIVE`] in succession |
//!
//! The cancel flag ends the programs that are running, too.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use contract::figures::{count, counted};
use contract::{Cancel, Digest, Progress, Result, StageError, Unit};
use sandbox::{Broken, Program, Verdict};

use crate::cache::Cache;
use crate::program::{Conditions, Job};
use crate::program_result::ProgramResult;

/// The number of attempts for a program that ends without a verdict, before it runs alone and again then.
pub const ATTEMPTS: usize = 3;
/// The number of programs without a verdict that is accepted before they run alone, however few programs there are.
pub const FEW_FAULTS: usize = 3;
/// The number of programs without a verdict in succession that ends the run.
pub const MOST_CONSECUTIVE: usize = 10;

/// Runs one program: the sandbox, or its replacement in tests.
pub type Execute<'r> = dyn Fn(&Program) -> Result<Verdict, Broken> + Sync + 'r;

/// The resources for running jobs.
pub struct Runner<'r> {
    /// Runs one program.
    pub execute: &'r Execute<'r>,
    /// The conditions on which results depend, besides the programs.
    pub conditions: &'r Conditions,
    /// The number of programs that run at the same time.
    pub workers: usize,
    /// The flag that asks the run to stop.
    pub cancel: &'r Cancel,
    /// The progress, which counts programs.
    pub progress: &'r Progress,
}

/// A finished job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The digest of its program and conditions.
    pub program: Digest,
    /// The result.
    pub result: ProgramResult,
}

impl Runner<'_> {
    /// Runs the jobs whose results are not known; returns the results of all jobs in order. `phase` is the name of the phase.
    ///
    /// # Errors
    /// Returns [`StageError::Interrupted`] if `cancel` was set, or an error if a result cannot be written or the sandbox has no verdict for
    /// a program. A program whose tests cannot run ([`FailureKind::Tests`](crate::program_result::FailureKind::Tests)) is not an error here.
    pub fn run(&self, phase: &str, jobs: &[Job<'_>], cache: &mut Cache) -> Result<Vec<Ended>> {
        let digests: Vec<Digest> = jobs.iter().map(|job| job.digest(self.conditions)).collect();
        let mut first: HashMap<Digest, usize> = HashMap::new();
        for (place, digest) in digests.iter().enumerate() {
            first.entry(*digest).or_insert(place);
        }
        let is_pending = |place: &usize| first[&digests[*place]] == *place && cache.get(&digests[*place]).is_none();
        let pending: Vec<usize> = (0..jobs.len()).filter(is_pending).collect();
        self.progress.start(phase, Unit::Completions, Some(first.len() as u64));
        self.progress.set((first.len() - pending.len()) as u64);

        let mut rest = self.run_pending(self.workers, jobs, &digests, &pending, cache)?;
        self.cancel.check()?;
        if !rest.faults.is_empty() {
            // Alone: the others may have taken the machine's memory.
            let again: Vec<usize> = rest.faults.iter().map(|(place, _)| *place).collect();
            let last = self.run_pending(1, jobs, &digests, &again, cache)?;
            self.cancel.check()?;
            rest.of_tests.extend(last.of_tests);
            if let Some((_, broken)) = last.faults.first() {
                cache.sync()?;
                return Err(without_verdict(last.faults.len(), pending.len(), broken));
            }
        }
        cache.sync()?;
        digests
            .into_iter()
            .map(|program| {
                let result = cache.get(&program).or_else(|| rest.of_tests.get(&program)).cloned();
                let missing = || StageError::new(format!("the program {} has no result", program.short()));
                Ok(Ended { program, result: result.ok_or_else(missing)? })
            })
            .collect()
    }

    /// Runs the jobs at the indices `pending`, on this number of workers.
    fn run_pending(
        &self,
        workers: usize,
        jobs: &[Job<'_>],
        digests: &[Digest],
        pending: &[usize],
        cache: &mut Cache,
    ) -> Result<Rest> {
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let stops = || stop.load(Ordering::Relaxed) || self.cancel.is_set();
        // A worker waits until its result is taken: few results are not in the cache when the process is killed.
        let (sender, receiver) = mpsc::sync_channel(0);
        std::thread::scope(|scope| {
            for _ in 0..workers.clamp(1, pending.len().max(1)) {
                let sender = sender.clone();
                let (next, stops) = (&next, &stops);
                scope.spawn(move || {
                    while !stops() {
                        let Some(&place) = pending.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                        let Some(verdict) = self.verdict(&jobs[place], stops) else { break };
                        if sender.send((place, verdict)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let (mut rest, mut consecutive) = (Rest::default(), 0);
            let most = FEW_FAULTS.max(pending.len() / 100);
            let kept = receiver.iter().zip(1..).try_for_each(|((place, verdict), finished)| {
                match verdict {
                    Ok(verdict) => cache.add(digests[place], ProgramResult::of_verdict(verdict))?,
                    Err(broken @ Broken::Tests(_)) => {
                        rest.of_tests.insert(digests[place], ProgramResult::of_broken_tests(&broken));
                    }
                    Err(broken) => {
                        consecutive += 1;
                        rest.faults.push((place, broken));
                        return match rest.faults.last() {
                            Some((_, broken)) if rest.faults.len() > most || consecutive == MOST_CONSECUTIVE => {
                                Err(without_verdict(rest.faults.len(), finished, broken))
                            }
                            _ => Ok(()),
                        };
                    }
                }
                consecutive = 0;
                self.progress.add(1);
                Ok(())
            });
            if kept.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            // Workers that wait until their results are taken end.
            drop(receiver);
            kept.map(|()| rest)
        })
    }

    /// Returns the verdict of a job; `None` if the run stops.
    fn verdict(&self, job: &Job<'_>, stops: &dyn Fn() -> bool) -> Option<Result<Verdict, Broken>> {
        let program = job.program();
        let mut attempt = 1;
        loop {
            match (self.execute)(&program) {
                Err(_) if stops() => return None,
                Err(broken) if attempt < ATTEMPTS && !matches!(broken, Broken::Tests(_)) => attempt += 1,
                verdict => return Some(verdict),
            }
        }
    }
}

/// What a pass over jobs leaves besides the results in the cache.
#[derive(Default)]
struct Rest {
    /// The results of programs whose tests cannot run: the self-test reports their problem.
    of_tests: HashMap<Digest, ProgramResult>,
    /// The jobs for which the sandbox returned no verdict, with its last error.
    faults: Vec<(usize, Broken)>,
}

/// Returns the error of a run without verdicts for some of its programs.
fn without_verdict(faults: usize, programs: usize, broken: &Broken) -> StageError {
    let (faults, programs) = (count(faults as u64), counted(programs as u64, "program"));
    StageError::new(format!("the sandbox returned no verdict for {faults} of {programs}: {broken}"))
        .hint("check that the machine has free memory and can start processes, then run it again")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use proptest::prelude::*;
    use sandbox::Failure;

    use super::*;
    use crate::problems::Problem;
    use crate::program::{
        Code,
        tests::{conditions, problem},
    };

    fn runner<'r>(
        execute: &'r Execute<'r>,
        conditions: &'r Conditions,
        cancel: &'r Cancel,
        progress: &'r Progress,
    ) -> Runner<'r> {
        Runner { execute, conditions, workers: 2, cancel, progress }
    }

    fn jobs<'j>(problem: &'j Problem, texts: &'j [String]) -> Vec<Job<'j>> {
        texts.iter().map(|text| Job { problem, code: Code::Completion(text.into()) }).collect()
    }

    /// Returns a verdict that depends on the candidate's text.
    fn verdict(program: &Program) -> Verdict {
        match program.candidate.len() % 3 {
            0 => Verdict::Passed,
            _ => Verdict::Failed { failure: Failure::Assertion, detail: format!("{:?}", program.candidate) },
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn results_are_in_order_and_each_program_runs_once(
            numbers in prop::collection::vec(0usize..12, 0..40), workers in 1usize..5, split in 0usize..40,
        ) {
            let (problem, conditions, cancel, progress) = (problem(1), conditions(), Cancel::default(), Progress::default());
            let texts: Vec<_> = numbers.iter().map(|number| "x".repeat(*number)).collect();
            let jobs = jobs(&problem, &texts);
            let ran = Mutex::new(Vec::new());
            let execute = |program: &Program| {
                ran.lock().unwrap().push(program.candidate.clone());
                Ok(verdict(program))
            };
            let mut runner = runner(&execute, &conditions, &cancel, &progress);
            runner.workers = workers;
            let mut cache = Cache::in_memory();
            // A part of the jobs, then all of them: as after a stop.
            runner.run("", &jobs[..split.min(jobs.len())], &mut cache).unwrap();
            let ended = runner.run("", &jobs, &mut cache).unwrap();
            let expected: Vec<_> = jobs.iter().map(|job| ProgramResult::of_verdict(verdict(&job.program()))).collect();
            prop_assert_eq!(ended.into_iter().map(|ended| ended.result).collect::<Vec<_>>(), expected);
            let mut ran = ran.into_inner().unwrap();
            let all = ran.len();
            ran.sort();
            ran.dedup();
            prop_assert_eq!(ran.len(), all);
        }
    }

    #[test]
    fn a_cancelled_run_keeps_what_it_has() {
        let (problem, conditions, cancel, progress) =
            (problem(1), conditions(), Cancel::default(), Progress::default());
        let texts: Vec<_> = (0..50).map(|number| "x".repeat(number)).collect();
        let ran = AtomicUsize::new(0);
        let execute = |program: &Program| {
            if ran.fetch_add(1, Ordering::Relaxed) == 9 {
                cancel.set();
            }
            Ok(verdict(program))
        };
        let mut cache = Cache::in_memory();
        let runner = runner(&execute, &conditions, &cancel, &progress);
        assert!(matches!(runner.run("", &jobs(&problem, &texts), &mut cache), Err(StageError::Interrupted)));
        let known = jobs(&problem, &texts).iter().filter(|job| cache.get(&job.digest(&conditions)).is_some()).count();
        assert!((10..=12).contains(&known), "{known}");
        assert_eq!(known, ran.load(Ordering::Relaxed));
    }

    #[test]
    fn few_results_are_not_in_the_cache_at_any_moment() {
        let (problem, conditions, cancel, progress) =
            (problem(1), conditions(), Cancel::default(), Progress::default());
        let texts: Vec<_> = (0..300).map(|number| format!("#{number}.")).collect();
        let folder = tempfile::tempdir().unwrap();
        let lines = || {
            let content = std::fs::read(folder.path().join("programs.jsonl")).unwrap();
            content.iter().filter(|byte| **byte == b'\n').count()
        };
        let (started, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let execute = |program: &Program| {
            // What a kill at this moment would lose, this program included.
            let lost = (started.fetch_add(1, Ordering::SeqCst) + 1).saturating_sub(lines());
            most.fetch_max(lost, Ordering::SeqCst);
            Ok(verdict(program))
        };
        for workers in [1, 3] {
            let mut runner = runner(&execute, &conditions, &cancel, &progress);
            runner.workers = workers;
            started.store(0, Ordering::SeqCst);
            std::fs::remove_file(folder.path().join("programs.jsonl")).ok();
            let mut cache = Cache::open(folder.path()).unwrap();
            runner.run("", &jobs(&problem, &texts), &mut cache).unwrap();
            assert_eq!((started.load(Ordering::SeqCst), lines()), (300, 300));
            let most = most.swap(0, Ordering::SeqCst);
            assert!((1..=workers + 1).contains(&most), "{most} with {workers} workers");
        }
    }

    #[test]
    fn a_result_that_cannot_be_kept_ends_the_run_although_workers_wait() {
        let (problem, conditions, cancel, progress) =
            (problem(1), conditions(), Cancel::default(), Progress::default());
        let texts: Vec<_> = (0..100).map(|number| format!("#{number}.")).collect();
        let execute = |_: &Program| Err(Broken::Server("gone".to_owned()));
        let mut runner = runner(&execute, &conditions, &cancel, &progress);
        runner.workers = 8;
        assert!(runner.run("", &jobs(&problem, &texts), &mut Cache::in_memory()).is_err());
    }

    /// Runs 2,000 programs, of which the sandbox returns no verdict the first `faults` times for each of the first `faulty`.
    fn run_with_faults(faulty: usize, faults: usize, cache: &mut Cache) -> Result<Vec<Ended>> {
        let (problem, conditions, cancel, progress) =
            (problem(1), conditions(), Cancel::default(), Progress::default());
        let texts: Vec<_> = (0..2000).map(|number| format!("#{number}.")).collect();
        let (tries, running) = (Mutex::new(HashMap::new()), AtomicUsize::new(0));
        let is_faulty =
            |program: &Program| (0..faulty).any(|number| program.candidate.contains(&format!("#{number}.")));
        let execute = |program: &Program| {
            let others = running.fetch_add(1, Ordering::SeqCst);
            let mut tries = tries.lock().unwrap();
            let tried = tries.entry(program.candidate.clone()).or_insert(0);
            *tried += 1;
            let is_alone = others == 0;
            assert!(*tried <= ATTEMPTS || is_alone, "it runs again alone");
            let verdict = match is_faulty(program) && *tried <= faults {
                true => Err(Broken::Server("gone".to_owned())),
                false => Ok(verdict(program)),
            };
            drop(tries);
            running.fetch_sub(1, Ordering::SeqCst);
            verdict
        };
        let ended = runner(&execute, &conditions, &cancel, &progress).run("", &jobs(&problem, &texts), cache);
        let tries = tries.into_inner().unwrap();
        assert!(tries.iter().all(|(_, tried)| *tried <= 2 * ATTEMPTS));
        ended
    }

    #[test]
    fn a_fault_that_passes_changes_no_result() {
        let expected = run_with_faults(0, 0, &mut Cache::in_memory()).unwrap();
        for faults in [1, ATTEMPTS, 2 * ATTEMPTS - 1] {
            // Nine of the first programs: far more than a hundredth of those that have ended, but not of all.
            assert_eq!(run_with_faults(MOST_CONSECUTIVE - 1, faults, &mut Cache::in_memory()).unwrap(), expected);
        }
    }

    #[test]
    fn a_program_that_never_has_a_verdict_fails_the_run_and_the_others_are_kept() {
        let mut cache = Cache::in_memory();
        let error = run_with_faults(1, usize::MAX, &mut cache).unwrap_err().to_string();
        assert_eq!(error, "the sandbox returned no verdict for 1 of 2,000 programs: the sandbox broke: gone");
        let error = run_with_faults(1, usize::MAX, &mut cache).unwrap_err().to_string();
        assert_eq!(error, "the sandbox returned no verdict for 1 of 1 program: the sandbox broke: gone");
        run_with_faults(0, 0, &mut cache).unwrap();
    }

    #[test]
    fn many_faults_end_the_run_early() {
        let (problem, conditions, cancel, progress) =
            (problem(1), conditions(), Cancel::default(), Progress::default());
        let texts: Vec<_> = (0..2000).map(|number| format!("#{number}.")).collect();
        // Every third program, so that there are never many in succession.
        let ran = AtomicUsize::new(0);
        let execute = |program: &Program| {
            let number: usize = program.candidate.split(['#', '.']).nth_back(1).unwrap().parse().unwrap();
            ran.fetch_max(number, Ordering::Relaxed);
            if number.is_multiple_of(3) { Err(Broken::Server("gone".to_owned())) } else { Ok(Verdict::Passed) }
        };
        let runner = runner(&execute, &conditions, &cancel, &progress);
        let error = runner.run("", &jobs(&problem, &texts), &mut Cache::in_memory()).unwrap_err().to_string();
        assert!(error.starts_with("the sandbox returned no verdict for 21 of 6"), "{error}");
        assert!(ran.load(Ordering::Relaxed) < 100);
    }

    #[test]
    fn a_sandbox_without_verdicts_ends_the_run() {
        let (problem, conditions, cancel, progress) =
            (problem(1), conditions(), Cancel::default(), Progress::default());
        let texts: Vec<_> = (0..5000).map(|number| format!("#{number}.")).collect();
        let execute = |_: &Program| {
            std::thread::sleep(Duration::from_micros(10));
            Err(Broken::Server("gone".to_owned()))
        };
        let runner = runner(&execute, &conditions, &cancel, &progress);
        let error = runner.run("", &jobs(&problem, &texts), &mut Cache::in_memory()).unwrap_err();
        assert_eq!(error.to_string(), "the sandbox returned no verdict for 10 of 10 programs: the sandbox broke: gone");
    }
}
