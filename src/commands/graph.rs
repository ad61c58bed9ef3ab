//! `pipeline graph`: draws the stages of a manifest with their states, as Mermaid, DOT or SVG.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::CommandError;
use super::arguments::ManifestOptions;
use super::project::Project;
use super::stdout::stdout;
use crate::exit::Exit;
use crate::plan::{Decider, State};
use crate::report::drawing::{Colours, Drawing};

/// Arguments of `graph`.
#[derive(Debug, Args)]
pub struct GraphArguments {
    /// The manifest.
    #[arg(default_value = "pipeline.toml")]
    pub manifest: PathBuf,
    #[command(flatten)]
    pub options: ManifestOptions,
    /// Draw only this stage and its dependencies (repeatable).
    #[arg(long, value_name = "STAGE")]
    pub until: Vec<String>,
    /// The output format.
    #[arg(long, value_enum, default_value_t = GraphFormat::Mermaid)]
    pub format: GraphFormat,
}

/// The format of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum GraphFormat {
    /// A Mermaid flowchart, for Markdown pages.
    Mermaid,
    /// The DOT language of Graphviz.
    Dot,
    /// An SVG image.
    Svg,
}

pub(super) fn run(arguments: &GraphArguments) -> Result<Exit, CommandError> {
    let project = Project::load(&arguments.manifest, &arguments.options)?;
    let store = project.read_store()?;
    let forced = BTreeSet::new();
    let decider = Decider::new(&project.manifest, &store, &forced);
    let plan = project.plan(&decider, &project.wanted(&arguments.until)?)?;
    let states = plan.stages.iter().map(|stage| (&stage.name, stage.state.text(), colours(stage.state)));
    let drawing = Drawing::new(&project.manifest, states);
    let text = match arguments.format {
        GraphFormat::Mermaid => drawing.mermaid(),
        GraphFormat::Dot => drawing.dot(),
        GraphFormat::Svg => drawing.svg(),
    };
    write!(stdout(), "{text}")?;
    Ok(Exit::Done)
}

fn colours(state: State) -> Colours {
    match state {
        State::Cached => Colours::GREEN,
        State::WillRun => Colours::ORANGE,
        State::MayRun => Colours::YELLOW,
        State::Waiting => Colours::BLUE,
    }
}
