//! Floor 5: the subcommands, one file each. Data goes to standard output, everything else to standard error.

mod arguments;
mod cache;
mod card;
mod check;
mod diff;
mod export;
mod fresh_folder;
mod graph;
mod hashing;
mod init;
mod locks;
mod logs;
mod output;
mod owned_folder;
mod place;
mod plan;
mod project;
mod replay;
mod reproduce;
mod run;
mod runs;
mod show;
mod signals;
mod sql;
mod stages;
mod status;
mod stdout;
mod why;

use std::fmt;
use std::io::Write;

use clap::{CommandFactory, Parser};
use contract::printable;
use tracing_subscriber::EnvFilter;

use crate::exit::Exit;
use crate::manifest::Diagnostics;
use crate::say::say;
use crate::store::StoreError;
use arguments::{Arguments, Command};
use stdout::NotPrinted;

/// Does what the command line asks for.
pub fn main() -> Exit {
    start_log();
    let result = match Arguments::try_parse() {
        Ok(arguments) => carry_out(arguments.command),
        Err(answer) => tell(&answer),
    };
    result.unwrap_or_else(|error| {
        if matches!(error, CommandError::Closed) {
            return Exit::Done;
        }
        say!("{}", error.to_string().trim_end_matches('\n'));
        error.exit()
    })
}

fn carry_out(command: Command) -> Result<Exit, CommandError> {
    match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Why(arguments) => why::run(&arguments),
        Command::Show(arguments) => show::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Cache(arguments) => cache::run(&arguments),
        Command::Reproduce(arguments) => reproduce::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Runs(arguments) => runs::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Logs(arguments) => logs::run(&arguments),
        Command::Graph(arguments) => graph::run(&arguments),
        Command::Sql(arguments) => sql::run(&arguments),
        Command::Completions { shell } => {
            let (mut command, mut script) = (Arguments::command(), Vec::new());
            clap_complete::generate(shell, &mut command, "pipeline", &mut script);
            stdout::raw_stdout().write_all(&script).map(|()| Exit::Done).map_err(CommandError::from)
        }
        Command::Stages(arguments) => stages::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
    }
}

/// Prints what the command line itself is answered with: help, the version, or what is wrong with it.
fn tell(answer: &clap::Error) -> Result<Exit, CommandError> {
    let printed = answer.print();
    if answer.use_stderr() {
        return Ok(Exit::Usage);
    }
    printed.and_then(|()| std::io::stdout().flush()).map_err(NotPrinted::mark)?;
    Ok(Exit::Done)
}

/// Logs to standard error as `PIPELINE_LOG` says; none by default.
fn start_log() {
    let filter = EnvFilter::try_from_env("PIPELINE_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("{panic}");
        // A panic that is caught is shown as its stage's failure; where it happened is for the log.
        if !crate::run::is_caught() {
            say!("internal error: {panic}\nhint: this is a bug, please report it");
        }
    }));
}

/// Why a command did nothing, or not all.
#[derive(Debug)]
enum CommandError {
    /// The manifest is wrong; the diagnostics say where.
    Manifest(Box<Diagnostics>),
    /// The command line is wrong, or a file outside the store cannot be written.
    Usage { message: String, hint: Option<String> },
    /// The store.
    Store(StoreError),
    /// Whoever read standard output has read enough.
    Closed,
    /// Something that is not the store's nor the user's fault.
    Failed { message: String, hint: Option<String> },
}

impl CommandError {
    fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: None }
    }

    /// What could not be done outside the store.
    fn io(what: impl fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.to_string();
        move |error| Self::Failed { message: format!("cannot {what}: {error}"), hint: None }
    }

    fn hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Usage { hint, .. } | Self::Failed { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Manifest(_) | Self::Usage { .. } => Exit::Usage,
            Self::Store(StoreError::Interrupted) => Exit::Interrupted,
            Self::Store(StoreError::Owned { .. }) => Exit::Usage,
            Self::Store(error) if error.is_store_failure() => Exit::StoreDamaged,
            Self::Store(_) => Exit::StageFailed,
            Self::Failed { .. } => Exit::StageFailed,
            Self::Closed => Exit::Done,
        }
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Diagnostics> for CommandError {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::Manifest(Box::new(diagnostics))
    }
}

/// From reading what a stage left in the store.
impl From<contract::StageError> for CommandError {
    fn from(error: contract::StageError) -> Self {
        let hint = match &error {
            contract::StageError::Failed(failure) => failure.hint.clone(),
            contract::StageError::Interrupted => None,
        };
        Self::Failed { message: error.to_string(), hint }
    }
}

/// Where standard output is closed ([`stdout`]) the program ends quietly.
impl From<std::io::Error> for CommandError {
    fn from(error: std::io::Error) -> Self {
        match error.downcast::<NotPrinted>() {
            Ok(NotPrinted(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Self::Closed,
            Ok(error) => Self::Failed { message: error.to_string(), hint: None },
            Err(error) => Self::Failed { message: error.to_string(), hint: None },
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (message, hint) = match self {
            Self::Manifest(diagnostics) => return write!(f, "{diagnostics}"),
            Self::Closed => return Ok(()),
            Self::Store(error) => (error.to_string(), error.hint()),
            Self::Usage { message, hint } | Self::Failed { message, hint } => (message.clone(), hint.as_deref()),
        };
        // Names come from anywhere.
        writeln!(f, "error: {}", printable(&message, &[]))?;
        match hint {
            Some(hint) => writeln!(f, "hint: {}", printable(hint, &[])),
            None => Ok(()),
        }
    }
}
