//! The report of results, the content of `report.json`. `report.md`, `report.html` and the picture are generated from it alone.
//!
//! A report contains no time, path or host: equal results and settings produce equal bytes.

use std::collections::{BTreeMap, BTreeSet};

use contract::figures::counted;
use contract::{OutputTree, Result, StageError, shortened_to};
use serde::Serialize;

use crate::program_result::FailureKind;
use crate::results::{LimitFacts, Results, SampleResult};
use crate::scores::{Counts, Difference, Measure, Score, best};
use crate::selftest::SelfTest;
use crate::temperature::Temperature;
use crate::truncate::Truncation;
use crate::{html, markdown, picture};

/// The number of samples of each group to show.
const SHOWN: usize = 3;
/// The number of characters of a prompt or a sample to show.
const MOST_SHOWN: usize = 4000;

/// The content of `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The scores: pass@k for each temperature and k.
    pub scores: Vec<Score>,
    /// The best temperature for each k.
    pub best: Vec<Score>,
    /// The number of samples.
    pub samples: u64,
    /// The number of samples that passed.
    pub passed: u64,
    /// The number of different programs.
    pub programs: u64,
    /// The number of problems.
    pub problems: u64,
    /// The number of problems that at least one sample solved.
    pub solved: u64,
    /// The confidence level: the share of the bootstrap's means within an interval.
    pub level: f64,
    /// The number of draws of the bootstrap.
    pub draws: usize,
    /// The seed of the bootstrap.
    pub seed: u64,
    /// The number of failed samples by kind.
    pub failures: BTreeMap<FailureKind, u64>,
    /// The problems in the order of their file.
    pub by_problem: Vec<ProblemRow>,
    /// The comparison with a baseline.
    pub comparison: Option<Comparison>,
    /// Samples that passed: the first sample of each of the first solved problems.
    pub examples_passed: Vec<Example>,
    /// Samples that nearly passed: they ran and failed an assertion of a problem that other samples solved, if there are any. Those
    /// that did not compile or are blank are left out, unless there are no others.
    pub examples_nearly: Vec<Example>,
    /// The conditions under which the samples were run.
    pub run: RunSummary,
}

/// The counts of a problem's samples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProblemRow {
    /// The identifier.
    pub task_id: String,
    /// The samples.
    pub samples: u64,
    /// The number of samples that passed.
    pub passed: u64,
    /// The number of other samples by kind of failure.
    pub failures: BTreeMap<FailureKind, u64>,
}

/// The comparison with a baseline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The differences of pass@k.
    pub differences: Vec<Difference>,
    /// The conditions that differ between the two runs: `limits`, `truncation`, `python`, `sandbox`, `layers`.
    pub unequal: Vec<&'static str>,
}

/// A sample to show.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Example {
    /// The problem.
    pub task_id: String,
    /// The sampling temperature.
    pub temperature: Temperature,
    /// The index among the samples of its problem and temperature.
    pub index: u64,
    /// The prompt; empty if the sample is a whole program.
    pub prompt: String,
    /// The code that ran.
    pub text: String,
    /// The reason that it failed.
    pub failure: Option<FailureKind>,
    /// The exception's type and message.
    pub detail: String,
}

/// The conditions under which samples were run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunSummary {
    /// The result of the evaluator's self-test.
    pub self_test: SelfTest,
    /// The interpreter's version.
    pub python: String,
    /// The sandbox's revision.
    pub sandbox: u32,
    /// The layers of the sandbox that were off.
    pub without: Vec<String>,
    /// The limits of a program.
    pub limits: LimitFacts,
    /// How completions were truncated.
    pub truncation: Truncation,
}

impl Report {
    /// Measures results, and compares them with those of a baseline.
    ///
    /// # Errors
    /// See [`Measure::scores`] and [`Measure::differences`].
    pub fn new(results: &Results, baseline: Option<&Results>, measure: &Measure) -> Result<Self> {
        let Results { facts, samples } = results;
        let scores = measure.scores(&Counts::of(results))?;
        let compared = |baseline| -> Result<Comparison> {
            let differences = measure.differences(results, baseline)?;
            Ok(Comparison { differences, unequal: unequal(results, baseline) })
        };
        let by_problem = by_problem(results);
        let mut failures = BTreeMap::new();
        for (kind, count) in by_problem.iter().flat_map(|row| &row.failures) {
            *failures.entry(*kind).or_default() += count;
        }
        let solved = by_problem.iter().filter(|row| row.passed > 0).count();
        Ok(Self {
            best: best(&scores),
            scores,
            samples: samples.len() as u64,
            passed: samples.iter().filter(|sample| sample.result.passed()).count() as u64,
            programs: facts.programs,
            problems: facts.problems.len() as u64,
            solved: solved as u64,
            level: measure.bootstrap.level,
            draws: measure.bootstrap.draws,
            seed: measure.bootstrap.seed,
            failures,
            comparison: baseline.map(compared).transpose()?,
            examples_passed: examples_passed(results),
            examples_nearly: examples_nearly(results, &by_problem),
            by_problem,
            run: RunSummary {
                self_test: facts.self_test,
                python: facts.python.clone(),
                sandbox: facts.sandbox,
                without: facts.without.clone(),
                limits: facts.limits,
                truncation: facts.truncation.clone(),
            },
        })
    }

    /// Formats the best scores as one line.
    pub fn line(&self) -> String {
        let at = |score: &Score| match (score.temperature.value(), self.scores.len() > self.best.len()) {
            (Some(value), true) => format!(" (temperature {value})"),
            _ => String::new(),
        };
        let score = |score: &Score| {
            format!(
                "pass@{} {} [{}, {}]{}",
                score.k,
                percent(score.pass_at_k),
                percent(score.low),
                percent(score.high),
                at(score)
            )
        };
        let scores: Vec<_> = self.best.iter().map(score).collect();
        format!("{}; {} of {} solved", scores.join(", "), self.solved, counted(self.problems, "problem"))
    }

    /// Formats the report as a page of Markdown, which shows the picture in the file `pass-at-k.svg`.
    pub fn markdown(&self) -> String {
        markdown::page(self)
    }

    /// Formats the report as an HTML page that needs no other file.
    pub fn html(&self) -> String {
        html::page(self)
    }

    /// Formats pass@k with its intervals as an SVG.
    pub fn picture(&self) -> String {
        picture::svg(self)
    }

    /// Returns the files `report.json`, `report.md`, `report.html` and `pass-at-k.svg` by name.
    ///
    /// # Errors
    /// Returns an error if a score is not a number of JSON.
    pub fn files(&self) -> Result<[(&'static str, Vec<u8>); 4]> {
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|error| StageError::new(format!("the report cannot be written as JSON: {error}")))?;
        json.push(b'\n');
        Ok([
            ("report.json", json),
            ("report.md", self.markdown().into_bytes()),
            ("report.html", self.html().into_bytes()),
            ("pass-at-k.svg", self.picture().into_bytes()),
        ])
    }

    /// Writes [`Report::files`].
    ///
    /// # Errors
    /// Returns an error if they cannot be written.
    pub fn write(&self, output: &OutputTree) -> Result<()> {
        self.files()?.iter().try_for_each(|(name, content)| output.write(name, content))
    }
}

/// Formats a share in percent with two decimals: `3.80%`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2}%", 100.0 * share)
}

fn by_problem(results: &Results) -> Vec<ProblemRow> {
    let row =
        |task_id: &String| ProblemRow { task_id: task_id.clone(), samples: 0, passed: 0, failures: BTreeMap::new() };
    let mut rows: Vec<_> = results.facts.problems.iter().map(|problem| row(&problem.task_id)).collect();
    for sample in &results.samples {
        let row = &mut rows[sample.problem];
        row.samples += 1;
        match sample.result.failure {
            None => row.passed += 1,
            Some(kind) => *row.failures.entry(kind).or_default() += 1,
        }
    }
    rows
}

fn unequal(results: &Results, baseline: &Results) -> Vec<&'static str> {
    let (one, other) = (&results.facts, &baseline.facts);
    let differs = [
        ("limits", one.limits != other.limits),
        ("truncation", one.truncation != other.truncation),
        ("python", one.python != other.python),
        ("sandbox", one.sandbox != other.sandbox),
        ("layers", one.without != other.without),
    ];
    differs.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

fn example(results: &Results, sample: &SampleResult) -> Example {
    let problem = &results.facts.problems[sample.problem];
    let shown = |text: &str| shortened_to(text, MOST_SHOWN).into_owned();
    Example {
        task_id: problem.task_id.clone(),
        temperature: sample.temperature,
        index: sample.index,
        prompt: if sample.is_whole { String::new() } else { shown(&problem.prompt) },
        text: shown(&sample.text),
        failure: sample.result.failure,
        detail: sample.result.detail.clone(),
    }
}

/// Returns the first samples of `ordered` that belong to different problems.
fn first_of_each<'s>(results: &Results, ordered: impl Iterator<Item = &'s SampleResult>) -> Vec<Example> {
    let mut seen = BTreeSet::new();
    ordered.filter(|sample| seen.insert(sample.problem)).take(SHOWN).map(|sample| example(results, sample)).collect()
}

fn examples_passed(results: &Results) -> Vec<Example> {
    let mut passed: Vec<_> = results.samples.iter().filter(|sample| sample.result.passed()).collect();
    passed.sort_by_key(|sample| sample.problem);
    first_of_each(results, passed.into_iter())
}

/// Returns whether a text has neither code nor a comment, or only `pass`.
fn is_blank(text: &str) -> bool {
    matches!(text.trim(), "" | "pass")
}

/// Returns failed samples, sorted by how far they came, the share of passed samples of their problem, and their position. Those that did not
/// compile or are blank are left out, unless there are no others.
fn examples_nearly(results: &Results, rows: &[ProblemRow]) -> Vec<Example> {
    let key = |sample: &SampleResult| {
        let row = &rows[sample.problem];
        let passed_in_a_million = row.passed * 1_000_000 / row.samples.max(1);
        Some((sample.result.failure?.distance(), std::cmp::Reverse(passed_in_a_million), sample.problem))
    };
    let mut failed: Vec<_> = results.samples.iter().filter_map(|sample| Some((key(sample)?, sample))).collect();
    let ran = |sample: &SampleResult| sample.result.failure != Some(FailureKind::Syntax) && !is_blank(&sample.text);
    if failed.iter().any(|(_, sample)| ran(sample)) {
        failed.retain(|(_, sample)| ran(sample));
    }
    failed.sort_by_key(|(key, _)| *key);
    first_of_each(results, failed.into_iter().map(|(_, sample)| sample))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::scores::tests::{measure, results};

    fn tasks(examples: &[Example]) -> Vec<&str> {
        examples.iter().map(|example| example.task_id.as_str()).collect()
    }

    pub(crate) fn report() -> Report {
        let low: [&[bool]; 5] = [&[false, true], &[false, false], &[true, true], &[true, false], &[true, true]];
        let high: [&[bool]; 5] = [&[false, false], &[true, false], &[true, true], &[false, false], &[true, false]];
        let results = results(&[(Some(0.2), &low), (Some(0.8), &high)]);
        Report::new(&results, Some(&results), &measure(&[1, 2])).unwrap()
    }

    #[test]
    fn counts_conserve() {
        let report = report();
        let failed: u64 = report.failures.values().sum();
        assert_eq!((report.samples, report.passed, failed), (20, 10, 10));
        assert_eq!(report.by_problem.iter().map(|row| row.samples).sum::<u64>(), 20);
        let failed_by_problem: u64 = report.by_problem.iter().flat_map(|row| row.failures.values()).sum();
        assert_eq!((failed_by_problem, report.solved), (10, 5));
    }

    #[test]
    fn three_samples_of_each_sort_are_of_different_problems() {
        let report = report();
        assert_eq!(tasks(&report.examples_passed), ["t/0", "t/1", "t/2"]);
        // The problem that other samples solve most often first.
        assert_eq!(tasks(&report.examples_nearly), ["t/4", "t/0", "t/1"]);
        assert_eq!(report.examples_nearly[0].failure, Some(FailureKind::Assertion));
    }

    #[test]
    fn where_no_or_every_problem_is_solved_the_interval_is_exact_and_the_report_says_what_that_means() {
        let of = |passed| {
            let results = results(&[(None, &[&[passed][..]; 164])]);
            Report::new(&results, None, &measure(&[])).unwrap()
        };
        let none = of(false);
        assert_eq!((none.solved, none.examples_passed.len(), none.examples_nearly.len()), (0, 0, 3));
        assert_eq!(none.line(), "pass@1 0.00% [0.00%, 2.22%]; 0 of 164 problems solved");
        assert_eq!(of(true).line(), "pass@1 100.00% [97.78%, 100.00%]; 164 of 164 problems solved");
        for report in [none, of(true)] {
            assert!(report.scores[0].is_exact);
            for page in [report.markdown(), report.html()] {
                assert!(page.contains("Clopper and Pearson"), "{page}");
            }
        }
        let some = Report::new(&results(&[(None, &[&[true], &[false]])]), None, &measure(&[])).unwrap();
        assert!(!some.scores[0].is_exact && !some.markdown().contains("Clopper"));
    }

    #[test]
    fn samples_that_did_not_run_are_shown_only_if_there_are_no_others() {
        let mut results = results(&[(None, &[&[false], &[false], &[false], &[false]])]);
        results.samples[0].result.failure = Some(FailureKind::Syntax);
        results.samples[1].text = "\n    pass\n".to_owned();
        results.samples[3].result.failure = Some(FailureKind::Name);
        let nearly = |results: &Results| Report::new(results, None, &measure(&[])).unwrap().examples_nearly;
        assert_eq!(tasks(&nearly(&results)), ["t/2", "t/3"]);
        results.samples.iter_mut().for_each(|sample| sample.result.failure = Some(FailureKind::Syntax));
        assert_eq!(tasks(&nearly(&results)), ["t/0", "t/1", "t/2"]);
    }

    #[test]
    fn long_samples_are_shown_by_their_beginning() {
        let mut results = results(&[(None, &[&[true]])]);
        results.samples[0].text = "x".repeat(100_000);
        let report = Report::new(&results, None, &measure(&[])).unwrap();
        assert!(report.examples_passed[0].text.len() < MOST_SHOWN + 100);
    }

    #[test]
    fn what_differs_between_two_runs_is_named() {
        let ours = results(&[(None, &[&[true]])]);
        let mut baseline = ours.clone();
        baseline.facts.python = "3.9.0".to_owned();
        baseline.facts.limits.memory += 1;
        let report = Report::new(&ours, Some(&baseline), &measure(&[])).unwrap();
        assert_eq!(report.comparison.unwrap().unequal, ["limits", "python"]);
    }
}
