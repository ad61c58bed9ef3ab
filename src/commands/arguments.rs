//! The command line, each flag defined once.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use contract::Device;

/// From a GitHub query export to a trained, evaluated code model, declared in one TOML file.
#[derive(Debug, Parser)]
#[command(name = "pipeline", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Example: pipeline run manifests/quickstart.toml\n\n\
    Exit codes: 0 done, 1 a stage failed, 2 wrong manifest or command line, 3 a reproduction differs,\n\
    4 damaged store, 130 interrupted. Logs: PIPELINE_LOG=debug (as RUST_LOG). Colour: NO_COLOR=1 turns it off.")]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run what is stale in a manifest, and keep every stage's output.
    #[command(after_help = "Examples:\n  pipeline run manifests/quickstart.toml\n  \
        pipeline run manifests/quickstart.toml --until pack --jobs 1\n  \
        pipeline run manifests/codeparrot-small.toml --set 'stages.export.source=\"data/file-*.json.gz\"' --device cuda:0")]
    Run(RunArguments),
    /// Say what `run` would do, and why, without writing anything.
    #[command(after_help = "Examples:\n  pipeline plan manifests/quickstart.toml\n  \
        pipeline plan manifests/quickstart.toml --set stages.train.learning_rate=6e-4 --json")]
    Plan(PlanArguments),
    /// Say why a stage is stale: the settings and inputs that differ from its last build, old and new.
    #[command(override_usage = "pipeline why [OPTIONS] [MANIFEST] <STAGE>")]
    #[command(after_help = "Example: pipeline why manifests/quickstart.toml train")]
    Why(StageArguments),
    /// Show what a stage's output holds: files, rows, columns, sizes, a sample, its report.
    #[command(override_usage = "pipeline show [OPTIONS] [MANIFEST] <STAGE[.OUTPUT]>")]
    #[command(after_help = "Examples:\n  pipeline show manifests/quickstart.toml dedup\n  \
        pipeline show manifests/quickstart.toml split.valid --json")]
    Show(ShowArguments),
    /// Copy a stage's output out of the store as plain files.
    #[command(override_usage = "pipeline export [OPTIONS] [MANIFEST] <STAGE[.OUTPUT]> <DIR>")]
    #[command(after_help = "Examples:\n  pipeline export manifests/quickstart.toml train model/\n  \
        pipeline export manifests/quickstart.toml split.train train/ --format jsonl")]
    Export(ExportArguments),
    /// List the stage kinds, or one kind with its ports, settings, defaults and docs.
    #[command(
        after_help = "Examples:\n  pipeline stages\n  pipeline stages quality\n  pipeline stages --schema > schema.json"
    )]
    Stages(StagesArguments),
    /// Write a manifest that runs.
    #[command(after_help = "Example: pipeline init my-run.toml && pipeline run my-run.toml")]
    Init(InitArguments),
}

/// Which manifest, with what changed.
#[derive(Debug, Clone, Args)]
pub struct Source {
    /// Change a setting without editing the file (repeatable): `stages.train.steps=100`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
    /// What depends on this machine: `[exec]` and places of sources [default: machine.toml beside the manifest].
    #[arg(long, value_name = "FILE")]
    pub machine: Option<PathBuf>,
    /// The store [default: `exec.cache` of the manifest, else $PIPELINE_CACHE, else ./cache].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// The manifest.
    #[arg(default_value = "pipeline.toml")]
    pub manifest: PathBuf,
    #[command(flatten)]
    pub source: Source,
    /// Stop after this stage: run it and what it needs (repeatable).
    #[arg(long, value_name = "STAGE")]
    pub until: Vec<String>,
    /// Run this stage even if its output is in the store (repeatable).
    #[arg(long, value_name = "STAGE")]
    pub force: Vec<String>,
    /// Stages that may run at the same time [default: as threads and memory allow].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Threads for all stages together [default: `exec.threads`, else all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// After a failure, go on with every stage that does not need the failed one (the default).
    #[arg(long, overrides_with = "fail_fast")]
    pub keep_going: bool,
    /// After a failure, start no further stage; those that run are finished.
    #[arg(long, overrides_with = "keep_going")]
    pub fail_fast: bool,
    /// Where tensors live: auto, cpu or cuda:N.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Device>,
    /// Show failures and warnings only.
    #[arg(long, short, conflicts_with = "json")]
    pub quiet: bool,
    /// Print the events, one JSON object a line, to standard output.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArguments {
    /// The manifest.
    #[arg(default_value = "pipeline.toml")]
    pub manifest: PathBuf,
    #[command(flatten)]
    pub source: Source,
    /// Plan only this stage and what it needs (repeatable).
    #[arg(long, value_name = "STAGE")]
    pub until: Vec<String>,
    /// Plan as if this stage were to run even if its output is in the store (repeatable).
    #[arg(long, value_name = "STAGE")]
    pub force: Vec<String>,
    /// Print one JSON object: `stages`, an array of {name, kind, key, state, reasons}.
    #[arg(long)]
    pub json: bool,
}

/// A manifest and a stage of it.
#[derive(Debug, Args)]
pub struct StageArguments {
    /// The manifest [default: pipeline.toml], then the stage (or `stage.output` where an output is asked for).
    #[arg(value_name = "STAGE", num_args = 1..=2, required = true)]
    pub place: Vec<String>,
    #[command(flatten)]
    pub source: Source,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

impl StageArguments {
    /// The manifest and the stage, where both can be told apart: a lone `x.toml` is a manifest without a stage.
    pub fn split(&self) -> Option<(PathBuf, &str)> {
        match self.place.as_slice() {
            [manifest, stage] => Some((manifest.into(), stage)),
            [stage] if !is_manifest(stage) => Some(("pipeline.toml".into(), stage)),
            _ => None,
        }
    }
}

impl ExportArguments {
    /// The manifest, the stage and the folder.
    pub fn split(&self) -> Option<(PathBuf, &str, PathBuf)> {
        match self.place.as_slice() {
            [manifest, stage, folder] => Some((manifest.into(), stage, folder.into())),
            [stage, folder] if !is_manifest(stage) => Some(("pipeline.toml".into(), stage, folder.into())),
            _ => None,
        }
    }
}

fn is_manifest(text: &str) -> bool {
    text.ends_with(".toml")
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct ShowArguments {
    #[command(flatten)]
    pub stage: StageArguments,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// The manifest [default: pipeline.toml], the stage or `stage.output`, and the folder to write (new or empty).
    #[arg(value_name = "STAGE DIR", num_args = 2..=3, required = true)]
    pub place: Vec<String>,
    #[command(flatten)]
    pub source: Source,
    /// How tables are written.
    #[arg(long, value_enum, default_value_t = TableFormat::Parquet)]
    pub format: TableFormat,
}

/// How `export` writes tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TableFormat {
    /// One Parquet file a part, all columns.
    Parquet,
    /// One file of JSON lines a part, all columns.
    Jsonl,
}

/// Arguments of `stages`.
#[derive(Debug, Args)]
pub struct StagesArguments {
    /// One kind only.
    pub kind: Option<String>,
    /// Print JSON.
    #[arg(long, conflicts_with = "schema")]
    pub json: bool,
    /// Print the JSON schema of a manifest.
    #[arg(long, conflicts_with = "kind")]
    pub schema: bool,
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// Where to write it; an existing file is never overwritten.
    #[arg(default_value = "pipeline.toml")]
    pub path: PathBuf,
}
