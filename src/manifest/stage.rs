//! `[stages.NAME]`: kind and settings to a typed stage.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use contract::{AnyStage, Cost, InputFacts, InputTree, Kind, Ports};

use super::check::{Check, join};
use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Entry, Node, Table, Value};
use super::edge::{Edge, Wires};
use super::infer::InferredStage;
use super::name::StageName;
use super::place::Place;
use super::shape::Shape;
use super::source::{Sources, Span};
use super::{edge, problem, suggest};

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
    /// What settings decide of its inputs.
    known: InputFacts,
    /// What it will cost, as far as settings tell.
    pub cost: Cost,
    /// Where it is declared.
    pub place: Place,
    /// Where each setting is written, by its path: `learning_rate`, `rules.line_max`, `allow`, `allow[0]`.
    pub settings: BTreeMap<String, Place>,
}

impl StageDeclaration {
    /// What it will cost, as settings and the headers of its inputs tell: `input` returns the tree that a port reads, where
    /// there is one.
    pub fn cost_with(&self, input: &dyn Fn(&str) -> Option<InputTree>) -> Cost {
        let mut known = self.known.clone();
        self.stage.observe(&mut known, input);
        if known == self.known { self.cost } else { self.stage.infer(&known).cost }
    }

    /// Where a setting is written, or the nearest table that holds it.
    pub fn setting(&self, path: &str) -> Option<&Place> {
        nearest(&self.settings, path)
    }
}

/// What is known of a dotted path, else of the nearest one above it.
fn nearest<'s, T>(settings: &'s BTreeMap<String, T>, path: &str) -> Option<&'s T> {
    let mut path = path;
    loop {
        if let Some(found) = settings.get(path) {
            return Some(found);
        }
        path = path.rsplit_once('.')?.0;
    }
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
    /// Of the stage; while its settings are wrong, as far as they tell.
    pub ports: Ports,
    /// Where its settings declare outputs that its kind does not have by itself.
    outputs: BTreeMap<String, Span>,
    /// What its edges say.
    pub wires: Wires,
    settings: BTreeMap<String, Span>,
}

impl Draft<'_> {
    /// Whether the ports are those of the stage: settings may declare further ones.
    pub fn ports_are_certain(&self) -> bool {
        self.stage.is_some() || !self.kind.ports.open
    }

    /// Where a setting is written, or the nearest table that holds it.
    pub fn setting(&self, path: &str) -> Option<Span> {
        nearest(&self.settings, path).copied()
    }

    /// Where what feeds an input port is written.
    pub fn wire(&self, port: &str) -> Option<Span> {
        self.wires.list.iter().find(|wire| wire.port == port).map(|wire| wire.span)
    }

    /// Where it is said that it has this output: the setting that declares it, else its kind.
    pub fn gives(&self, output: &str) -> (Span, String) {
        match self.outputs.get(output) {
            Some(span) => (*span, format!("'{}' declares it here", self.name)),
            None => (self.kind_span, format!("'{}' is of this kind", self.name)),
        }
    }

    /// Where each setting of a stage that is right is written.
    pub fn places(&self, sources: &Sources) -> BTreeMap<String, Place> {
        let settings = self.stage.iter().flat_map(|_| &self.settings);
        settings.map(|(path, span)| (path.clone(), sources.place(*span))).collect()
    }

    /// The finished stage with the [`Draft::places`] of its settings; `None` while its settings are wrong.
    pub fn declaration(
        self,
        inputs: BTreeMap<String, Edge>,
        inferred: InferredStage,
        settings: BTreeMap<String, Place>,
        sources: &Sources,
    ) -> Option<StageDeclaration> {
        let InferredStage { known, cost } = inferred;
        Some(StageDeclaration {
            stage: self.stage?,
            kind: self.kind.clone(),
            ports: self.ports,
            inputs,
            known,
            cost,
            place: sources.place(self.header),
            settings,
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
    let mut check = Check::new(diagnostics, format!("kind '{}'", kind.name));
    let settings = check.table(header, table, &schemas, &RESERVED, "");
    let faults = check.faults;
    let slips = ["input", "inputs"].map(|key| faults.holds(key));
    let (stage, ports) = problem::parse(kind, settings, faults, &entry.node, diagnostics);
    let declared = declared(table);
    twice(name, (kind, kind_span), &ports, &declared, diagnostics);
    let further = ports.outputs.iter().filter(|output| !kind.ports.outputs.iter().any(|own| own.name == output.name));
    let outputs = further.filter_map(|output| Some((output.name.to_string(), *declared.get(&*output.name)?.first()?)));
    let outputs = outputs.collect();
    let wires = edge::wires(table, kind, &ports, slips, diagnostics);
    let mut places = BTreeMap::new();
    for (key, entry) in table.0.iter().filter(|(key, _)| !RESERVED.contains(&key.as_str())) {
        collect(&join("", key), entry.key, &entry.node, &mut places);
    }
    Some(Draft { name: stage_name.ok()?, header, kind_span, kind, stage, ports, outputs, wires, settings: places })
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
        let has_kind = |entry: &Entry| entry.node.as_table().is_some_and(|inner| inner.get("kind").is_some());
        let inner = table.0.iter().find(|(_, entry)| has_kind(entry)).map(|(inner, _)| inner);
        diagnostics.push(match (inner, slip) {
            (Some(inner), _) => diagnostic.hint(format!("a stage's name has no dot: write [stages.{name}-{inner}]")),
            (None, Some((key, entry))) => {
                diagnostic.at(entry.key, "here?").hint(format!("write kind in place of {key}"))
            }
            (None, None) => diagnostic.hint(format!("add kind = \"...\": {}", names.collect::<Vec<_>>().join(", "))),
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

/// Reports ports that are there twice, each at the settings that declare it.
fn twice(name: &str, kind: (&Kind, Span), ports: &Ports, declared: &Declared<'_>, diagnostics: &mut Diagnostics) {
    let (kind, kind_span) = kind;
    let names = |ports: &Ports| -> [Vec<String>; 2] {
        let outputs = ports.outputs.iter().map(|output| output.name.clone().into_owned());
        [outputs.collect(), ports.inputs.iter().map(|input| input.name.clone().into_owned()).collect()]
    };
    for ((what, names), own) in ["output", "input"].into_iter().zip(names(ports)).zip(names(&kind.ports)) {
        let mut seen = BTreeSet::new();
        let again: BTreeSet<_> = names.iter().filter(|port| !seen.insert(*port)).collect();
        for port in again {
            let diagnostic = Diagnostic::error(format!("stage '{name}' declares the {what} '{port}' twice"));
            let places = declared.get(port.as_str()).map(Vec::as_slice).unwrap_or_default();
            let diagnostic = match places {
                [first, .., last] => diagnostic.at(*last, "again here").at(*first, "first here"),
                [only] => diagnostic.at(*only, "again here"),
                [] => diagnostic,
            };
            diagnostics.push(if own.contains(port) || places.is_empty() {
                diagnostic.at(kind_span, format!("kind '{}' has it", kind.name))
            } else {
                diagnostic
            });
        }
    }
}

/// Where the settings of a stage hold a word, as a key or as a string: there a kind may have found the name of a port.
type Declared<'t> = BTreeMap<&'t str, Vec<Span>>;

/// The words of the settings in `table`, less those of the reserved keys.
fn declared(table: &Table) -> Declared<'_> {
    fn gather<'t>(node: &'t Node, words: &mut Declared<'t>) {
        match &node.value {
            Value::String(text) => words.entry(text).or_default().push(node.span),
            Value::Array(items) => items.iter().for_each(|item| gather(item, words)),
            Value::Table(table) => table.0.iter().for_each(|(key, entry)| {
                words.entry(key).or_default().push(entry.key);
                gather(&entry.node, words);
            }),
            _ => {}
        }
    }
    let mut words = Declared::new();
    let settings = table.0.iter().filter(|(key, _)| !RESERVED.contains(&key.as_str()));
    settings.for_each(|(_, entry)| gather(&entry.node, &mut words));
    words.values_mut().for_each(|places| places.sort());
    words
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
