//! pass@k of results, with intervals, by temperature; the best temperature for each k; the comparison of two sets of results.

use std::collections::BTreeMap;

use contract::figures::counted;
use contract::{Result, StageError, shortened};
use serde::Serialize;

use crate::bootstrap::{Bootstrap, Estimate, Interval};
use crate::pass_at_k::pass_at_k;
use crate::problems::Problem;
use crate::results::{Results, SampleResult};
use crate::samples::Sample;
use crate::temperature::Temperature;

/// The default values of k; those above the number of samples are left out.
pub const USUAL_KS: [u64; 3] = [1, 10, 100];

/// The settings of the measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// The values of k; if empty, [`USUAL_KS`] up to the number of samples.
    pub ks: Vec<u64>,
    /// The settings of the intervals.
    pub bootstrap: Bootstrap,
}

/// pass@k of the samples of one temperature.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    /// The sampling temperature; `null` if it is not stated.
    pub temperature: Temperature,
    /// The k of pass@k.
    pub k: u64,
    /// The smallest number of samples of a problem.
    pub samples_per_problem: u64,
    /// The mean of pass@k over the problems.
    pub pass_at_k: f64,
    /// The lower bound of its interval.
    pub low: f64,
    /// The upper bound of its interval.
    pub high: f64,
    /// Whether the interval is exact, because pass@k is the same for all problems, such as 0; otherwise it is that of the bootstrap.
    pub is_exact: bool,
}

/// The difference of two sets of results over the same problems.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// The k of pass@k.
    pub k: u64,
    /// The temperature of the results.
    pub temperature: Temperature,
    /// The temperature of the baseline's results.
    pub baseline_temperature: Temperature,
    /// Whether each side's temperature is its best for this k.
    pub is_best: bool,
    /// pass@k of the results.
    pub pass_at_k: f64,
    /// pass@k of the baseline's results.
    pub baseline_pass_at_k: f64,
    /// The difference: results minus baseline.
    pub difference: f64,
    /// The lower bound of the difference's interval.
    pub low: f64,
    /// The upper bound of the difference's interval.
    pub high: f64,
    /// Whether the interval is exact, because the difference is the same for all problems.
    pub is_exact: bool,
    /// The share of the bootstrap's draws in which the results are ahead; draws in which both are equal count half.
    pub ahead: f64,
}

/// The number of samples of each problem, and of those that passed, by temperature.
#[derive(Debug, Clone, PartialEq)]
pub struct Counts {
    /// The problems' identifiers.
    tasks: Vec<String>,
    /// The numbers of samples and of passed samples, by problem.
    groups: BTreeMap<Temperature, Vec<(u64, u64)>>,
}

impl Counts {
    /// Counts results.
    pub fn of(results: &Results) -> Self {
        let tasks = results.facts.problems.iter().map(|problem| problem.task_id.clone()).collect();
        let facts = |sample: &SampleResult| (sample.temperature, sample.problem, sample.result.passed());
        Self::new(tasks, results.samples.iter().map(facts))
    }

    /// Counts samples, each with its temperature, the index of its problem, and whether it passed.
    fn new(tasks: Vec<String>, facts: impl Iterator<Item = (Temperature, usize, bool)>) -> Self {
        let mut groups: BTreeMap<Temperature, Vec<(u64, u64)>> = BTreeMap::new();
        for (temperature, problem, has_passed) in facts {
            let group = groups.entry(temperature).or_insert_with(|| vec![(0, 0); tasks.len()]);
            let (samples, passed) = &mut group[problem];
            *samples += 1;
            *passed += u64::from(has_passed);
        }
        Self { tasks, groups }
    }

    /// Returns the smallest number of samples of a problem at any temperature.
    pub fn fewest(&self) -> u64 {
        self.groups.values().flatten().map(|(samples, _)| *samples).min().unwrap_or(0)
    }

    /// Returns pass@k of each problem at a temperature.
    fn values(&self, temperature: Temperature, k: u64) -> Result<Vec<f64>> {
        let group = self.groups.get(&temperature).map_or(&[][..], Vec::as_slice);
        let value = |(task, (samples, passed)): (&String, &(u64, u64))| {
            pass_at_k(*samples, *passed, k).map_err(|error| match error {
                StageError::Failed(mut failure) if k > *samples => {
                    let at = temperature.value().map_or(String::new(), |value| format!(" at temperature {value}"));
                    let found = counted(*samples, "sample");
                    failure.message = format!(
                        "pass@{k} needs at least {k} samples of each problem: '{}' has {found}{at}",
                        shortened(task)
                    );
                    StageError::Failed(failure)
                }
                error => error,
            })
        };
        self.tasks.iter().zip(group).map(value).collect()
    }

    fn score(&self, temperature: Temperature, k: u64, bootstrap: &Bootstrap) -> Result<Score> {
        let Estimate { mean, interval, is_exact, .. } =
            bootstrap.estimate(&self.values(temperature, k)?, Interval::SHARE)?;
        let group = self.groups.get(&temperature).into_iter().flatten();
        let samples_per_problem = group.map(|(samples, _)| *samples).min().unwrap_or(0);
        let Interval { low, high } = interval;
        Ok(Score { temperature, k, samples_per_problem, pass_at_k: mean, low, high, is_exact })
    }
}

impl Measure {
    /// Returns the values of k to measure, in ascending order, if each problem has at least `fewest` samples.
    pub fn chosen_ks(&self, fewest: u64) -> Vec<u64> {
        let mut ks = match self.ks.is_empty() {
            true => USUAL_KS.into_iter().filter(|k| *k <= fewest).collect(),
            false => self.ks.clone(),
        };
        ks.sort_unstable();
        ks.dedup();
        ks
    }

    /// Checks before samples run that the values of k are at most the number of samples of each problem.
    ///
    /// # Errors
    /// See [`Measure::scores`].
    pub fn check(&self, problems: &[Problem], samples: &[Sample]) -> Result<()> {
        let tasks = problems.iter().map(|problem| problem.task_id.clone()).collect();
        let counts = Counts::new(tasks, samples.iter().map(|sample| (sample.temperature, sample.problem, false)));
        for &temperature in counts.groups.keys() {
            for k in self.chosen_ks(counts.fewest()) {
                counts.values(temperature, k)?;
            }
        }
        Ok(())
    }

    /// Returns pass@k for each temperature and k, in ascending order.
    ///
    /// # Errors
    /// Returns an error if a k is 0 or more than the samples of a problem.
    pub fn scores(&self, counts: &Counts) -> Result<Vec<Score>> {
        let ks = self.chosen_ks(counts.fewest());
        let pairs = counts.groups.keys().flat_map(|temperature| ks.iter().map(move |k| (*temperature, *k)));
        pairs.map(|(temperature, k)| counts.score(temperature, k, &self.bootstrap)).collect()
    }

    /// Returns the differences from a baseline: for each k, those at temperatures that both have, then that between the best temperatures
    /// of both sides, if they differ.
    ///
    /// # Errors
    /// Returns an error if the problems differ, or as [`Measure::scores`].
    pub fn differences(&self, results: &Results, baseline: &Results) -> Result<Vec<Difference>> {
        let order = matched(results, baseline)?;
        let (ours, mut theirs) = (Counts::of(results), Counts::of(baseline));
        // In the order of our problems.
        theirs.tasks.clone_from(&ours.tasks);
        for group in theirs.groups.values_mut() {
            *group = order.iter().map(|place| group[*place]).collect();
        }
        let ks = self.chosen_ks(ours.fewest().min(theirs.fewest()));
        let with = Self { ks: ks.clone(), bootstrap: self.bootstrap };
        let (our_best, their_best) = (best(&with.scores(&ours)?), best(&with.scores(&theirs)?));
        let mut differences = Vec::new();
        for (place, &k) in ks.iter().enumerate() {
            let common = ours.groups.keys().filter(|temperature| theirs.groups.contains_key(temperature));
            let pairs = common.map(|temperature| (*temperature, *temperature, false));
            let bests = (our_best[place].temperature, their_best[place].temperature, true);
            // If both sides are best at the same temperature, the difference is already among the pairs.
            let bests = (bests.0 != bests.1).then_some(bests);
            for (temperature, baseline_temperature, is_best) in pairs.chain(bests) {
                let (one, other) = (ours.values(temperature, k)?, theirs.values(baseline_temperature, k)?);
                let values: Vec<_> = one.iter().zip(&other).map(|(one, other)| one - other).collect();
                let Estimate { mean: difference, interval, is_exact, above_zero } =
                    self.bootstrap.estimate(&values, Interval::DIFFERENCE)?;
                let mean = |values: &[f64]| crate::pass_at_k::mean(values.iter().copied());
                differences.push(Difference {
                    k,
                    temperature,
                    baseline_temperature,
                    is_best,
                    pass_at_k: mean(&one),
                    baseline_pass_at_k: mean(&other),
                    difference,
                    low: interval.low,
                    high: interval.high,
                    is_exact,
                    ahead: above_zero,
                });
            }
        }
        Ok(differences)
    }
}

/// Returns the best score for each k, in ascending order; ties go to the lowest temperature. As the best of several, it is a little better
/// than a new evaluation at its temperature would be, and its interval does not allow for the choice.
pub fn best(scores: &[Score]) -> Vec<Score> {
    let mut best: BTreeMap<u64, Score> = BTreeMap::new();
    for score in scores {
        let found = best.entry(score.k).or_insert(*score);
        if score.pass_at_k > found.pass_at_k {
            *found = *score;
        }
    }
    best.into_values().collect()
}

/// Returns the index of each problem in the baseline.
fn matched(results: &Results, baseline: &Results) -> Result<Vec<usize>> {
    let theirs: BTreeMap<_, _> =
        baseline.facts.problems.iter().zip(0..).map(|(problem, place)| (&problem.task_id, (problem, place))).collect();
    let hint = "a paired comparison needs results over the same file of problems";
    let place = |problem: &crate::results::ProblemFacts| {
        let task = shortened(&problem.task_id);
        match theirs.get(&problem.task_id) {
            Some((other, place)) if other.digest == problem.digest => Ok(*place),
            Some(_) => {
                Err(StageError::new(format!("the problem '{task}' differs from that of the baseline")).hint(hint))
            }
            None => Err(StageError::new(format!("the baseline has no problem '{task}'")).hint(hint)),
        }
    };
    let order = results.facts.problems.iter().map(place).collect::<Result<Vec<_>>>()?;
    let ours: std::collections::BTreeSet<_> = results.facts.problems.iter().map(|problem| &problem.task_id).collect();
    match baseline.facts.problems.iter().find(|problem| !ours.contains(&problem.task_id)) {
        Some(problem) => {
            let task = shortened(&problem.task_id);
            Err(StageError::new(format!("the baseline has a problem '{task}' that the results do not have")).hint(hint))
        }
        None => Ok(order),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use contract::Digest;
    use proptest::prelude::*;
    use sandbox::Limits;

    use super::*;
    use crate::program::{Conditions, tests::problem};
    use crate::program_result::{FailureKind, ProgramResult};
    use crate::results::{RunFacts, SampleResult};
    use crate::selftest::SelfTest;
    use crate::truncate::Truncation;

    /// Creates results from whether each sample of each problem (by temperature) passed.
    pub(crate) fn results(groups: &[(Option<f64>, &[&[bool]])]) -> Results {
        let count = groups[0].1.len();
        let problems: Vec<_> = (0..count).map(problem).collect();
        let conditions =
            Conditions { limits: Limits::default(), python: "3.12.1".to_owned(), without: BTreeSet::new() };
        let mut samples = Vec::new();
        for (temperature, group) in groups {
            for (problem, passed) in group.iter().enumerate() {
                for (index, passed) in passed.iter().enumerate() {
                    let failure = (!passed).then_some(FailureKind::Assertion);
                    samples.push(SampleResult {
                        problem,
                        temperature: Temperature::new(*temperature).unwrap(),
                        index: index as u64,
                        text: format!("    return {index}"),
                        is_whole: false,
                        stop: None,
                        program: Digest::of(&[]),
                        result: ProgramResult { failure, detail: String::new() },
                    });
                }
            }
        }
        let self_test = SelfTest { canonical_passed: count as u64, empty_passed: 0, problems: count as u64 };
        let sizes = [samples.len() as u64, 1];
        Results { facts: RunFacts::new(&problems, &Truncation::default(), &conditions, self_test, sizes), samples }
    }

    pub(crate) fn measure(ks: &[u64]) -> Measure {
        Measure { ks: ks.to_vec(), bootstrap: Bootstrap { draws: 500, level: 0.95, seed: 1 } }
    }

    #[test]
    fn the_best_temperature_may_differ_from_k_to_k() {
        // At 0.2 one problem always passes; at 0.8 both pass sometimes.
        let (low, high) = (
            [&[true, true, true, true][..], &[false; 4]],
            [&[true, false, false, false][..], &[true, false, false, false]],
        );
        let results = results(&[(Some(0.2), &low), (Some(0.8), &high)]);
        let scores = measure(&[4, 1, 1]).scores(&Counts::of(&results)).unwrap();
        let facts: Vec<_> =
            scores.iter().map(|score| (score.temperature.value().unwrap(), score.k, score.pass_at_k)).collect();
        assert_eq!(facts, [(0.2, 1, 0.5), (0.2, 4, 0.5), (0.8, 1, 0.25), (0.8, 4, 1.0)]);
        let best: Vec<_> = best(&scores).iter().map(|score| (score.temperature.value().unwrap(), score.k)).collect();
        assert_eq!(best, [(0.2, 1), (0.8, 4)]);
    }

    #[test]
    fn more_than_the_samples_is_an_error_that_names_a_problem_and_the_usual_ks_stop_before_it() {
        let results = results(&[(Some(0.2), &[&[true; 12], &[false; 11]])]);
        let counts = Counts::of(&results);
        assert_eq!(measure(&[]).chosen_ks(counts.fewest()), [1, 10]);
        let StageError::Failed(failure) = measure(&[12]).scores(&counts).unwrap_err() else { panic!() };
        let message = "pass@12 needs at least 12 samples of each problem: 't/1' has 11 samples at temperature 0.2";
        assert_eq!(failure.message, message);
        assert!(failure.hint.unwrap().contains("set k to at most 11"));
        assert!(measure(&[11]).scores(&counts).is_ok() && measure(&[0]).scores(&counts).is_err());
    }

    #[test]
    fn two_sets_are_compared_problem_by_problem() {
        let groups: Vec<Vec<bool>> = (0..40).map(|problem| vec![problem % 2 == 0; 2]).collect();
        let better: Vec<Vec<bool>> = (0..40).map(|problem| vec![problem % 2 == 0 || problem % 10 == 1; 2]).collect();
        let of = |groups: &[Vec<bool>]| {
            let slices: Vec<_> = groups.iter().map(Vec::as_slice).collect();
            results(&[(None, &slices)])
        };
        let (baseline, ours) = (of(&groups), of(&better));
        let differences = measure(&[1]).differences(&ours, &baseline).unwrap();
        assert_eq!(differences.len(), 1);
        let Difference { difference, low, high, ahead, .. } = differences[0];
        assert!((difference - 0.1).abs() < 1e-12);
        // Each problem is the same or better: the paired comparison is certain, though the intervals of the two scores overlap.
        assert!((0.0..0.1).contains(&low) && high < 0.25 && ahead > 0.98, "{low} {high} {ahead}");
        let same = measure(&[1]).differences(&ours, &ours).unwrap();
        assert_eq!((same[0].difference, same[0].is_exact, same[0].ahead), (0.0, true, 0.5));
        assert!(same[0].low == -same[0].high && (same[0].high - 0.0881).abs() < 1e-4, "{same:?}");
        // The baseline's problems in another order.
        let mut turned = baseline.clone();
        turned.facts.problems.reverse();
        turned.samples.iter_mut().for_each(|sample| sample.problem = 39 - sample.problem);
        assert_eq!(measure(&[1]).differences(&ours, &turned).unwrap(), differences);
    }

    #[test]
    fn other_problems_are_not_compared() {
        let ours = results(&[(None, &[&[true], &[true]])]);
        let error = |change: &dyn Fn(&mut Results)| {
            let mut baseline = ours.clone();
            change(&mut baseline);
            measure(&[1]).differences(&ours, &baseline).unwrap_err().to_string()
        };
        let fewer = error(&|baseline| {
            baseline.facts.problems.pop();
            baseline.samples.pop();
        });
        assert_eq!(fewer, "the baseline has no problem 't/1'");
        let other = error(&|baseline| baseline.facts.problems[0].digest = Digest::of(b"other"));
        assert_eq!(other, "the problem 't/0' differs from that of the baseline");
        let one = results(&[(None, &[&[true]])]);
        let error = measure(&[1]).differences(&one, &ours).unwrap_err().to_string();
        assert_eq!(error, "the baseline has a problem 't/1' that the results do not have");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_comparison_the_other_way_round_has_the_opposite_sign(passed in prop::collection::vec(0u8..16, 1..20)) {
            let bits = |shift: u8| -> Vec<Vec<bool>> {
                passed.iter().map(|bits| vec![bits >> shift & 1 == 1, bits >> (shift + 1) & 1 == 1]).collect()
            };
            let of = |groups: &[Vec<bool>]| results(&[(None, &groups.iter().map(Vec::as_slice).collect::<Vec<_>>())]);
            let (one, other) = (of(&bits(0)), of(&bits(2)));
            let forth = measure(&[1, 2]).differences(&one, &other).unwrap();
            let back = measure(&[1, 2]).differences(&other, &one).unwrap();
            for (forth, back) in forth.iter().zip(&back) {
                prop_assert!((forth.difference + back.difference).abs() < 1e-12);
                prop_assert!((forth.low + back.high).abs() < 1e-12 && (forth.high + back.low).abs() < 1e-12);
                prop_assert!((forth.ahead + back.ahead - 1.0).abs() < 1e-12);
                prop_assert!((forth.pass_at_k - forth.baseline_pass_at_k - forth.difference).abs() < 1e-12);
            }
        }
    }
}
