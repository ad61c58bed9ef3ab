//! `pipeline cache ls | verify | gc`: maintenance of a store. The commands need no manifest.

mod gc;
mod ls;
mod users;
mod verify;

use clap::{Args, Subcommand};

use super::CommandError;
use super::arguments::StoreOptions;
use crate::exit::Exit;

/// Arguments of `cache`.
#[derive(Debug, Args)]
pub struct CacheArguments {
    /// The maintenance command.
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// Maintenance of a store.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List every build with its key, age, duration, size and users.
    #[command(after_help = "Example: pipeline cache ls --json")]
    Ls(ls::ListArguments),
    /// Hash every blob and read every tree and record; exit code 4 if something is damaged.
    #[command(after_help = "Example: pipeline cache verify --repair")]
    Verify(verify::VerifyArguments),
    /// Remove unreferenced data; with --keep-size also builds, first those that are fastest to rebuild for their size.
    #[command(after_help = "Examples:\n  pipeline cache gc --keep-size 50GiB --dry-run\n  \
        pipeline cache gc --keep-size 50GiB --keep-runs 3 --lock published.lock\n\n\
        The outputs of the latest and the pinned runs of any project, of past runs that are not forgotten, of lock \
        files, and of running processes are never removed.")]
    Gc(gc::CollectArguments),
}

pub(super) fn run(arguments: &CacheArguments) -> Result<Exit, CommandError> {
    match &arguments.command {
        CacheCommand::Ls(arguments) => ls::run(arguments),
        CacheCommand::Verify(arguments) => verify::run(arguments),
        CacheCommand::Gc(arguments) => gc::run(arguments),
    }
}
