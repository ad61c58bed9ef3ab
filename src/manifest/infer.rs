//! Inference over the graph before anything runs: each stage receives the facts of its inputs, and conflicts are reported at both settings.

use std::collections::BTreeMap;

use contract::{Fact, Facts, InputFacts};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::edge::Edge;
use super::source::Span;
use super::stage::{Draft, InferredStage};
use crate::graph::Graph;

/// Infers each stage, by name. Omits stages with invalid settings, and stages on or downstream of a cycle.
pub(super) fn infer(
    graph: &Graph,
    drafts: &BTreeMap<&str, &Draft<'_>>,
    edges: &BTreeMap<&str, &BTreeMap<String, Edge>>,
    diagnostics: &mut Diagnostics,
) -> BTreeMap<String, InferredStage> {
    // The facts of each output, by stage.
    let mut outputs: BTreeMap<&str, BTreeMap<&str, Facts>> = BTreeMap::new();
    let mut inferred = BTreeMap::new();
    for name in graph.order().iter().map(|name| name.as_str()) {
        let Some(stage) = drafts.get(name).and_then(|draft| draft.stage.as_ref()) else { continue };
        let inputs = edges.get(name).into_iter().flat_map(|edges| edges.iter());
        let facts = inputs.map(|(port, edge)| {
            let facts = outputs.get(edge.stage.as_str()).and_then(|outputs| outputs.get(edge.output.as_str()));
            (port.clone(), facts.cloned().unwrap_or_default())
        });
        let facts = InputFacts::new(facts.collect());
        let result = stage.infer(&facts);
        outputs
            .insert(name, result.outputs.into_iter().map(|(port, facts)| (port, with_origin(facts, name))).collect());
        inferred.insert(name.to_owned(), InferredStage { facts, cost: result.cost });
        for conflict in result.conflicts {
            let other = if conflict.with.stage.is_empty() { name } else { &conflict.with.stage };
            let places = span(drafts, name, &conflict.setting).zip(span(drafts, other, &conflict.with.setting));
            let Some((own, other)) = places else { continue };
            let diagnostic = Diagnostic::error(format!("stage '{name}': {}", conflict.message));
            diagnostics.push(diagnostic.at(own, "").at(other, conflict.label).hint(conflict.hint));
        }
    }
    inferred
}

/// Sets `stage` as the origin of the facts that it determined itself.
fn with_origin(facts: Facts, stage: &str) -> Facts {
    fn set<T>(fact: Option<Fact<T>>, stage: &str) -> Option<Fact<T>> {
        let mut fact = fact?;
        if fact.origin.stage.is_empty() {
            stage.clone_into(&mut fact.origin.stage);
        }
        Some(fact)
    }
    Facts {
        tokenizer: set(facts.tokenizer, stage),
        vocabulary: set(facts.vocabulary, stage),
        sequence_length: set(facts.sequence_length, stage),
        positions: set(facts.positions, stage),
        parameters: set(facts.parameters, stage),
        shape: set(facts.shape, stage),
        sequences: set(facts.sequences, stage),
        problems: set(facts.problems, stage),
        samples: set(facts.samples, stage),
        bytes: set(facts.bytes, stage),
        samples_per_problem: set(facts.samples_per_problem, stage),
    }
}

/// Returns the span of a setting: the edge of `inputs.<port>`, the setting or the nearest table that contains it, else the stage.
fn span(drafts: &BTreeMap<&str, &Draft<'_>>, stage: &str, setting: &str) -> Option<Span> {
    let draft = drafts.get(stage)?;
    let span = match setting.strip_prefix("inputs.") {
        Some(port) => draft.edges.list.iter().find(|edge| edge.port == port).map(|edge| edge.span),
        None => draft.setting(setting),
    };
    Some(span.unwrap_or(draft.header))
}
