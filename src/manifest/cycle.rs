//! Cycles among the edges as they are written, so that they are reported together with all else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::source::Span;
use super::stage::Draft;

/// Reports one shortest cycle of each knot of stages that need each other, from its first stage by name.
pub(super) fn report(drafts: &BTreeMap<&str, &Draft<'_>>, diagnostics: &mut Diagnostics) {
    let mut graph: DiGraph<&str, Span> = DiGraph::new();
    let nodes: BTreeMap<&str, NodeIndex> = drafts.keys().map(|name| (*name, graph.add_node(name))).collect();
    for draft in drafts.values() {
        for wire in &draft.wires.list {
            if let (Some(from), Some(to)) = (nodes.get(wire.from().0), nodes.get(draft.name.as_str())) {
                graph.add_edge(*from, *to, wire.span);
            }
        }
    }
    // Kosaraju's algorithm does not recurse: a chain of any length overflows no stack.
    for knot in kosaraju_scc(&graph) {
        let knot: BTreeSet<_> = knot.into_iter().collect();
        let Some(path) = knot.first().and_then(|first| shortest(&graph, *first, &knot)) else { continue };
        let names: Vec<_> = path.iter().map(|(node, _)| graph[*node]).chain([graph[path[0].0]]).collect();
        let message = match names.as_slice() {
            [name, _] => format!("stage '{name}' reads its own output"),
            _ => format!("the stages go in a circle: {}", around(&names)),
        };
        let readings = path.iter().enumerate().map(|(index, (_, span))| (*span, names[index + 1], names[index]));
        let mut readings: Vec<_> = readings.collect();
        readings.sort();
        let diagnostic = readings.into_iter().fold(Diagnostic::error(message), |diagnostic, (span, reader, read)| {
            diagnostic.at(span, format!("'{reader}' reads '{read}'"))
        });
        diagnostics.push(diagnostic.hint("take away one of these edges".to_owned()));
    }
}

/// The names of a circle, less the middle of a long one.
pub(super) fn around(names: &[&str]) -> String {
    const SIDE: usize = 8;
    match names.len().checked_sub(2 * SIDE) {
        Some(hidden @ 2..) => {
            let (first, last) = (names[..SIDE].join(" -> "), names[names.len() - SIDE..].join(" -> "));
            format!("{first} -> ({hidden} more) -> {last}")
        }
        _ => names.join(" -> "),
    }
}

/// The shortest way from `start` back to it within its knot: each stage with the edge that leaves it; `None` where there is none.
fn shortest(
    graph: &DiGraph<&str, Span>,
    start: NodeIndex,
    knot: &BTreeSet<NodeIndex>,
) -> Option<Vec<(NodeIndex, Span)>> {
    let mut came: BTreeMap<NodeIndex, (NodeIndex, Span)> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        let mut next: Vec<_> = graph.neighbors(node).filter(|next| knot.contains(next)).collect();
        next.sort();
        for neighbour in next {
            let Some(span) = graph.find_edge(node, neighbour).map(|edge| graph[edge]) else { continue };
            if came.contains_key(&neighbour) {
                continue;
            }
            came.insert(neighbour, (node, span));
            if neighbour == start {
                let mut path = Vec::new();
                let mut at = start;
                loop {
                    let (before, span) = came[&at];
                    path.push((before, span));
                    at = before;
                    if at == start {
                        path.reverse();
                        return Some(path);
                    }
                }
            }
            queue.push_back(neighbour);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_middle_of_a_long_circle_is_counted() {
        let names: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        let around = |count: usize| super::around(&names[..count].iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(around(3), "0 -> 1 -> 2");
        assert!(around(17).ends_with("7 -> 8 -> 9 -> 10 -> 11 -> 12 -> 13 -> 14 -> 15 -> 16"));
        assert!(around(18).contains("6 -> 7 -> (2 more) -> 10 -> 11"), "{}", around(18));
    }
}
