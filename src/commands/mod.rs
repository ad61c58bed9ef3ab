//! Architecture layer 5: the subcommands, one file each. Data goes to standard output, everything else to standard
//! error.
//!
//! | module | contents |
//! |---|---|
//! | `command_line` | the subcommands with their help; dispatch |
//! | `arguments` | flags that several subcommands share |
//! | `error` | the error of a command |
//! | `stdout`, `signals` | output and Ctrl-C |
//! | `project` | a manifest with its graph and store |
//! | `store_dir` | which directory the store of a command is |
//! | `run_refs` | runs by reference: `quickstart.3` |
//! | `build_output` | the output of a stage that a command reads |
//! | `device` | the compute device and the budget of a run |
//! | `consent` | permission to run the programs of a lock |
//! | `export_dir`, `owned_dir` | the directory that `export` fills; temporary directories |
//! | `output_file` | a file that the user names for output |
//! | `dataset_card` | the `README.md` of an export |
//! | `hashing` | progress of hashing source files |

mod arguments;
mod build_output;
mod cache;
mod check;
mod command_line;
mod consent;
mod dataset_card;
mod device;
mod diff;
mod error;
mod export;
mod export_dir;
mod generate;
mod graph;
mod hashing;
mod init;
mod logs;
mod output_file;
mod owned_dir;
mod plan;
mod project;
mod replay;
mod reproduce;
mod run;
mod run_refs;
mod runs;
mod score;
mod show;
mod signals;
mod sql;
mod stages;
mod status;
mod stdout;
mod store_dir;
mod why;

use std::io::Write;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::exit::Exit;
use crate::stderr::stderr;
use command_line::CommandLine;
use error::CommandError;
use stdout::NotPrinted;

/// Executes the command line.
pub fn main() -> Exit {
    start_log();
    let result = match CommandLine::try_parse() {
        Ok(line) => line.command.execute(),
        Err(answer) => print(&answer),
    };
    result.unwrap_or_else(|error| {
        if !matches!(error, CommandError::Closed) {
            stderr!("{}", error.to_string().trim_end_matches('\n'));
        }
        error.exit()
    })
}

/// Prints help, the version, or an error of the command line.
fn print(answer: &clap::Error) -> Result<Exit, CommandError> {
    let printed = answer.print();
    if answer.use_stderr() {
        return Ok(Exit::Usage);
    }
    printed.and_then(|()| std::io::stdout().flush()).map_err(NotPrinted::mark)?;
    Ok(Exit::Done)
}

/// Logs to standard error, filtered by `PIPELINE_LOG`; off by default.
fn start_log() {
    let filter = EnvFilter::try_from_env("PIPELINE_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("{panic}");
        // A panic of a stage is reported as its failure.
        if !crate::run::is_caught(panic) {
            stderr!("internal error: {panic}\nhint: this is a bug, please report it");
        }
    }));
}
