//! Reports dependency cycles, at the edges in the manifest.

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
            _ => format!("dependency cycle: {}", names.join(" -> ")),
        };
        let diagnostic =
            edges.into_iter().fold(Diagnostic::error(message), |diagnostic, (span, label)| diagnostic.at(span, label));
        diagnostics.push(diagnostic.hint("remove one of these inputs".to_owned()));
    }
}
