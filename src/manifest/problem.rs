//! What a kind itself finds wrong with the settings of a stage, at the places where they are written.

use std::sync::Arc;

use contract::{AnyStage, Kind, Ports, Problem};
use serde_json::{Map, Value as Json};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Node, Value};
use super::fault::{Faults, LeftOut, words};
use super::source::Span;

/// Settings named by a problem that are shown beside its own.
const SHOWN: usize = 3;

/// Cuts of a path that are tried for one key: a key may itself hold dots.
const CUTS: usize = 64;

/// Reads those settings of the stage at `node` that fit. The stage, when nothing is wrong with it, and its ports, as far
/// as the settings tell.
pub(super) fn parse(
    kind: &Kind,
    settings: Option<Json>,
    faults: Faults,
    node: &Node,
    diagnostics: &mut Diagnostics,
) -> (Option<Arc<dyn AnyStage>>, Ports) {
    let left_out = faults.left_out();
    // Without a setting that has no default there is no value of the type that the kind checks: what it would say of the
    // others comes when this one is put right.
    let Some(Json::Object(mut settings)) = settings else { return (None, kind.ports.clone()) };
    let problems = match kind.parse(&settings) {
        Ok(stage) => {
            let ports = stage.ports();
            return (left_out.is_empty().then(|| Arc::from(stage)), ports);
        }
        Err(problems) => problems,
    };
    for problem in &problems {
        settings.remove(first_step(&problem.setting));
        tell(problem, &left_out, node, diagnostics);
    }
    (None, ports_without(kind, &settings))
}

/// The ports that settings without those in error tell.
fn ports_without(kind: &Kind, settings: &Map<String, Json>) -> Ports {
    kind.parse(settings).map_or_else(|_| kind.ports.clone(), |stage| stage.ports())
}

fn first_step(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or_default()
}

fn tell(problem: &Problem, left_out: &LeftOut, node: &Node, diagnostics: &mut Diagnostics) {
    let Problem { setting, message, hint } = problem;
    if left_out.explains(&left_out.written(setting), message) {
        return;
    }
    let path = left_out.written(setting);
    let (span, found) = locate(node, &path);
    let title = match message.split(' ').next() {
        _ if path.is_empty() => message.clone(),
        Some("must" | "is") => format!("'{path}' {message}"),
        _ => format!("'{path}': {message}"),
    };
    let label = if found { "" } else { "not set here: its default is meant" };
    let mut diagnostic = Diagnostic::error(title).at(span, label);
    let mut named: Vec<&str> = words(message).filter(|word| *word != first_step(&path)).collect();
    named.sort_unstable();
    named.dedup();
    let written = named.into_iter().filter_map(|name| Some((name, node.as_table()?.get(name)?)));
    for (name, entry) in written.filter(|(name, _)| !super::stage::RESERVED.contains(name)).take(SHOWN) {
        diagnostic = diagnostic.at(entry.node.span, format!("'{name}' is set here"));
    }
    diagnostics.push(diagnostic.hint(hint.clone()));
}

/// Where a setting is written: `allow[3]`, `rules.line_max`; where the path leads nowhere, its nearest parent and false.
fn locate(node: &Node, path: &str) -> (Span, bool) {
    let mut node = node;
    let mut rest = path;
    while !rest.is_empty() {
        let next = match &node.value {
            Value::Table(table) => {
                let cuts = rest.match_indices(['.', '[']).map(|(cut, _)| cut).take(CUTS).chain([rest.len()]);
                let keys = cuts.filter_map(|cut| Some((&table.get(&rest[..cut])?.node, &rest[cut..])));
                keys.last()
            }
            Value::Array(items) => rest
                .strip_prefix('[')
                .and_then(|rest| rest.split_once(']'))
                .and_then(|(index, rest)| Some((items.get(index.parse::<usize>().ok()?)?, rest))),
            _ => None,
        };
        let Some((inner, after)) = next else { return (node.span, false) };
        (node, rest) = (inner, after.strip_prefix('.').unwrap_or(after));
    }
    (node.span, true)
}
