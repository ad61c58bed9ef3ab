//! Edges: `input = "stage"` and `inputs = { port = "stage.output" }`, each resolved to an output of the same type.

use std::collections::{BTreeMap, BTreeSet};

use contract::{InputPort, Kind, PortType, Ports};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Node, Table};
use super::place::Place;
use super::source::Span;
use super::stage::Draft;
use super::suggest;
use crate::stage_name::StageName;

/// The output that an input port reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The upstream stage.
    pub stage: StageName,
    /// The output port of that stage.
    pub output: String,
    /// Where the edge is written.
    pub place: Place,
}

/// An edge as it is written.
#[derive(Debug, Clone)]
pub(super) struct EdgeDeclaration {
    /// The input port.
    pub port: String,
    /// `stage` or `stage.output`.
    pub text: String,
    /// Where `text` is written.
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

/// The edges of a stage as they are written.
#[derive(Debug, Default)]
pub(super) struct EdgeDeclarations {
    pub list: Vec<EdgeDeclaration>,
    /// Ports of invalid edges: that they are missing is not reported as well.
    invalid: BTreeSet<String>,
    /// Whether the stage has a table of inputs.
    has_table: bool,
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

/// Resolves the edges of one stage. `names` holds all stages of the manifest; `drafts` those of a known kind.
pub(super) fn resolve(
    draft: &Draft<'_>,
    names: &Table,
    drafts: &BTreeMap<&str, &Draft<'_>>,
    diagnostics: &mut Diagnostics,
) -> BTreeMap<String, Edge> {
    let declared = &draft.edges;
    let resolved = declared.list.iter().filter_map(|edge| {
        let resolved = resolve_one(draft, edge, names, drafts, diagnostics)?;
        Some((edge.port.clone(), resolved))
    });
    let resolved = resolved.collect();
    for (index, port) in draft.ports.inputs.iter().enumerate() {
        let is_declared =
            declared.invalid.contains(&*port.name) || declared.list.iter().any(|edge| edge.port == port.name);
        if is_declared || !port.required {
            continue;
        }
        let source = producers(port.ty, draft, drafts).into_iter().next().unwrap_or_else(|| "stage".to_owned());
        let hint = match (index, declared.has_table) {
            (0, _) => format!("add input = \"{source}\""),
            (_, true) => format!("add {} = \"{source}\" to its inputs", port.name),
            (_, false) => format!("add inputs.{} = \"{source}\"", port.name),
        };
        let message = format!("missing input '{}' ({}) of stage '{}'", port.name, port.ty, draft.name);
        diagnostics.push(Diagnostic::error(message).at(draft.header, "").hint(hint));
    }
    resolved
}

fn resolve_one(
    draft: &Draft<'_>,
    edge: &EdgeDeclaration,
    names: &Table,
    drafts: &BTreeMap<&str, &Draft<'_>>,
    diagnostics: &mut Diagnostics,
) -> Option<Edge> {
    let (stage, output) = edge.source();
    if names.get(stage).is_none() {
        let others = names.0.keys().map(String::as_str).filter(|name| *name != draft.name.as_str());
        let diagnostic = Diagnostic::error(format!("unknown stage '{stage}'")).at(edge.span, "");
        diagnostics.push(diagnostic.hint(suggest::hint(stage, "the stages are", others)));
        return None;
    }
    let upstream = drafts.get(stage)?;
    let outputs = &upstream.ports.outputs;
    let Some(found) = output.map_or(outputs.first(), |output| outputs.iter().find(|port| port.name == output)) else {
        if upstream.ports_are_certain() {
            let name = output.map(|output| format!(" '{output}'")).unwrap_or_default();
            let known = outputs.iter().map(|port| &*port.name);
            let hint = suggest::hint(output.unwrap_or_default(), "its outputs are", known);
            let hint = hint.or_else(|| upstream.ports.open.then(|| "its settings declare none".to_owned()));
            let diagnostic = Diagnostic::error(format!("stage '{stage}' has no output{name}")).at(edge.span, "");
            diagnostics.push(diagnostic.at(upstream.kind_span, format!("'{stage}' is of this kind")).hint(hint));
        }
        return None;
    };
    let files = InputPort { name: edge.port.clone().into(), ty: PortType::Files, required: false, about: "".into() };
    let port = draft.ports.inputs.iter().find(|port| port.name == edge.port).unwrap_or(&files);
    if !found.ty.feeds(port.ty) {
        let message =
            format!("input '{}' of stage '{}' expects {}, found {}", port.name, draft.name, port.ty, found.ty);
        let mut others = producers(port.ty, draft, drafts);
        others.truncate(4);
        let verb = if others.len() == 1 { "produces" } else { "produce" };
        let hint = (!others.is_empty()).then(|| format!("{} {verb} {}", others.join(", "), port.ty));
        let (declared, label) = upstream.declaration_of(found);
        let diagnostic = Diagnostic::error(message)
            .at(edge.span, format!("'{stage}.{}' is of type {}", found.name, found.ty))
            .at(declared, label);
        diagnostics.push(diagnostic.hint(hint));
        return None;
    }
    Some(Edge {
        stage: upstream.name.clone(),
        output: found.name.clone().into_owned(),
        place: diagnostics.sources().place(edge.span),
    })
}

/// Returns the outputs of other stages that an input of type `ty` accepts, as an edge names them; those of the same kind last,
/// since they rarely feed each other.
fn producers(ty: PortType, to: &Draft<'_>, drafts: &BTreeMap<&str, &Draft<'_>>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, draft) in drafts.iter().take(suggest::MOST).filter(|(name, _)| **name != to.name.as_str()) {
        for (index, output) in draft.ports.outputs.iter().enumerate().filter(|(_, output)| output.ty.feeds(ty)) {
            let edge = if index == 0 { (*name).to_owned() } else { format!("{name}.{}", output.name) };
            found.push((draft.kind.name == to.kind.name, edge));
        }
    }
    found.sort();
    found.into_iter().map(|(_, edge)| edge).collect()
}
