//! `pipeline replay RUN`: a past run shown again, from its events.

use clap::Args;

use super::CommandError;
use super::arguments::StorePlace;
use super::locks;
use super::stdout::{raw_stdout, stdout};
use crate::events::{Json, Plain, Purpose, Renderer};
use crate::exit::Exit;

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArguments {
    /// The run: `quickstart` or its manifest for the newest of that name, or `quickstart.3`.
    pub run: String,
    #[command(flatten)]
    pub store: StorePlace,
    /// Print the events as they were recorded, one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &ReplayArguments) -> Result<Exit, CommandError> {
    let events = locks::recorded(&arguments.run, &arguments.store)?;
    let mut renderer: Box<dyn Renderer> = match arguments.json {
        true => Box::new(Json::new(Purpose::Printed, raw_stdout())),
        false => Box::new(Plain::new(stdout())),
    };
    for event in events {
        renderer.event(&event?)?;
    }
    Ok(Exit::Done)
}
