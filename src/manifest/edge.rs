//! Edges as declared: `input = "stage"` and `inputs = { port = "stage.output" }`.

use std::collections::BTreeSet;

use contract::{Kind, Ports};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Node, Table};
use super::place::Place;
use super::source::Span;
use super::suggest;
use crate::stage_name::StageName;

/// The output that an input port reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The upstream stage.
    pub stage: StageName,
    /// The output port of that stage.
    pub output: String,
    /// The position of the edge.
    pub place: Place,
}

/// An edge as declared.
#[derive(Debug, Clone)]
pub(super) struct EdgeDeclaration {
    /// The input port.
    pub port: String,
    /// The string `stage` or `stage.output`.
    pub text: String,
    /// The position of `text`.
    pub span: Span,
}

impl EdgeDeclaration {
    /// Returns the upstream stage, and its output if one is named.
    pub fn source(&self) -> (&str, Option<&str>) {
        match self.text.split_once('.') {
            Some((stage, output)) => (stage, Some(output)),
            None => (&self.text, None),
        }
    }
}

/// The edges of a stage, as declared.
#[derive(Debug, Default)]
pub(super) struct EdgeDeclarations {
    pub list: Vec<EdgeDeclaration>,
    /// The ports of invalid edges, which are not reported again as missing.
    pub invalid: BTreeSet<String>,
    /// Whether the stage has a table of inputs.
    pub has_table: bool,
}

impl EdgeDeclarations {
    /// Returns the upstream stages.
    pub fn stages(&self) -> Vec<String> {
        self.list.iter().map(|edge| edge.source().0.to_owned()).collect()
    }

    fn add(&mut self, port: &str, node: &Node, diagnostics: &mut Diagnostics) {
        let Some(text) = node.as_str() else {
            self.invalid.insert(port.to_owned());
            let message = format!("an input expects a string, found {}", node.value.described());
            diagnostics.push(Diagnostic::error(message).at(node.span, "expected \"stage\" or \"stage.output\""));
            return;
        };
        // The keys of a table are unique: only `input` can be the same port.
        if let Some(first) = self.list.first().filter(|edge| edge.port == port) {
            let diagnostic = Diagnostic::error(format!("input '{port}' is connected twice"));
            diagnostics.push(diagnostic.at(node.span, "again here").at(first.span, "first here"));
        } else {
            self.list.push(EdgeDeclaration { port: port.to_owned(), text: text.to_owned(), span: node.span });
        }
    }
}

/// Reads the edges from a stage's table. `misspelt`: whether other keys of the table are misspellings of `input` and of
/// `inputs`.
pub(super) fn declared(
    table: &Table,
    kind: &Kind,
    ports: &Ports,
    misspelt: [bool; 2],
    diagnostics: &mut Diagnostics,
) -> EdgeDeclarations {
    let mut edges = EdgeDeclarations { has_table: table.get("inputs").is_some(), ..EdgeDeclarations::default() };
    let known: Vec<&str> = ports.inputs.iter().map(|port| port.name.as_ref()).collect();
    let first = known.first().copied();
    if misspelt[1] {
        edges.invalid.extend(known.iter().map(|port| (*port).to_owned()));
    } else if misspelt[0] {
        edges.invalid.extend(first.map(str::to_owned));
    }
    if let Some(entry) = table.get("input") {
        if let Some(inputs) = entry.node.as_table() {
            edges.invalid.extend(inputs.0.keys().cloned());
            let diagnostic = Diagnostic::error("'input' expects a string, found a table").at(entry.key, "");
            diagnostics.push(diagnostic.hint("write inputs instead of input".to_owned()));
        } else if let Some(first) = first {
            edges.add(first, &entry.node, diagnostics);
        } else {
            let (message, hint) = match ports.open {
                true => ("has no first input", "name the port: inputs = { NAME = \"stage\" }"),
                false => ("has no inputs", "remove this line"),
            };
            let diagnostic = Diagnostic::error(format!("kind '{}' {message}", kind.name)).at(entry.key, "");
            diagnostics.push(diagnostic.hint(hint.to_owned()));
        }
    }
    let Some(entry) = table.get("inputs") else { return edges };
    let Some(inputs) = entry.node.as_table() else {
        edges.invalid.extend(first.map(str::to_owned));
        let message = format!("'inputs' expects a table, found {}", entry.node.value.described());
        let hint = "write inputs = { port = \"stage.output\" }, or input = \"stage\"".to_owned();
        diagnostics.push(Diagnostic::error(message).at(entry.node.span, "expected a table").hint(hint));
        return edges;
    };
    for (port, input) in inputs.in_order() {
        if known.contains(&port) || (ports.open && contract::is_port_name(port)) {
            edges.add(port, &input.node, diagnostics);
        } else if ports.open {
            let diagnostic = Diagnostic::error(format!("invalid port name '{}'", port.escape_debug()));
            let hint = "a port name has lowercase letters, digits, '-' and '_'";
            diagnostics.push(diagnostic.at(input.key, "").hint(hint.to_owned()));
        } else {
            edges.invalid.extend(suggest::nearest(port, known.iter().copied()).map(str::to_owned));
            let diagnostic = Diagnostic::error(format!("kind '{}' has no input '{port}'", kind.name)).at(input.key, "");
            let hint = suggest::hint(port, "its inputs are", known.iter().copied());
            diagnostics.push(diagnostic.hint(hint.unwrap_or_else(|| "it has no inputs".to_owned())));
        }
    }
    edges
}
