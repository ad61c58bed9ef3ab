//! Scores a file of samples outside a run, for `pipeline score SAMPLES --problems FILE`. It has the settings of the three stage kinds.

use std::io::Write;
use std::path::Path;

use contract::{Cancel, Progress, Result, StageError};
use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::evaluator::run_samples;
use crate::report::Report;
use crate::results::Results;
use crate::{eval_code, problems, run_code, samples};

/// The settings of scoring: those of the stage kinds `problems`, `run-code` and `eval-code`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Settings {
    /// The form of the problems.
    #[serde(flatten)]
    pub problems: problems::Spec,
    /// How programs run.
    #[serde(flatten)]
    pub run: run_code::Spec,
    /// Where programs run.
    #[serde(flatten)]
    pub exec: run_code::Exec,
    /// What is measured.
    #[serde(flatten)]
    pub measure: eval_code::Spec,
}

/// The inputs and settings of scoring.
#[derive(Debug)]
pub struct Scoring<'s> {
    /// The samples: JSON lines in human-eval's format, plain or gzip.
    pub samples: &'s Path,
    /// Samples of the same problems to compare with.
    pub baseline: Option<&'s Path>,
    /// The file of problems, plain or gzip.
    pub problems: &'s Path,
    /// The settings.
    pub settings: &'s Settings,
    /// The number of programs that run at the same time, if the settings leave it open.
    pub threads: usize,
    /// The seed of the bootstrap.
    pub seed: u64,
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
/// Returns an error if a file cannot be read or is not of its form, the sandbox or its self-test fails, a k is more than the samples of a problem, or
/// `cancel` was set; [`StageError::Skipped`] if the machine has no sandbox and the settings call it optional.
pub fn score(scoring: &Scoring<'_>) -> Result<Scored> {
    let Scoring { problems, samples, baseline, settings, .. } = scoring;
    let problems = problems::read(problems, problems, &settings.problems)?;
    let read = |path: &Path| samples::read(path, path, &problems);
    let (samples, baseline) = (read(samples)?, baseline.map(read).transpose()?);
    let measure = settings.measure.measure(scoring.seed);
    [Some(&samples), baseline.as_ref()]
        .into_iter()
        .flatten()
        .try_for_each(|samples| measure.check(&problems, samples))?;
    let mut cache = scoring.cache.map_or_else(|| Ok(Cache::in_memory()), Cache::open)?;
    let options = settings.run.options(&settings.exec, scoring.threads);
    let sandbox = settings.exec.sandbox(&options)?;
    let mut run =
        |samples| run_samples(&sandbox, &problems, samples, &options, &mut cache, scoring.cancel, scoring.progress);
    let results = run(samples)?;
    let baseline = baseline.map(run).transpose()?;
    let report = Report::new(&results, baseline.as_ref(), &measure)?;
    Ok(Scored { results, report })
}

/// Writes the lines of a file of samples with the fields `result` and `passed`, as human-eval does. Fields and values are as they are in the file.
///
/// # Errors
/// Returns an error if the file cannot be read, or no longer has the number and the tasks of the samples of `results`, or `output` cannot be written.
pub fn write_results(samples: &Path, results: &Results, output: &mut dyn Write) -> Result<()> {
    let changed = || StageError::new("the file has changed while its samples ran").in_file(samples);
    let mut samples_of_run = results.samples.iter();
    samples::read_fields(samples, |fields| {
        let sample = samples_of_run.next().ok_or_else(changed)?;
        let task_id = fields.get("task_id").and_then(samples::task_id);
        if task_id.is_none_or(|task_id| task_id != results.facts.problems[sample.problem].task_id) {
            return Err(changed());
        }
        let result = &sample.result;
        let kept = fields.0.iter().filter(|(name, _)| name != "result" && name != "passed");
        let mut parts: Vec<_> = kept.map(|(name, text)| format!("{}: {text}", serde_json::json!(name))).collect();
        parts.push(format!("\"result\": {}", serde_json::json!(result.text())));
        parts.push(format!("\"passed\": {}", result.passed()));
        Ok(writeln!(output, "{{{}}}", parts.join(", "))?)
    })?;
    if samples_of_run.next().is_some() { Err(changed()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scores::tests::results;

    #[test]
    fn a_k_above_the_samples_is_an_error_before_a_sandbox_is_built() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let problem = r#"{"task_id": "a", "prompt": "", "canonical_solution": "", "test": "", "entry_point": "f"}"#;
        let problems = file("problems.jsonl", problem);
        let sample = "{\"task_id\": \"a\", \"completion\": \"\"}\n";
        let (one, two) = (file("one.jsonl", sample), file("two.jsonl", &sample.repeat(2)));
        let error = |baseline, k: u64| {
            let settings = serde_json::from_value(serde_json::json!({"ks": [k], "python": "/nowhere/python3"}));
            let (cancel, progress) = (Cancel::default(), Progress::default());
            let (samples, settings) = (two.as_path(), &settings.unwrap());
            let scored = score(&Scoring {
                samples,
                baseline,
                problems: &problems,
                settings,
                threads: 1,
                seed: 1,
                cache: None,
                cancel: &cancel,
                progress: &progress,
            });
            scored.unwrap_err().to_string()
        };
        assert!(error(None, 3).starts_with("pass@3 needs at least 3 samples"), "{}", error(None, 3));
        assert!(error(Some(&one), 2).starts_with("pass@2 needs at least 2 samples"), "{}", error(Some(&one), 2));
        for (baseline, k) in [(None, 2), (Some(two.as_path()), 2), (Some(one.as_path()), 1)] {
            assert!(error(baseline, k).contains("/nowhere/python3"), "{}", error(baseline, k));
        }
    }

    #[test]
    fn a_file_of_samples_that_changed_meanwhile_is_detected() {
        let results = results(&[(None, &[&[true][..], &[false][..]])]);
        let folder = tempfile::tempdir().unwrap();
        let samples = folder.path().join("samples.jsonl");
        let written = |tasks: &[&str]| {
            let lines = tasks.iter().map(|task| format!("{{\"task_id\": {task}, \"completion\": \"x\"}}\n"));
            std::fs::write(&samples, lines.collect::<String>()).unwrap();
            let mut output = Vec::new();
            write_results(&samples, &results, &mut output).map(|()| String::from_utf8(output).unwrap())
        };
        let text = written(&["\"t/0\"", "\"t/1\""]).unwrap();
        assert!(text.starts_with("{\"task_id\": \"t/0\", \"completion\": \"x\", \"result\": "), "{text}");
        // Fewer, more, and in another order.
        for tasks in [&["\"t/0\""][..], &["\"t/0\"", "\"t/1\"", "\"t/1\""], &["\"t/1\"", "\"t/0\""], &["1", "2"]] {
            assert!(written(tasks).unwrap_err().to_string().contains("has changed while its samples ran"), "{tasks:?}");
        }
    }
}
