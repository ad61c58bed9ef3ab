//! The command line, each flag defined once.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use contract::Device;

use super::{
    CommandError, cache, check, diff, export, graph, init, logs, place, plan, replay, reproduce, run, runs, sql,
    stages, status,
};
use crate::manifest::{ExecSettings, head};
use crate::store::Store;

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
        pipeline run manifests/quickstart.toml --set stages.train.learning_rate=1e-3 --as faster\n  \
        pipeline run manifests/codeparrot-small.toml --set 'stages.export.source=\"data/file-*.json.gz\"' --device cuda:0")]
    Run(run::RunArguments),
    /// Say what `run` would do, and why, without writing anything.
    #[command(after_help = "Examples:\n  pipeline plan manifests/quickstart.toml\n  \
        pipeline plan manifests/quickstart.toml --set stages.train.learning_rate=6e-4 --json")]
    Plan(plan::PlanArguments),
    /// Check a manifest, and what its stages need against what there is, without looking at any data.
    #[command(after_help = "Example: pipeline check manifests/codeparrot-small.toml")]
    Check(check::CheckArguments),
    /// Say why a stage is stale: the settings and inputs that differ from its last build, old and new.
    #[command(override_usage = "pipeline why [OPTIONS] [MANIFEST] <STAGE>")]
    #[command(after_help = "Example: pipeline why manifests/quickstart.toml train")]
    Why(StageArguments),
    /// Show what a stage's output holds: files, rows, columns, sizes, a sample, its report.
    #[command(override_usage = "pipeline show [OPTIONS] [MANIFEST] <STAGE[.OUTPUT]>")]
    #[command(after_help = "Examples:\n  pipeline show manifests/quickstart.toml dedup\n  \
        pipeline show manifests/quickstart.toml split.valid --json")]
    Show(StageArguments),
    /// Copy a stage's output out of the store as plain files.
    #[command(override_usage = "pipeline export [OPTIONS] [MANIFEST] <STAGE[.OUTPUT]> <DIR>")]
    #[command(after_help = "Examples:\n  pipeline export manifests/quickstart.toml train model/\n  \
        pipeline export manifests/quickstart.toml split.train train/ --format jsonl")]
    Export(export::ExportArguments),
    /// List, check and clear the store.
    #[command(after_help = "Examples:\n  pipeline cache ls\n  pipeline cache verify --repair\n  \
        pipeline cache gc --keep-size 50GiB --dry-run")]
    Cache(cache::CacheArguments),
    /// Do a locked run again in an empty store, and compare every stage with it; exit code 3 where it differs.
    #[command(after_help = "Examples:\n  pipeline reproduce cache/runs/quickstart/latest/run.lock\n  \
        pipeline reproduce manifests/quickstart.lock --until pack\n  \
        pipeline reproduce cache/runs/quickstart/latest/run.lock --only train --keep again/")]
    Reproduce(reproduce::ReproduceArguments),
    /// Compare two runs: what their manifests ask for, then what their stages gave.
    #[command(after_help = "Examples:\n  pipeline diff quickstart.1 quickstart\n  \
        pipeline diff published.lock cache/runs/quickstart/latest/run.lock --json")]
    Diff(diff::DiffArguments),
    /// List the runs that a store remembers; pin or forget one.
    #[command(after_help = "Examples:\n  pipeline runs quickstart\n  pipeline runs manifests/quickstart.toml\n  \
        pipeline runs pin quickstart.3")]
    Runs(runs::RunsArguments),
    /// Say what is running on a store, by whom and since when, and what is not right with it.
    #[command(after_help = "Example: pipeline status --json")]
    Status(status::StatusArguments),
    /// Show a past run again, as it was shown.
    #[command(after_help = "Examples:\n  pipeline replay quickstart\n  pipeline replay quickstart.3 --json")]
    Replay(replay::ReplayArguments),
    /// Show what a stage said when it was last run: its progress, warnings and metrics.
    #[command(override_usage = "pipeline logs [OPTIONS] [RUN] <STAGE>")]
    #[command(after_help = "Examples:\n  pipeline logs train\n  pipeline logs quickstart.3 train --json")]
    Logs(logs::LogsArguments),
    /// Draw the graph of a manifest with the state of each stage.
    #[command(after_help = "Examples:\n  pipeline graph manifests/quickstart.toml\n  \
        pipeline graph manifests/quickstart.toml --format svg > quickstart.svg")]
    Graph(graph::GraphArguments),
    /// Query the tables of a manifest, each by its stage's name, with SQL.
    #[command(after_help = "Examples:\n  pipeline sql manifests/quickstart.toml\n  \
        pipeline sql manifests/quickstart.toml 'select license, count(*) from license group by 1'\n  \
        pipeline sql manifests/quickstart.toml 'select * from \"split.valid\"' --format parquet > valid.parquet")]
    Sql(sql::SqlArguments),
    /// Print the completions of a shell.
    #[command(after_help = "Example: pipeline completions bash > ~/.local/share/bash-completion/completions/pipeline")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// List the stage kinds, or one kind with its ports, settings, defaults and docs.
    #[command(
        after_help = "Examples:\n  pipeline stages\n  pipeline stages quality\n  pipeline stages --schema > schema.json"
    )]
    Stages(stages::StagesArguments),
    /// Write a manifest that runs.
    #[command(after_help = "Example: pipeline init my-run.toml && pipeline run my-run.toml")]
    Init(init::InitArguments),
}

/// Which manifest, with what changed.
#[derive(Debug, Clone, Args)]
pub struct Source {
    /// Change a setting without editing the file (repeatable): `stages.train.steps=100`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
    /// Call the run so, as a trial with other settings [default: `run.name`, else the file's name].
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<String>,
    /// What depends on this machine: `[exec]` and places of sources [default: machine.toml beside the manifest].
    #[arg(long, value_name = "FILE")]
    pub machine: Option<PathBuf>,
    /// The store [default: `exec.cache`, else $PIPELINE_CACHE, else the nearest `cache` at or above the manifest].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
}

/// Where the store is, for commands that need no manifest.
#[derive(Debug, Clone, Args)]
pub struct StorePlace {
    /// The store [default: that of --manifest, else $PIPELINE_CACHE, else the nearest `cache` at or above the working
    /// directory].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Use the store of this manifest.
    #[arg(long, value_name = "FILE", conflicts_with = "cache")]
    pub manifest: Option<PathBuf>,
}

impl StorePlace {
    /// Its directory; a store must be there.
    pub(super) fn existing(&self) -> Result<PathBuf, CommandError> {
        let path = match &self.manifest {
            Some(manifest) => place::of_manifest(manifest, None, head(manifest)?.cache)?,
            None => place::of_working_directory(self.cache.clone())?,
        };
        if Store::is_at(&path)? {
            return Ok(path);
        }
        let error = CommandError::usage(format!("there is no store at {}", path.display()));
        Err(error.hint("name it with --cache DIR or --manifest FILE; the first run makes it"))
    }

    /// The store of a command that is given `reference`, which may be a manifest in place of a run.
    pub(super) fn for_reference(&self, reference: &str) -> Self {
        match self.cache.is_none() && self.manifest.is_none() && names_manifest(reference) {
            true => Self { cache: None, manifest: Some(reference.into()) },
            false => self.clone(),
        }
    }
}

/// What a run may use.
#[derive(Debug, Args)]
pub struct Execution {
    /// Stages that may run at the same time [default: as threads and memory allow].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(ExecSettings::MOST_THREADS)))]
    pub jobs: Option<u16>,
    /// Threads for all stages together [default: `exec.threads`, else all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(ExecSettings::MOST_THREADS)))]
    pub threads: Option<u16>,
    /// Where tensors live: auto, cpu or cuda:N.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Device>,
    /// Run stages that need more memory or disk than there is, by estimate; without it nothing runs then (exit code 2).
    #[arg(long)]
    pub allow_oversize: bool,
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

/// Whether an argument names a manifest, not a stage.
pub fn is_manifest(text: &str) -> bool {
    text.ends_with(".toml")
}

/// Whether a reference to a run is the path of a manifest.
pub(super) fn names_manifest(reference: &str) -> bool {
    is_manifest(reference) && Path::new(reference).exists()
}
