//! `[stages.NAME]`: kind and settings to a typed stage.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use contract::{AnyStage, Kind, Ports, Problem};
use serde_json::Value as Json;

use super::check::{Check, join};
use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Entry, Node, Table, Value};
use super::edge::{Edge, Wire};
use super::name::StageName;
use super::place::Place;
use super::shape::Shape;
use super::source::Span;
use super::{edge, suggest};

/// One stage of a manifest.
#[derive(Clone)]
pub struct StageDeclaration {
    /// What the manifest calls it.
    pub name: StageName,
    /// Its kind.
    pub kind: Kind,
    /// The kind with this stage's settings.
    pub stage: Arc<dyn AnyStage>,
    /// Its ports.
    pub ports: Ports,
    /// What feeds each connected input port.
    pub inputs: BTreeMap<String, Edge>,
    /// Where it is declared.
    pub place: Place,
    /// Where each setting is written, by its path: `learning_rate`, `rules.line_max`, `allow`, `allow[0]`.
    pub settings: BTreeMap<String, Place>,
}

impl fmt::Debug for StageDeclaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StageDeclaration")
            .field("name", &self.name)
            .field("kind", &self.kind.name)
            .field("settings", self.stage.spec())
            .field("inputs", &self.inputs)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// The keys of a stage that are not settings.
pub(super) const RESERVED: [&str; 3] = ["kind", "input", "inputs"];

/// A stage whose kind is known, before its edges are.
pub(super) struct Draft<'k> {
    pub name: StageName,
    /// Where it is declared.
    pub header: Span,
    /// Where its kind is named.
    pub kind_span: Span,
    pub kind: &'k Kind,
    /// Missing when its settings are wrong.
    pub stage: Option<Arc<dyn AnyStage>>,
    /// Of the stage, or while its settings are wrong, of its kind.
    pub ports: Ports,
    /// What its edges say.
    pub wires: Vec<Wire>,
    settings: BTreeMap<String, Span>,
}

impl Draft<'_> {
    /// Whether the ports are those of the stage: settings may declare further ones.
    pub fn ports_are_certain(&self) -> bool {
        self.stage.is_some() || !self.kind.ports.open
    }

    /// The finished stage; `None` while its settings are wrong.
    pub fn declaration(self, inputs: BTreeMap<String, Edge>, diagnostics: &Diagnostics) -> Option<StageDeclaration> {
        let place = |span| diagnostics.sources().place(span);
        Some(StageDeclaration {
            stage: self.stage?,
            kind: self.kind.clone(),
            ports: self.ports,
            inputs,
            place: place(self.header),
            settings: self.settings.into_iter().map(|(path, span)| (path, place(span))).collect(),
            name: self.name,
        })
    }
}

/// Reads one entry of `[stages]`. `None` when its name or its kind is wrong.
pub(super) fn draft<'k>(
    name: &str,
    entry: &Entry,
    kinds: &'k [Kind],
    diagnostics: &mut Diagnostics,
) -> Option<Draft<'k>> {
    let header = entry.node.span;
    let stage_name = name.parse::<StageName>();
    if let Err(error) = &stage_name {
        diagnostics.push(Diagnostic::error(error.to_string()).at(entry.key, ""));
    }
    let Some(table) = entry.node.as_table() else {
        let message = format!("'stages.{name}' takes a table, found {}", entry.node.value.described());
        diagnostics.push(Diagnostic::error(message).at(entry.key, "").hint(format!("write [stages.{name}]")));
        return None;
    };
    let (kind, kind_span) = kind(name, header, table, kinds, diagnostics)?;
    let schemas = [Shape::of(&kind.spec_schema), Shape::of(&kind.exec_schema)];
    let mut check = Check { diagnostics, owner: format!("kind '{}'", kind.name), fits: true };
    let settings = check.table(header, table, &schemas, &RESERVED, "");
    let fits = check.fits;
    let stage = match settings {
        Json::Object(settings) if fits => parsed(kind, &settings, &entry.node, diagnostics),
        _ => None,
    };
    let ports = stage.as_ref().map_or_else(|| kind.ports.clone(), |stage| stage.ports());
    twice(name, header, &ports, diagnostics);
    let wires = edge::wires(table, kind, &ports, diagnostics);
    let mut places = BTreeMap::new();
    for (key, entry) in table.0.iter().filter(|(key, _)| !RESERVED.contains(&key.as_str())) {
        collect(&join("", key), entry.key, &entry.node, &mut places);
    }
    Some(Draft { name: stage_name.ok()?, header, kind_span, kind, stage, ports, wires, settings: places })
}

fn kind<'k>(
    name: &str,
    header: Span,
    table: &Table,
    kinds: &'k [Kind],
    diagnostics: &mut Diagnostics,
) -> Option<(&'k Kind, Span)> {
    let names = kinds.iter().map(|kind| kind.name);
    let Some(entry) = table.get("kind") else {
        // A slip in the very word: the key that is nearly it.
        let slip = table.in_order().into_iter().find(|(key, _)| suggest::nearest(key, ["kind"]).is_some());
        let diagnostic = Diagnostic::error(format!("stage '{name}' has no kind")).at(header, "");
        diagnostics.push(match slip {
            Some((key, entry)) => diagnostic.at(entry.key, "here?").hint(format!("write kind in place of {key}")),
            None => diagnostic.hint(format!("add kind = \"...\": {}", names.collect::<Vec<_>>().join(", "))),
        });
        return None;
    };
    let span = entry.node.span;
    let Some(written) = entry.node.as_str() else {
        let message = format!("'kind' takes a string, found {}", entry.node.value.described());
        diagnostics.push(Diagnostic::error(message).at(span, "expected a string"));
        return None;
    };
    let found = kinds.iter().find(|kind| kind.name == written);
    if found.is_none() {
        let diagnostic = Diagnostic::error(format!("there is no kind '{written}'")).at(span, "");
        diagnostics.push(diagnostic.hint(suggest::hint(written, "the kinds are", names)));
    }
    found.map(|kind| (kind, span))
}

fn parsed(
    kind: &Kind,
    settings: &serde_json::Map<String, Json>,
    node: &Node,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<dyn AnyStage>> {
    let problems = match kind.parse(settings) {
        Ok(stage) => return Some(Arc::from(stage)),
        Err(problems) => problems,
    };
    for Problem { setting, message, hint } in problems {
        let diagnostic = Diagnostic::error(message).at(locate(node, &setting), "");
        diagnostics.push(diagnostic.hint(hint));
    }
    None
}

/// Where a setting is written: `allow[3]`, `rules.line_max`; where the path leads nowhere, its nearest parent.
fn locate(node: &Node, path: &str) -> Span {
    let mut node = node;
    for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
        let next = match &node.value {
            Value::Table(table) => table.get(step).map(|entry| &entry.node),
            Value::Array(items) => step.trim_end_matches(']').parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        match next {
            Some(next) => node = next,
            None => break,
        }
    }
    node.span
}

fn twice(name: &str, header: Span, ports: &Ports, diagnostics: &mut Diagnostics) {
    let outputs: Vec<_> = ports.outputs.iter().map(|output| &output.name).collect();
    let inputs: Vec<_> = ports.inputs.iter().map(|input| &input.name).collect();
    for (what, names) in [("output", outputs), ("input", inputs)] {
        for (index, port) in names.iter().enumerate() {
            if names[..index].contains(port) {
                let message = format!("stage '{name}' declares the {what} '{port}' twice");
                diagnostics.push(Diagnostic::error(message).at(header, ""));
            }
        }
    }
}

/// The place of a setting and of all below it.
fn collect(path: &str, key: Span, node: &Node, places: &mut BTreeMap<String, Span>) {
    places.insert(path.to_owned(), key);
    match &node.value {
        Value::Table(table) => {
            table.0.iter().for_each(|(name, entry)| collect(&join(path, name), entry.key, &entry.node, places));
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, item)| collect(&format!("{path}[{index}]"), item.span, item, places));
        }
        _ => {}
    }
}
