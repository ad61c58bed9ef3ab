//! `[stages.NAME]`: from kind and settings to a typed stage.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use contract::{AnyStage, Cost, InputFacts, InputTree, Kind, OutputPort, Ports};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Entry, Table};
use super::edge::{self, Edge, EdgeDeclarations};
use super::place::Place;
use super::setting_schema::SettingSchema;
use super::settings::{Location, with_parents};
use super::source::{Sources, Span};
use super::suggest;
use super::validate::validate;
use crate::stage_name::StageName;

/// One stage of a manifest.
#[derive(Clone)]
pub struct StageDeclaration {
    /// The name.
    pub name: StageName,
    /// The kind.
    pub kind: Kind,
    /// The kind with this stage's settings.
    pub stage: Arc<dyn AnyStage>,
    /// The ports.
    pub ports: Ports,
    /// The edge of each connected input port.
    pub inputs: BTreeMap<String, Edge>,
    /// The facts about its inputs that its settings determine.
    facts: InputFacts,
    /// The cost, as far as its settings determine it.
    pub cost: Cost,
    /// The position of its declaration.
    pub place: Place,
    locations: BTreeMap<String, Location>,
    sources: Arc<Sources>,
}

impl StageDeclaration {
    /// Returns its cost, as far as its settings and the headers of its inputs determine it. `input` returns the tree that a port reads, if
    /// it exists.
    pub fn cost_with(&self, input: &dyn Fn(&str) -> Option<InputTree>) -> Cost {
        let mut facts = self.facts.clone();
        self.stage.observe(&mut facts, input);
        if facts == self.facts { self.cost } else { self.stage.infer(&facts).cost }
    }

    /// Returns the position of a setting, or of the nearest table that contains it.
    pub fn setting(&self, path: &str) -> Option<Place> {
        nearest(&self.locations, path).map(|span| self.sources.place(span))
    }
}

fn nearest(locations: &BTreeMap<String, Location>, path: &str) -> Option<Span> {
    with_parents(path).find_map(|path| locations.get(path)).map(|location| location.key)
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

/// The facts about a stage that depend on settings alone.
#[derive(Debug, Clone, Default)]
pub(super) struct InferredStage {
    pub facts: InputFacts,
    pub cost: Cost,
}

/// The keys of a stage that are not settings.
pub(super) const RESERVED: [&str; 3] = ["kind", "input", "inputs"];

/// A stage of a known kind, before its edges are resolved.
pub(super) struct Draft<'k> {
    pub name: StageName,
    /// The position of its declaration.
    pub header: Span,
    /// The position of its kind.
    pub kind_span: Span,
    pub kind: &'k Kind,
    /// `None` if its settings are invalid.
    pub stage: Option<Arc<dyn AnyStage>>,
    /// The ports of the stage; those of its kind if its settings are invalid.
    pub ports: Ports,
    pub edges: EdgeDeclarations,
    locations: BTreeMap<String, Location>,
}

impl Draft<'_> {
    /// Returns whether the ports are complete: settings may declare further ones.
    pub(super) fn ports_are_certain(&self) -> bool {
        self.stage.is_some() || !self.kind.ports.open
    }

    /// Returns the span of a setting, or of the nearest table that contains it.
    pub fn setting(&self, path: &str) -> Option<Span> {
        nearest(&self.locations, path)
    }

    /// Returns the span that declares an output, with a label: a setting, else the kind.
    pub(super) fn declaration_of(&self, output: &OutputPort) -> (Span, String) {
        match output.setting.as_ref().and_then(|setting| self.locations.get(setting)) {
            Some(location) => (location.key, format!("'{}' declares it here", self.name)),
            None => (self.kind_span, format!("'{}' is of this kind", self.name)),
        }
    }

    /// Returns the finished stage; `None` if its settings are invalid.
    pub fn declaration(
        self,
        inputs: BTreeMap<String, Edge>,
        inferred: InferredStage,
        sources: &Arc<Sources>,
    ) -> Option<StageDeclaration> {
        Some(StageDeclaration {
            stage: self.stage?,
            kind: self.kind.clone(),
            ports: self.ports,
            inputs,
            facts: inferred.facts,
            cost: inferred.cost,
            place: sources.place(self.header),
            locations: self.locations,
            sources: Arc::clone(sources),
            name: self.name,
        })
    }
}

/// Reads one entry of `[stages]`. `None` if its name or its kind is invalid.
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
        let message = format!("'stages.{name}' expects a table, found {}", entry.node.value.described());
        diagnostics.push(Diagnostic::error(message).at(entry.key, "").hint(format!("write [stages.{name}]")));
        return None;
    };
    let (kind, kind_span) = kind(name, header, table, kinds, diagnostics)?;
    let schemas = [SettingSchema::of(&kind.spec_schema), SettingSchema::of(&kind.exec_schema)];
    let owner = format!("kind '{}'", kind.name);
    let settings = validate(header, table, &schemas, &RESERVED, owner, diagnostics);
    let stage = settings.parse(kind, diagnostics);
    let ports = stage.as_ref().map_or_else(|| kind.ports.clone(), |stage| stage.ports());
    let declared = |output: &OutputPort| match output.setting.as_ref().and_then(|path| settings.locations.get(path)) {
        Some(location) => (location.key, "first here".to_owned()),
        None => (kind_span, format!("kind '{}' has it", kind.name)),
    };
    let mut seen = BTreeMap::new();
    for output in &ports.outputs {
        let Some(first) = seen.insert(&output.name, output) else { continue };
        let diagnostic = Diagnostic::error(format!("stage '{name}' declares the output '{}' twice", output.name));
        let (first, label) = declared(first);
        diagnostics.push(diagnostic.at(declared(output).0, "again here").at(first, label));
    }
    let misspelt = ["input", "inputs"].map(|key| settings.misspelt.contains(key));
    let edges = edge::declared(table, kind, &ports, misspelt, diagnostics);
    Some(Draft { name: stage_name.ok()?, header, kind_span, kind, stage, ports, edges, locations: settings.locations })
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
        let misspelt = table.in_order().into_iter().find(|(key, _)| suggest::nearest(key, ["kind"]).is_some());
        let diagnostic = Diagnostic::error(format!("stage '{name}' has no kind")).at(header, "");
        let has_kind = |entry: &Entry| entry.node.as_table().is_some_and(|inner| inner.get("kind").is_some());
        let inner = table.0.iter().find(|(_, entry)| has_kind(entry)).map(|(inner, _)| inner);
        diagnostics.push(match (inner, misspelt) {
            (Some(inner), _) => diagnostic.hint(format!("a stage name has no dot: write [stages.{name}-{inner}]")),
            (None, Some((key, entry))) => {
                diagnostic.at(entry.key, "here?").hint(format!("write kind instead of {key}"))
            }
            (None, None) => diagnostic.hint(format!("add kind = \"...\": {}", names.collect::<Vec<_>>().join(", "))),
        });
        return None;
    };
    let span = entry.node.span;
    let Some(written) = entry.node.as_str() else {
        let message = format!("'kind' expects a string, found {}", entry.node.value.described());
        diagnostics.push(Diagnostic::error(message).at(span, "expected a string"));
        return None;
    };
    let found = kinds.iter().find(|kind| kind.name == written);
    if found.is_none() {
        let diagnostic = Diagnostic::error(format!("unknown kind '{written}'")).at(span, "");
        diagnostics.push(diagnostic.hint(suggest::hint(written, "the kinds are", names)));
    }
    found.map(|kind| (kind, span))
}
