//! What the stages know of each other before anything runs: a walk that hands each the facts of its inputs, and tells
//! what does not fit at the lines of both settings.

use std::collections::{BTreeMap, BTreeSet};

use contract::{Conflict, Cost, Fact, Facts, InputFacts};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::edge::Edge;
use super::source::Span;
use super::stage::Draft;

/// What settings decide of a stage: the facts of its inputs, and what it will cost.
#[derive(Debug, Clone, Default)]
pub(super) struct InferredStage {
    pub known: InputFacts,
    pub cost: Cost,
}

/// What is inferred of each stage, by name. Of stages whose settings are wrong nothing is.
pub(super) fn infer(
    drafts: &BTreeMap<&str, &Draft<'_>>,
    edges: &BTreeMap<&str, &BTreeMap<String, Edge>>,
    diagnostics: &mut Diagnostics,
) -> BTreeMap<String, InferredStage> {
    let mut walk = Walk { drafts, edges, facts: BTreeMap::new(), inferred: BTreeMap::new(), conflicts: Vec::new() };
    drafts.keys().for_each(|stage| walk.stage(stage));
    let Walk { inferred, conflicts, .. } = walk;
    for (stage, conflict) in conflicts {
        let own = span(drafts, stage, &conflict.setting);
        let with = if conflict.with.stage.is_empty() { stage } else { &conflict.with.stage };
        let other = span(drafts, with, &conflict.with.setting);
        let (Some(own), Some(other)) = (own, other) else { continue };
        let diagnostic = Diagnostic::error(format!("stage '{stage}': {}", conflict.message));
        diagnostics.push(diagnostic.at(own, "").at(other, conflict.label).hint(conflict.hint));
    }
    inferred
}

struct Walk<'a, 'd> {
    drafts: &'a BTreeMap<&'a str, &'a Draft<'d>>,
    edges: &'a BTreeMap<&'a str, &'a BTreeMap<String, Edge>>,
    /// The facts of each output of the stages so far.
    facts: BTreeMap<&'a str, BTreeMap<String, Facts>>,
    inferred: BTreeMap<String, InferredStage>,
    conflicts: Vec<(&'a str, Conflict)>,
}

impl<'a> Walk<'a, '_> {
    /// Looks at a stage after all that it needs. The graph may be deeper than a stack; in a circle, nothing is known of the
    /// stage that closes it.
    fn stage(&mut self, name: &'a str) {
        let (mut waiting, mut entered) = (vec![name], BTreeSet::new());
        while let Some(name) = waiting.last().copied() {
            let edges = self.edges.get(name).into_iter().flat_map(|edges| edges.values());
            let needed = edges.filter_map(|edge| Some(*self.drafts.get_key_value(edge.stage.as_str())?.0));
            if self.facts.contains_key(name) {
                waiting.pop();
            } else if entered.insert(name) {
                waiting.extend(needed.filter(|needed| !entered.contains(needed)));
            } else {
                waiting.pop();
                self.look_at(name);
            }
        }
    }

    fn look_at(&mut self, name: &'a str) {
        self.facts.insert(name, BTreeMap::new());
        let Some(stage) = self.drafts.get(name).and_then(|draft| draft.stage.as_ref()) else { return };
        let known = self.edges.get(name).into_iter().flat_map(|edges| edges.iter()).map(|(port, edge)| {
            let outputs = self.facts.get(edge.stage.as_str());
            (port.clone(), outputs.and_then(|outputs| outputs.get(&edge.output)).cloned().unwrap_or_default())
        });
        let known = InputFacts::new(known.collect());
        let inferred = stage.infer(&known);
        let outputs = inferred.outputs.into_iter().map(|(port, facts)| (port.to_owned(), named(facts, name)));
        self.facts.insert(name, outputs.collect());
        self.inferred.insert(name.to_owned(), InferredStage { known, cost: inferred.cost });
        self.conflicts.extend(inferred.conflicts.into_iter().map(|conflict| (name, conflict)));
    }
}

/// Facts with the name of the stage that decided them, where it is the one that was asked.
fn named(facts: Facts, stage: &str) -> Facts {
    fn name<T>(fact: Option<Fact<T>>, stage: &str) -> Option<Fact<T>> {
        let mut fact = fact?;
        if fact.origin.stage.is_empty() {
            stage.clone_into(&mut fact.origin.stage);
        }
        Some(fact)
    }
    Facts {
        tokenizer: name(facts.tokenizer, stage),
        vocabulary: name(facts.vocabulary, stage),
        sequence_length: name(facts.sequence_length, stage),
        positions: name(facts.positions, stage),
        parameters: name(facts.parameters, stage),
        shape: name(facts.shape, stage),
        sequences: name(facts.sequences, stage),
    }
}

/// Where a setting is written: the edge of `inputs.<port>`, the setting or the nearest table that holds it, else the
/// stage.
fn span(drafts: &BTreeMap<&str, &Draft<'_>>, stage: &str, setting: &str) -> Option<Span> {
    let draft = drafts.get(stage)?;
    if let Some(port) = setting.strip_prefix("inputs.") {
        return Some(draft.wire(port).unwrap_or(draft.header));
    }
    Some(draft.setting(setting).unwrap_or(draft.header))
}
