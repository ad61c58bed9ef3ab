//! Architecture layer 1: the stages of a manifest as a directed graph, with the algorithms of petgraph.
//!
//! An edge goes from a stage to a stage that reads its output. The order is topological and depends on the manifest alone: among the stages
//! whose inputs are all placed, the first by name comes next. The graph of a valid manifest is acyclic, so its order contains every stage;
//! otherwise stages on or downstream of a cycle are not in the order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use petgraph::Direction;
use petgraph::algo::{astar, kosaraju_scc};
use petgraph::graph::{DiGraph, NodeIndex};

use crate::stage_name::StageName;

/// The stages of a manifest and the edges between them.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Nodes are added in the order of their names, so that the order of indices is that of names.
    graph: DiGraph<StageName, ()>,
    nodes: BTreeMap<StageName, NodeIndex>,
    order: Vec<StageName>,
}

impl Graph {
    /// Creates the graph of the given stages, each with the stages that it reads from. Unknown stages are ignored.
    pub(crate) fn new(stages: BTreeMap<&StageName, Vec<String>>) -> Self {
        let mut graph = DiGraph::new();
        let nodes: BTreeMap<_, _> =
            stages.keys().map(|name| ((*name).clone(), graph.add_node((*name).clone()))).collect();
        for (name, inputs) in &stages {
            for input in inputs {
                if let (Some(from), Some(to)) = (nodes.get(input.as_str()), nodes.get(*name)) {
                    graph.update_edge(*from, *to, ());
                }
            }
        }
        let order = order(&graph);
        Self { graph, nodes, order }
    }

    /// Returns the stages in topological order.
    pub fn order(&self) -> &[StageName] {
        &self.order
    }

    /// Returns a shortest cycle of each strongly connected component, starting at its first stage by name; each stage reads from the one
    /// before it.
    pub(crate) fn cycles(&self) -> Vec<Vec<&StageName>> {
        let graph = &self.graph;
        // Kosaraju's algorithm does not recurse, so a chain of any length cannot overflow the stack.
        let components = kosaraju_scc(graph).into_iter();
        let cyclic = components.filter(|nodes| nodes.len() > 1 || graph.contains_edge(nodes[0], nodes[0]));
        let cycle = |nodes: Vec<NodeIndex>| {
            let first = nodes.into_iter().min()?;
            let (_, path) = astar(graph, first, |node| graph.contains_edge(node, first), |_| 1u32, |_| 0)?;
            Some(path.into_iter().map(|node| &graph[node]).collect())
        };
        cyclic.filter_map(cycle).collect()
    }

    /// Returns the stages that a stage reads from directly, by name, each once.
    pub fn inputs_of(&self, stage: &StageName) -> Vec<&StageName> {
        self.neighbours(stage, Direction::Incoming)
    }

    /// Returns the stages that read from a stage directly, by name, each once.
    pub fn dependents_of(&self, stage: &StageName) -> Vec<&StageName> {
        self.neighbours(stage, Direction::Outgoing)
    }

    /// Returns the given stages and all stages upstream of them.
    pub fn ancestors<'n>(&self, stages: impl IntoIterator<Item = &'n StageName>) -> BTreeSet<StageName> {
        self.reach(stages, Direction::Incoming)
    }

    /// Returns the given stages and all stages downstream of them.
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

/// Sorts topologically with Kahn's algorithm, using a heap of the ready stages.
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
        let names: Vec<StageName> = edges.iter().map(|(stage, _)| stage.parse().unwrap()).collect();
        let inputs = edges.iter().map(|(_, inputs)| inputs.iter().map(ToString::to_string).collect());
        Graph::new(names.iter().zip(inputs).collect())
    }

    fn texts<'n>(names: impl IntoIterator<Item = &'n StageName>) -> Vec<&'n str> {
        names.into_iter().map(StageName::as_str).collect()
    }

    #[test]
    fn the_first_ready_stage_by_name_comes_next() {
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
    fn ancestors_are_everything_upstream_and_nothing_else() {
        let graph = graph(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["a"])]);
        assert_eq!(texts(&graph.ancestors([&"c".parse().unwrap()])), ["a", "b", "c"]);
        assert_eq!(texts(&graph.descendants([&"b".parse().unwrap()])), ["b", "c"]);
    }

    #[test]
    fn each_component_has_one_shortest_cycle_from_its_first_stage() {
        let graph = graph(&[
            ("a", &["d"]),
            ("b", &["a"]),
            ("c", &["b"]),
            ("d", &["c", "a"]),
            ("own", &["own", "d"]),
            ("after", &["own"]),
            ("free", &[]),
        ]);
        let mut cycles: Vec<_> = graph.cycles().into_iter().map(texts).collect();
        cycles.sort();
        assert_eq!(cycles, [vec!["a", "d"], vec!["own"]]);
        assert_eq!(texts(graph.order()), ["free"]);
    }
}
