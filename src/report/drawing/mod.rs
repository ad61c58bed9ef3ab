//! The graph of stages as Mermaid, DOT or SVG, with a status and a colour for each stage.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::manifest::{Manifest, StageName};

mod svg;

/// A graph of stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawing {
    /// The stages, in topological order.
    pub stages: Vec<Node>,
    /// The edges: from and to, as indexes of stages, with the outputs that are read.
    pub edges: Vec<(usize, usize, String)>,
}

/// A stage of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The name.
    pub name: String,
    /// The kind.
    pub kind: String,
    /// The status: `cached`, `will run`, `failed`.
    pub status: &'static str,
    /// The colours of the status.
    pub colours: Colours,
}

/// The fill and stroke colours, in CSS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colours(pub &'static str, pub &'static str);

impl Colours {
    /// The stage is up to date.
    pub const GREEN: Self = Self("#e3f4e1", "#3c8a3c");
    /// The stage ran, or will run.
    pub const ORANGE: Self = Self("#fde7c8", "#c8791b");
    /// The stage may run.
    pub const YELLOW: Self = Self("#fdf7d2", "#b6a21c");
    /// The stage waits for another process.
    pub const BLUE: Self = Self("#dce8f7", "#3f6fb0");
    /// The stage failed.
    pub const RED: Self = Self("#fbdcdc", "#b03030");
    /// The stage was not run.
    pub const GREY: Self = Self("#eeeeee", "#888888");
}

impl Drawing {
    /// Returns the graph of the given stages of a manifest, in topological order, each with its status and colours.
    pub fn new<'n>(
        manifest: &Manifest,
        stages: impl IntoIterator<Item = (&'n StageName, &'static str, Colours)>,
    ) -> Self {
        let mut drawing = Self { stages: Vec::new(), edges: Vec::new() };
        let mut indexes: BTreeMap<&StageName, usize> = BTreeMap::new();
        for (name, status, colours) in stages {
            let Some(stage) = manifest.stages.get(name) else { continue };
            let (to, first) = (drawing.stages.len(), drawing.edges.len());
            for edge in stage.inputs.values() {
                let Some(from) = indexes.get(&edge.stage).copied() else { continue };
                match drawing.edges[first..].iter_mut().find(|(start, ..)| *start == from) {
                    Some((.., what)) if what.split(", ").any(|one| one == edge.output) => {}
                    Some((.., what)) => *what += &format!(", {}", edge.output),
                    None => drawing.edges.push((from, to, edge.output.clone())),
                }
            }
            indexes.insert(name, to);
            drawing.stages.push(Node { name: name.to_string(), kind: stage.kind.name.to_owned(), status, colours });
        }
        drawing
    }

    /// Renders a Mermaid flowchart.
    pub fn mermaid(&self) -> String {
        let mut text = "flowchart TD\n".to_owned();
        for (number, Node { name, kind, status, .. }) in self.stages.iter().enumerate() {
            let class = class(status);
            // Writing to a string does not fail.
            let _ = writeln!(text, "    s{number}[\"{name}<br/><small>{kind}: {status}</small>\"]:::{class}");
        }
        for (from, to, what) in &self.edges {
            let _ = writeln!(text, "    s{from} -->|{what}| s{to}");
        }
        let statuses: BTreeMap<_, _> = self.stages.iter().map(|stage| (stage.status, stage.colours)).collect();
        for (status, Colours(fill, stroke)) in statuses {
            let _ = writeln!(text, "    classDef {} fill:{fill},stroke:{stroke},color:#222", class(status));
        }
        text
    }

    /// Renders the DOT language of Graphviz.
    pub fn dot(&self) -> String {
        let mut text =
            "digraph pipeline {\n    node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"]\n".to_owned();
        for Node { name, kind, status, colours: Colours(fill, stroke) } in &self.stages {
            let _ = writeln!(
                text,
                "    \"{name}\" [label=\"{name}\\n{kind}: {status}\", fillcolor=\"{fill}\", color=\"{stroke}\"]"
            );
        }
        for (from, to, what) in &self.edges {
            let (from, to) = (&self.stages[*from].name, &self.stages[*to].name);
            let _ = writeln!(text, "    \"{from}\" -> \"{to}\" [label=\"{what}\"]");
        }
        text + "}\n"
    }
}

/// Returns the Mermaid class of a status: `will_run` for `will run`.
fn class(status: &str) -> String {
    status.replace(' ', "_")
}
