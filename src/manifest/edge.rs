//! Edges: `input = "stage"` and `inputs = { port = "stage.output" }`, each joined to an output of the same type.

use std::collections::{BTreeMap, BTreeSet};

use contract::{InputPort, Kind, PortType, Ports};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Node, Table, Value};
use super::name::StageName;
use super::place::Place;
use super::source::Span;
use super::stage::Draft;
use super::suggest;

/// What feeds an input port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The stage that gives it.
    pub stage: StageName,
    /// The output port of that stage.
    pub output: String,
    /// Where the edge is written.
    pub place: Place,
}

/// An edge as it is written.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    /// The input port.
    pub port: String,
    /// `stage` or `stage.output`.
    pub text: String,
    /// Where `text` is.
    pub span: Span,
}

impl Wire {
    /// The stage, and the output where one is named.
    pub fn from(&self) -> (&str, Option<&str>) {
        match self.text.split_once('.') {
            Some((stage, output)) => (stage, Some(output)),
            None => (&self.text, None),
        }
    }
}

/// The edges of a stage as they are written.
#[derive(Debug, Default)]
pub(super) struct Wires {
    pub list: Vec<Wire>,
    /// Ports that were meant by something that is already in error: that they lack an edge need not be said as well.
    meant: BTreeSet<String>,
    /// Whether the stage has a table of inputs.
    table: bool,
}

impl Wires {
    /// Adds an edge to `port`.
    fn add(&mut self, port: &str, node: &Node, diagnostics: &mut Diagnostics) {
        let Some(text) = node.as_str() else {
            self.meant.insert(port.to_owned());
            let message = format!("an input takes a string, found {}", node.value.described());
            let only = match &node.value {
                Value::Array(items) => items.first().filter(|_| items.len() == 1).and_then(Node::as_str),
                _ => None,
            };
            let diagnostic = Diagnostic::error(message).at(node.span, "expected \"stage\" or \"stage.output\"");
            diagnostics.push(diagnostic.hint(only.map(|only| format!("write \"{only}\""))));
            return;
        };
        // A table names each port once: only `input` can be there before.
        if let Some(first) = self.list.first().filter(|wire| wire.port == port) {
            let diagnostic = Diagnostic::error(format!("input '{port}' is connected twice"));
            diagnostics.push(diagnostic.at(node.span, "again here").at(first.span, "first here"));
        } else {
            self.list.push(Wire { port: port.to_owned(), text: text.to_owned(), span: node.span });
        }
    }
}

/// The edges that a stage's table holds, to the ports that it has. `slips`: whether other keys of the table are slips of
/// `input` and of `inputs`.
pub(super) fn wires(
    table: &Table,
    kind: &Kind,
    ports: &Ports,
    slips: [bool; 2],
    diagnostics: &mut Diagnostics,
) -> Wires {
    let mut wires = Wires { table: table.get("inputs").is_some(), ..Wires::default() };
    if slips[1] {
        wires.meant.extend(ports.inputs.iter().map(|port| port.name.to_string()));
    }
    let first = ports.inputs.first();
    if let Some(first) = first.filter(|_| slips[0]) {
        wires.meant.insert(first.name.to_string());
    }
    if let Some(entry) = table.get("input") {
        match first {
            _ if entry.node.as_table().is_some() => {
                wires.meant.extend(entry.node.as_table().into_iter().flat_map(|table| table.0.keys().cloned()));
                let diagnostic = Diagnostic::error("'input' takes a string, found a table").at(entry.key, "");
                let text = diagnostics.sources().text(entry.node.span);
                let hint = match text.starts_with('{') && text.len() < 60 {
                    true => format!("write inputs = {text}"),
                    false => "write inputs in place of input".to_owned(),
                };
                diagnostics.push(diagnostic.hint(hint));
            }
            Some(first) => wires.add(&first.name, &entry.node, diagnostics),
            None => {
                let message = if ports.open { "has no input that 'input' could mean" } else { "takes no input" };
                let diagnostic = Diagnostic::error(format!("kind '{}' {message}", kind.name)).at(entry.key, "");
                let named = "name the port: inputs = { NAME = \"stage\" }";
                diagnostics.push(diagnostic.hint(if ports.open { named } else { "take this line away" }.to_owned()));
            }
        }
    }
    let Some(entry) = table.get("inputs") else { return wires };
    let Some(inputs) = entry.node.as_table() else {
        wires.meant.extend(first.map(|first| first.name.to_string()));
        let message = format!("'inputs' takes a table, found {}", entry.node.value.described());
        let hint = "write inputs = { port = \"stage.output\" }, or input = \"stage\"".to_owned();
        diagnostics.push(Diagnostic::error(message).at(entry.node.span, "expected a table").hint(hint));
        return wires;
    };
    for (port, input) in inputs.in_order() {
        if ports.inputs.iter().any(|known| known.name == port) {
            wires.add(port, &input.node, diagnostics);
        } else if ports.open {
            if contract::is_port_name(port) {
                wires.add(port, &input.node, diagnostics);
            } else {
                let diagnostic = Diagnostic::error(format!("invalid port name '{}'", port.escape_debug()));
                let hint = "a port's name has lowercase letters, digits, '-' and '_'";
                diagnostics.push(diagnostic.at(input.key, "").hint(hint.to_owned()));
            }
        } else {
            let known: Vec<_> = ports.inputs.iter().map(|known| known.name.as_ref()).collect();
            wires.meant.extend(suggest::nearest(port, known.iter().copied()).map(str::to_owned));
            let diagnostic = Diagnostic::error(format!("kind '{}' has no input '{port}'", kind.name)).at(input.key, "");
            let hint = suggest::hint(port, "its inputs are", known.iter().copied());
            diagnostics.push(diagnostic.hint(hint.unwrap_or_else(|| "it takes no inputs".to_owned())));
        }
    }
    wires
}

/// Joins the edges of one stage. `names` holds all stages of the manifest; `drafts` those whose kind is known.
pub(super) fn join(
    draft: &Draft<'_>,
    names: &Table,
    drafts: &BTreeMap<&str, &Draft<'_>>,
    diagnostics: &mut Diagnostics,
) -> BTreeMap<String, Edge> {
    let mut edges = BTreeMap::new();
    let wires = &draft.wires;
    for wire in &wires.list {
        if let Some(edge) = joined(draft, wire, names, drafts, diagnostics) {
            edges.insert(wire.port.clone(), edge);
        }
    }
    for port in draft.ports.inputs.iter().filter(|port| port.required && !wires.meant.contains(&*port.name)) {
        if !wires.list.iter().any(|wire| wire.port == port.name) {
            let message = format!("stage '{}' lacks its input '{}' ({})", draft.name, port.name, port.ty);
            let first = draft.ports.inputs.first().is_some_and(|first| first.name == port.name);
            let given = giving(port.ty, draft, drafts).into_iter().next();
            let from = given.unwrap_or_else(|| "stage".to_owned());
            let hint = match (first, wires.table) {
                (true, _) => format!("add input = \"{from}\""),
                (false, true) => format!("add {} = \"{from}\" to its inputs", port.name),
                (false, false) => format!("add inputs.{} = \"{from}\"", port.name),
            };
            diagnostics.push(Diagnostic::error(message).at(draft.header, "").hint(hint));
        }
    }
    edges
}

fn joined(
    draft: &Draft<'_>,
    wire: &Wire,
    names: &Table,
    drafts: &BTreeMap<&str, &Draft<'_>>,
    diagnostics: &mut Diagnostics,
) -> Option<Edge> {
    let (stage, output) = wire.from();
    if names.get(stage).is_none() {
        let diagnostic = Diagnostic::error(format!("there is no stage '{stage}'")).at(wire.span, "");
        let others = names.0.keys().map(String::as_str).filter(|name| *name != draft.name.as_str());
        diagnostics.push(diagnostic.hint(suggest::hint(stage, "the stages are", others)));
        return None;
    }
    let upstream = drafts.get(stage)?;
    let found = match output {
        Some(output) => upstream.ports.outputs.iter().find(|port| port.name == output),
        None => upstream.ports.outputs.first(),
    };
    let Some(found) = found else {
        if upstream.ports_are_certain() {
            let message = match output {
                Some(output) => format!("stage '{stage}' has no output '{output}'"),
                None => format!("stage '{stage}' has no output"),
            };
            let known: Vec<_> = upstream.ports.outputs.iter().map(|port| port.name.as_ref()).collect();
            let hint = suggest::hint(output.unwrap_or_default(), "its outputs are", known.iter().copied());
            let hint = hint.or_else(|| upstream.ports.open.then(|| "its settings declare none".to_owned()));
            let diagnostic = Diagnostic::error(message).at(wire.span, "");
            diagnostics.push(diagnostic.at(upstream.kind_span, format!("'{stage}' is of this kind")).hint(hint));
        }
        return None;
    };
    let files = InputPort { name: wire.port.clone().into(), ty: PortType::Files, required: false, about: "".into() };
    let port = draft.ports.inputs.iter().find(|port| port.name == wire.port).unwrap_or(&files);
    if !found.ty.feeds(port.ty) {
        let message = format!("input '{}' of stage '{}' takes {}, not {}", port.name, draft.name, port.ty, found.ty);
        let mut given = giving(port.ty, draft, drafts);
        given.truncate(4);
        let hint = (!given.is_empty())
            .then(|| format!("{} {} {}", given.join(", "), if given.len() == 1 { "gives" } else { "give" }, port.ty));
        let (declared, label) = upstream.gives(&found.name);
        let diagnostic = Diagnostic::error(message)
            .at(wire.span, format!("'{stage}.{}' gives {}", found.name, found.ty))
            .at(declared, label);
        diagnostics.push(diagnostic.hint(hint));
        return None;
    }
    Some(Edge {
        stage: upstream.name.clone(),
        output: found.name.clone().into_owned(),
        place: diagnostics.sources().place(wire.span),
    })
}

/// The outputs of other stages that give this type, as an edge would name them; those of the same kind last, for they
/// seldom feed each other.
fn giving(ty: PortType, to: &Draft<'_>, drafts: &BTreeMap<&str, &Draft<'_>>) -> Vec<String> {
    let mut given = Vec::new();
    for (name, draft) in drafts.iter().take(suggest::MOST).filter(|(name, _)| **name != to.name.as_str()) {
        for (index, output) in draft.ports.outputs.iter().enumerate() {
            if output.ty.feeds(ty) {
                let edge = if index == 0 { (*name).to_owned() } else { format!("{name}.{}", output.name) };
                given.push((draft.kind.name == to.kind.name, edge));
            }
        }
    }
    given.sort();
    given.into_iter().map(|(_, edge)| edge).collect()
}
