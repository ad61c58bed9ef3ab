//! The graph of stages as a picture: Mermaid, Graphviz or SVG. What is said of a stage is said in a word and in a colour.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::manifest::{Manifest, StageName};

mod svg;

/// A graph to draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawing {
    /// Its stages, in the order of the graph.
    pub stages: Vec<Node>,
    /// From, to: indexes of stages; and what flows there.
    pub edges: Vec<(usize, usize, String)>,
}

/// A stage to draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// What is said of it: `cached`, `will run`, `failed`.
    pub word: &'static str,
    /// The colours of that.
    pub colours: Colours,
}

/// Fill and stroke, as CSS has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colours(pub &'static str, pub &'static str);

impl Colours {
    /// What is as it should be.
    pub const GREEN: Self = Self("#e3f4e1", "#3c8a3c");
    /// What was or is to be done.
    pub const ORANGE: Self = Self("#fde7c8", "#c8791b");
    /// What may have to be done.
    pub const YELLOW: Self = Self("#fdf7d2", "#b6a21c");
    /// What somebody else does.
    pub const BLUE: Self = Self("#dce8f7", "#3f6fb0");
    /// What went wrong.
    pub const RED: Self = Self("#fbdcdc", "#b03030");
    /// What was not done.
    pub const GREY: Self = Self("#eeeeee", "#888888");
}

impl Drawing {
    /// These stages of a manifest, in the order of the graph, each with the word and the colours of what is said of it.
    pub fn of<'n>(
        manifest: &Manifest,
        stages: impl IntoIterator<Item = (&'n StageName, &'static str, Colours)>,
    ) -> Self {
        let mut drawing = Self { stages: Vec::new(), edges: Vec::new() };
        let mut places: BTreeMap<&StageName, usize> = BTreeMap::new();
        for (name, word, colours) in stages {
            let Some(stage) = manifest.stages.get(name) else { continue };
            let to = drawing.stages.len();
            for edge in stage.inputs.values() {
                let Some(from) = places.get(&edge.stage).copied() else { continue };
                match drawing.edges.iter_mut().find(|(one, other, _)| (*one, *other) == (from, to)) {
                    Some((.., what)) if what.split(", ").any(|one| one == edge.output) => {}
                    Some((.., what)) => *what += &format!(", {}", edge.output),
                    None => drawing.edges.push((from, to, edge.output.clone())),
                }
            }
            places.insert(name, to);
            drawing.stages.push(Node { name: name.to_string(), kind: stage.kind.name.to_owned(), word, colours });
        }
        drawing
    }

    /// As a Mermaid flowchart.
    pub fn mermaid(&self) -> String {
        let mut text = "flowchart TD\n".to_owned();
        for (number, Node { name, kind, word, .. }) in self.stages.iter().enumerate() {
            let class = class(word);
            // Writing to a string does not fail.
            let _ = writeln!(text, "    s{number}[\"{name}<br/><small>{kind}: {word}</small>\"]:::{class}");
        }
        for (from, to, what) in &self.edges {
            let _ = writeln!(text, "    s{from} -->|{what}| s{to}");
        }
        let words: BTreeMap<_, _> = self.stages.iter().map(|stage| (stage.word, stage.colours)).collect();
        for (word, Colours(fill, stroke)) in words {
            let _ = writeln!(text, "    classDef {} fill:{fill},stroke:{stroke},color:#222", class(word));
        }
        text
    }

    /// As Graphviz reads it.
    pub fn dot(&self) -> String {
        let mut text =
            "digraph pipeline {\n    node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"]\n".to_owned();
        for Node { name, kind, word, colours: Colours(fill, stroke) } in &self.stages {
            let _ = writeln!(
                text,
                "    \"{name}\" [label=\"{name}\\n{kind}: {word}\", fillcolor=\"{fill}\", color=\"{stroke}\"]"
            );
        }
        for (from, to, what) in &self.edges {
            let (from, to) = (&self.stages[*from].name, &self.stages[*to].name);
            let _ = writeln!(text, "    \"{from}\" -> \"{to}\" [label=\"{what}\"]");
        }
        text + "}\n"
    }
}

/// A word as the name of a Mermaid class: `will run` is `willRun`.
fn class(word: &str) -> String {
    let mut parts = word.split(' ');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |class, part| {
        let (head, tail) = part.split_at(part.chars().next().map_or(0, char::len_utf8));
        class + &head.to_uppercase() + tail
    })
}
