//! The command line: every subcommand with its help.

use std::io::Write;

use clap::{CommandFactory, Parser, Subcommand};

use super::arguments::StageArguments;
use super::{
    CommandError, cache, check, diff, export, generate, graph, init, logs, plan, replay, reproduce, run, runs, score,
    show, sql, stages, status, stdout, why,
};
use crate::exit::Exit;

/// From a GitHub query export to a trained, evaluated code model, declared in one TOML file.
#[derive(Debug, Parser)]
#[command(name = "pipeline", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Example: pipeline run manifests/quickstart.toml\n\n\
    Exit codes: 0 done, 1 a stage failed, 2 invalid manifest or command line, 3 a reproduction differs,\n\
    4 damaged store, 130 interrupted. Logs: PIPELINE_LOG=debug (as RUST_LOG). Colour: NO_COLOR=1 turns it off.")]
pub(super) struct CommandLine {
    /// The subcommand.
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the stale stages of a manifest and store their outputs.
    #[command(after_help = "Examples:\n  pipeline run manifests/quickstart.toml\n  \
        pipeline run manifests/quickstart.toml --until pack --jobs 1\n  \
        pipeline run manifests/quickstart.toml --set stages.train.learning_rate=1e-3 --as faster\n  \
        pipeline run manifests/codeparrot-small.toml --set 'stages.export.source=\"data/file-*.json.gz\"' --device cuda:0")]
    Run(run::RunArguments),
    /// Show what `run` would do, and why, without writing anything.
    #[command(after_help = "Examples:\n  pipeline plan manifests/quickstart.toml\n  \
        pipeline plan manifests/quickstart.toml --set stages.train.learning_rate=6e-4 --json")]
    Plan(plan::PlanArguments),
    /// Check a manifest, and whether its stages fit on this machine, without reading data.
    #[command(after_help = "Example: pipeline check manifests/codeparrot-small.toml")]
    Check(check::CheckArguments),
    /// Explain why a stage is stale: the settings and inputs that differ from an earlier build, old and new.
    #[command(override_usage = "pipeline why [OPTIONS] [MANIFEST] <STAGE>")]
    #[command(after_help = "Example: pipeline why manifests/quickstart.toml train")]
    Why(StageArguments),
    /// Show the output of a stage: files, rows, columns, sizes, a sample, its report.
    #[command(override_usage = "pipeline show [OPTIONS] [MANIFEST] <STAGE[.OUTPUT]>")]
    #[command(after_help = "Examples:\n  pipeline show manifests/quickstart.toml dedup\n  \
        pipeline show manifests/quickstart.toml split.valid --json")]
    Show(StageArguments),
    /// Copy the output of a stage to a directory as plain files.
    #[command(override_usage = "pipeline export [OPTIONS] [MANIFEST] <STAGE[.OUTPUT]> <DIR>")]
    #[command(after_help = "Examples:\n  pipeline export manifests/quickstart.toml train model/\n  \
        pipeline export manifests/quickstart.toml split.train train/ --format jsonl")]
    Export(export::ExportArguments),
    /// List and verify the builds of the store, and collect garbage.
    #[command(after_help = "Examples:\n  pipeline cache ls\n  pipeline cache verify --repair\n  \
        pipeline cache gc --keep-size 50GiB --dry-run")]
    Cache(cache::CacheArguments),
    /// Run a locked manifest again in an empty store and compare every stage with the lock; exit code 3 if one differs.
    #[command(after_help = "Examples:\n  pipeline reproduce cache/runs/quickstart/latest/run.lock\n  \
        pipeline reproduce manifests/quickstart.lock --until pack\n  \
        pipeline reproduce cache/runs/quickstart/latest/run.lock --only train --keep again/")]
    Reproduce(reproduce::ReproduceArguments),
    /// Compare two runs: the settings of their manifests, then the outputs of their stages.
    #[command(after_help = "Examples:\n  pipeline diff quickstart.1 quickstart\n  \
        pipeline diff published.lock cache/runs/quickstart/latest/run.lock --json")]
    Diff(diff::DiffArguments),
    /// List the runs of a store; pin or forget one.
    #[command(after_help = "Examples:\n  pipeline runs quickstart\n  pipeline runs manifests/quickstart.toml\n  \
        pipeline runs pin quickstart.3")]
    Runs(runs::RunsArguments),
    /// Show the running processes of a store, and the keys whose builds differ.
    #[command(after_help = "Example: pipeline status --json")]
    Status(status::StatusArguments),
    /// Print the progress of a past run again.
    #[command(after_help = "Examples:\n  pipeline replay quickstart\n  pipeline replay quickstart.3 --json")]
    Replay(replay::ReplayArguments),
    /// Print the log of a stage of a past run: its progress, warnings and metrics.
    #[command(override_usage = "pipeline logs [OPTIONS] [RUN] <STAGE>")]
    #[command(after_help = "Examples:\n  pipeline logs train\n  pipeline logs quickstart.3 train --json")]
    Logs(logs::LogsArguments),
    /// Draw the graph of a manifest with the state of each stage.
    #[command(after_help = "Examples:\n  pipeline graph manifests/quickstart.toml\n  \
        pipeline graph manifests/quickstart.toml --format svg > quickstart.svg")]
    Graph(graph::GraphArguments),
    /// Query the tables of a manifest with SQL; each is named after its stage.
    #[command(after_help = "Examples:\n  pipeline sql manifests/quickstart.toml\n  \
        pipeline sql manifests/quickstart.toml 'select license, count(*) from license group by 1'\n  \
        pipeline sql manifests/quickstart.toml 'select * from \"split.valid\"' --format parquet > valid.parquet")]
    Sql(sql::SqlArguments),
    /// Complete a prompt with a model.
    #[command(after_help = "Examples:\n  pipeline generate manifests/quickstart.toml 'def mean(a):'\n  \
        pipeline generate model/ --file prompt.py --temperature 0 --max-tokens 200 --no-stop\n  \
        echo 'import numpy as np' | pipeline generate model/ --completions 4 --json")]
    Generate(generate::GenerateArguments),
    /// Run code samples against the unit tests of their problems, in a sandbox, and print pass@k with intervals.
    #[command(after_help = "Examples:\n  pipeline score samples.jsonl --problems data/HumanEval.jsonl.gz\n  \
        pipeline score samples.jsonl --problems data/HumanEval.jsonl.gz --truncation bigcode --k 1,10 --report report/\n  \
        pipeline score samples.jsonl --problems mbpp.jsonl --form mbpp --truncation bigcode-mbpp --set level=0.99 --results results.jsonl")]
    Score(score::ScoreArguments),
    /// Print a shell completion script.
    #[command(after_help = "Example: pipeline completions bash > ~/.local/share/bash-completion/completions/pipeline")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// List the stage kinds, or show the ports, settings, defaults and docs of one kind.
    #[command(
        after_help = "Examples:\n  pipeline stages\n  pipeline stages quality\n  pipeline stages --schema > schema.json"
    )]
    Stages(stages::StagesArguments),
    /// Write a small manifest that is ready to run.
    #[command(after_help = "Example: pipeline init my-run.toml && pipeline run my-run.toml")]
    Init(init::InitArguments),
}

impl Command {
    /// Executes the subcommand.
    pub(super) fn execute(&self) -> Result<Exit, CommandError> {
        match self {
            Self::Run(arguments) => run::run(arguments),
            Self::Plan(arguments) => plan::run(arguments),
            Self::Why(arguments) => why::run(arguments),
            Self::Show(arguments) => show::run(arguments),
            Self::Export(arguments) => export::run(arguments),
            Self::Check(arguments) => check::run(arguments),
            Self::Cache(arguments) => cache::run(arguments),
            Self::Reproduce(arguments) => reproduce::run(arguments),
            Self::Diff(arguments) => diff::run(arguments),
            Self::Runs(arguments) => runs::run(arguments),
            Self::Status(arguments) => status::run(arguments),
            Self::Replay(arguments) => replay::run(arguments),
            Self::Logs(arguments) => logs::run(arguments),
            Self::Graph(arguments) => graph::run(arguments),
            Self::Sql(arguments) => sql::run(arguments),
            Self::Generate(arguments) => generate::run(arguments),
            Self::Score(arguments) => score::run(arguments),
            Self::Completions { shell } => {
                let (mut command, mut script) = (CommandLine::command(), Vec::new());
                clap_complete::generate(*shell, &mut command, "pipeline", &mut script);
                stdout::raw_stdout().write_all(&script)?;
                Ok(Exit::Done)
            }
            Self::Stages(arguments) => stages::run(arguments),
            Self::Init(arguments) => init::run(arguments),
        }
    }
}
