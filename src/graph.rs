//! Floor 2: the stages of a manifest as a directed acyclic graph.
//!
//! An edge goes from the stage that gives to the stage that takes. The order is topological and fixed by the manifest
//! alone: of the stages whose inputs are all placed, the first by name comes next. A manifest has no cycle (its own
//! promise), so every stage is in the order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use std::path::Path;

use contract::Kind;
use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::manifest::{self, Diagnostics, Manifest, Overrides, StageName};

/// Reads a manifest and orders its stages.
///
/// # Errors
/// As [`manifest::load`].
pub fn load(path: &Path, overrides: &Overrides, kinds: &[Kind]) -> Result<(Manifest, Graph), Diagnostics> {
    let manifest = manifest::load(path, overrides, kinds)?;
    let graph = Graph::of(&manifest);
    Ok((manifest, graph))
}

/// The stages and what feeds them.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Nodes were added by name, so that an index compares as the name does.
    graph: DiGraph<StageName, ()>,
    nodes: BTreeMap<StageName, NodeIndex>,
    order: Vec<StageName>,
}

impl Graph {
    /// The graph of a manifest.
    pub fn of(manifest: &Manifest) -> Self {
        let edges = manifest.stages.iter().map(|(name, stage)| (name, stage.inputs.values().map(|edge| &edge.stage)));
        Self::from_edges(edges)
    }

    fn from_edges<'n, I: Iterator<Item = &'n StageName>>(stages: impl Iterator<Item = (&'n StageName, I)>) -> Self {
        let stages: BTreeMap<_, Vec<_>> = stages.map(|(name, inputs)| (name, inputs.collect())).collect();
        let mut graph = DiGraph::new();
        let nodes: BTreeMap<_, _> =
            stages.keys().map(|name| ((*name).clone(), graph.add_node((*name).clone()))).collect();
        for (name, inputs) in &stages {
            for input in inputs {
                if let (Some(from), Some(to)) = (nodes.get(*input), nodes.get(*name)) {
                    graph.update_edge(*from, *to, ());
                }
            }
        }
        let order = order(&graph);
        Self { graph, nodes, order }
    }

    /// Every stage after all that it needs.
    pub fn order(&self) -> &[StageName] {
        &self.order
    }

    /// The stages that a stage reads from directly, by name, each once.
    pub fn inputs_of(&self, stage: &StageName) -> Vec<&StageName> {
        self.neighbours(stage, Direction::Incoming)
    }

    /// The stages that read from a stage directly, by name, each once.
    pub fn dependents_of(&self, stage: &StageName) -> Vec<&StageName> {
        self.neighbours(stage, Direction::Outgoing)
    }

    /// These stages and all that they need.
    pub fn ancestors<'n>(&self, stages: impl IntoIterator<Item = &'n StageName>) -> BTreeSet<StageName> {
        self.reach(stages, Direction::Incoming)
    }

    /// These stages and all that need them.
    pub fn descendants<'n>(&self, stages: impl IntoIterator<Item = &'n StageName>) -> BTreeSet<StageName> {
        self.reach(stages, Direction::Outgoing)
    }

    fn neighbours(&self, stage: &StageName, direction: Direction) -> Vec<&StageName> {
        let Some(node) = self.nodes.get(stage) else { return Vec::new() };
        let mut names: Vec<_> = self.graph.neighbors_directed(*node, direction).map(|node| &self.graph[node]).collect();
        names.sort();
        names
    }

    fn reach<'n>(&self, stages: impl IntoIterator<Item = &'n StageName>, direction: Direction) -> BTreeSet<StageName> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<_> = stages.into_iter().filter_map(|stage| self.nodes.get(stage).copied()).collect();
        while let Some(node) = open.pop() {
            if reached.insert(self.graph[node].clone()) {
                open.extend(self.graph.neighbors_directed(node, direction));
            }
        }
        reached
    }
}

/// Kahn's algorithm with a heap of names for the stages that are ready.
fn order(graph: &DiGraph<StageName, ()>) -> Vec<StageName> {
    let mut missing: Vec<_> =
        graph.node_indices().map(|node| graph.neighbors_directed(node, Direction::Incoming).count()).collect();
    let mut ready: BinaryHeap<_> =
        graph.node_indices().filter(|node| missing[node.index()] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(graph.node_count());
    while let Some(Reverse(node)) = ready.pop() {
        order.push(graph[node].clone());
        for next in graph.neighbors(node) {
            missing[next.index()] -= 1;
            if missing[next.index()] == 0 {
                ready.push(Reverse(next));
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> Graph {
        let name = |text: &&str| text.parse::<StageName>().unwrap();
        let edges: Vec<(StageName, Vec<StageName>)> =
            edges.iter().map(|(stage, inputs)| (name(stage), inputs.iter().map(name).collect())).collect();
        Graph::from_edges(edges.iter().map(|(stage, inputs)| (stage, inputs.iter())))
    }

    fn texts<'n>(names: impl IntoIterator<Item = &'n StageName>) -> Vec<&'n str> {
        names.into_iter().map(StageName::as_str).collect()
    }

    #[test]
    fn of_the_stages_that_are_ready_the_first_by_name_comes_next() {
        let graph = graph(&[("z", &[]), ("b", &["z"]), ("a", &["b"]), ("c", &[]), ("d", &["a", "c"])]);
        assert_eq!(texts(graph.order()), ["c", "z", "b", "a", "d"]);
    }

    #[test]
    fn a_stage_that_reads_two_outputs_of_another_has_one_input_stage() {
        let graph = graph(&[("split", &[]), ("pack", &["split", "split"])]);
        assert_eq!(texts(graph.inputs_of(&"pack".parse().unwrap())), ["split"]);
        assert_eq!(texts(graph.dependents_of(&"split".parse().unwrap())), ["pack"]);
    }

    #[test]
    fn ancestors_are_all_that_a_stage_needs_and_nothing_else() {
        let graph = graph(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["a"])]);
        assert_eq!(texts(&graph.ancestors([&"c".parse().unwrap()])), ["a", "b", "c"]);
        assert_eq!(texts(&graph.descendants([&"b".parse().unwrap()])), ["b", "c"]);
    }
}
