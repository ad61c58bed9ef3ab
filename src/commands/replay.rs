//! `pipeline replay RUN`: prints a past run from its events.

use clap::Args;

use super::CommandError;
use super::arguments::StoreOptions;
use super::run_refs;
use super::stdout::{coloured_stdout, raw_stdout};
use crate::events::{Json, Plain, Purpose, Renderer};
use crate::exit::Exit;

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArguments {
    /// The run: `quickstart.3`, or a name or manifest for the newest run of that name.
    pub run: String,
    #[command(flatten)]
    pub store: StoreOptions,
    /// Print the recorded events, one JSON object per line.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &ReplayArguments) -> Result<Exit, CommandError> {
    let events = run_refs::events(&arguments.run, &arguments.store)?;
    let mut renderer: Box<dyn Renderer> = match arguments.json {
        true => Box::new(Json::new(Purpose::Printed, raw_stdout())),
        false => Box::new(Plain::new(coloured_stdout())),
    };
    for event in events {
        renderer.event(&event?)?;
    }
    Ok(Exit::Done)
}
