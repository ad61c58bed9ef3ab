//! `pipeline graph`: the stages of a manifest with their states, as Mermaid, DOT or SVG.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::CommandError;
use super::arguments::Source;
use super::project::Project;
use crate::exit::Exit;
use crate::plan::{Decider, Plan, State};
use crate::store::Store;

mod svg;

/// Arguments of `graph`.
#[derive(Debug, Args)]
pub struct GraphArguments {
    /// The manifest.
    #[arg(default_value = "pipeline.toml")]
    pub manifest: PathBuf,
    #[command(flatten)]
    pub source: Source,
    /// Only this stage and what it needs (repeatable).
    #[arg(long, value_name = "STAGE")]
    pub until: Vec<String>,
    /// The language.
    #[arg(long, value_enum, default_value_t = GraphFormat::Mermaid)]
    pub format: GraphFormat,
}

/// In what language a graph is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum GraphFormat {
    /// A Mermaid flowchart, for Markdown pages.
    Mermaid,
    /// Graphviz.
    Dot,
    /// A picture.
    Svg,
}

/// A graph to draw.
struct Drawing {
    /// Name, kind and state, in the order of the graph.
    stages: Vec<(String, &'static str, State)>,
    /// From, to: indexes of stages; and what flows there.
    edges: Vec<(usize, usize, String)>,
}

pub(super) fn run(arguments: &GraphArguments) -> Result<Exit, CommandError> {
    let project = Project::load(&arguments.manifest, &arguments.source)?;
    let store = Store::open_read_only(&project.cache)?;
    let forced = BTreeSet::new();
    let decider = Decider::new(&project.manifest, &store, &forced);
    let plan = project.plan(&decider, &project.wanted(&arguments.until)?)?;
    let drawing = Drawing::of(&project, &plan);
    let text = match arguments.format {
        GraphFormat::Mermaid => drawing.mermaid(),
        GraphFormat::Dot => drawing.dot(),
        GraphFormat::Svg => drawing.svg(),
    };
    write!(anstream::stdout().lock(), "{text}")?;
    Ok(Exit::Done)
}

/// Fill and stroke of a state; the state's word is always written too.
fn colours(state: State) -> (&'static str, &'static str) {
    match state {
        State::Cached => ("#e3f4e1", "#3c8a3c"),
        State::WillRun => ("#fde7c8", "#c8791b"),
        State::MayRun => ("#fdf7d2", "#b6a21c"),
        State::Waiting => ("#dce8f7", "#3f6fb0"),
    }
}

impl Drawing {
    fn of(project: &Project, plan: &Plan) -> Self {
        let stages: Vec<_> =
            plan.stages.iter().map(|stage| (stage.name.to_string(), stage.kind, stage.state)).collect();
        let index = |name: &str| stages.iter().position(|(stage, ..)| stage == name);
        let mut edges: Vec<(usize, usize, String)> = Vec::new();
        for (to, stage) in plan.stages.iter().enumerate() {
            for edge in project.manifest.stages[&stage.name].inputs.values() {
                let Some(from) = index(edge.stage.as_str()) else { continue };
                match edges.iter_mut().find(|(one, other, _)| (*one, *other) == (from, to)) {
                    Some((.., what)) if what.split(", ").any(|one| one == edge.output) => {}
                    Some((.., what)) => *what += &format!(", {}", edge.output),
                    None => edges.push((from, to, edge.output.clone())),
                }
            }
        }
        Self { stages, edges }
    }

    fn mermaid(&self) -> String {
        let mut text = "flowchart TD\n".to_owned();
        for (number, (name, kind, state)) in self.stages.iter().enumerate() {
            let (class, word) = (class(*state), state.text());
            // Writing to a string does not fail.
            let _ = writeln!(text, "    s{number}[\"{name}<br/><small>{kind}: {word}</small>\"]:::{class}");
        }
        for (from, to, what) in &self.edges {
            let _ = writeln!(text, "    s{from} -->|{what}| s{to}");
        }
        for state in State::ALL {
            let (fill, stroke) = colours(state);
            let _ = writeln!(text, "    classDef {} fill:{fill},stroke:{stroke},color:#222", class(state));
        }
        text
    }

    fn dot(&self) -> String {
        let mut text =
            "digraph pipeline {\n    node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"]\n".to_owned();
        for (name, kind, state) in &self.stages {
            let (fill, stroke) = colours(*state);
            let word = state.text();
            let _ = writeln!(
                text,
                "    \"{name}\" [label=\"{name}\\n{kind}: {word}\", fillcolor=\"{fill}\", color=\"{stroke}\"]"
            );
        }
        for (from, to, what) in &self.edges {
            let (from, to) = (&self.stages[*from].0, &self.stages[*to].0);
            let _ = writeln!(text, "    \"{from}\" -> \"{to}\" [label=\"{what}\"]");
        }
        text + "}\n"
    }
}

fn class(state: State) -> &'static str {
    match state {
        State::Cached => "cached",
        State::WillRun => "willRun",
        State::MayRun => "mayRun",
        State::Waiting => "waiting",
    }
}
