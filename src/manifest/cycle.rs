//! Dependency cycles, reported at the edges as they are written.

use std::collections::BTreeMap;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::stage::Draft;
use crate::graph::Graph;

/// Reports the cycles of a graph.
pub(super) fn report(graph: &Graph, drafts: &BTreeMap<&str, &Draft<'_>>, diagnostics: &mut Diagnostics) {
    for cycle in graph.cycles() {
        let names: Vec<_> = cycle.iter().chain(cycle.first()).map(|name| name.as_str()).collect();
        let edge = |pair: &[&str]| {
            let reader = drafts.get(pair[1])?;
            let edge = reader.edges.list.iter().find(|edge| edge.source().0 == pair[0])?;
            Some((edge.span, format!("'{}' reads '{}'", pair[1], pair[0])))
        };
        let mut edges: Vec<_> = names.windows(2).filter_map(edge).collect();
        edges.sort();
        let message = match names.as_slice() {
            [name, _] => format!("stage '{name}' reads its own output"),
            _ => format!("dependency cycle: {}", arrows(&names)),
        };
        let diagnostic =
            edges.into_iter().fold(Diagnostic::error(message), |diagnostic, (span, label)| diagnostic.at(span, label));
        diagnostics.push(diagnostic.hint("remove one of these inputs".to_owned()));
    }
}

/// Joins the names of a cycle, without the middle of a long one.
pub(super) fn arrows(names: &[&str]) -> String {
    const SIDE: usize = 8;
    match names.len().checked_sub(2 * SIDE) {
        Some(hidden @ 2..) => {
            let (first, last) = (names[..SIDE].join(" -> "), names[names.len() - SIDE..].join(" -> "));
            format!("{first} -> ({hidden} more) -> {last}")
        }
        _ => names.join(" -> "),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_middle_of_a_long_cycle_is_counted() {
        let names: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        let arrows = |count: usize| super::arrows(&names[..count].iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(arrows(3), "0 -> 1 -> 2");
        assert!(arrows(17).ends_with("7 -> 8 -> 9 -> 10 -> 11 -> 12 -> 13 -> 14 -> 15 -> 16"));
        assert!(arrows(18).contains("6 -> 7 -> (2 more) -> 10 -> 11"), "{}", arrows(18));
    }
}
