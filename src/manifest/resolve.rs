//! Resolves edges to outputs of the type that the input port expects.

use std::collections::BTreeMap;

use contract::{InputPort, PortType};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::Table;
use super::edge::{Edge, EdgeDeclaration};
use super::stage::Draft;
use super::suggest;

/// Resolves the edges of one stage. `names` contains all stages of the manifest; `drafts` only those of a known kind.
pub(super) fn resolve(
    draft: &Draft<'_>,
    names: &Table,
    drafts: &BTreeMap<&str, &Draft<'_>>,
    diagnostics: &mut Diagnostics,
) -> BTreeMap<String, Edge> {
    let declared = &draft.edges;
    let resolved = declared.list.iter().filter_map(|edge| {
        let resolved = resolve_one(draft, edge, names, drafts, diagnostics)?;
        Some((edge.port.clone(), resolved))
    });
    let resolved = resolved.collect();
    for (index, port) in draft.ports.inputs.iter().enumerate() {
        let is_declared =
            declared.invalid.contains(&*port.name) || declared.list.iter().any(|edge| edge.port == port.name);
        if is_declared || !port.required {
            continue;
        }
        let source = producers(port.ty, draft, drafts).into_iter().next().unwrap_or_else(|| "stage".to_owned());
        let hint = match (index, declared.has_table) {
            (0, _) => format!("add input = \"{source}\""),
            (_, true) => format!("add {} = \"{source}\" to its inputs", port.name),
            (_, false) => format!("add inputs.{} = \"{source}\"", port.name),
        };
        let message = format!("missing input '{}' ({}) of stage '{}'", port.name, port.ty, draft.name);
        diagnostics.push(Diagnostic::error(message).at(draft.header, "").hint(hint));
    }
    resolved
}

fn resolve_one(
    draft: &Draft<'_>,
    edge: &EdgeDeclaration,
    names: &Table,
    drafts: &BTreeMap<&str, &Draft<'_>>,
    diagnostics: &mut Diagnostics,
) -> Option<Edge> {
    let (stage, output) = edge.source();
    if names.get(stage).is_none() {
        let others = names.0.keys().map(String::as_str).filter(|name| *name != draft.name.as_str());
        let diagnostic = Diagnostic::error(format!("unknown stage '{stage}'")).at(edge.span, "");
        diagnostics.push(diagnostic.hint(suggest::hint(stage, "the stages are", others)));
        return None;
    }
    let upstream = drafts.get(stage)?;
    let outputs = &upstream.ports.outputs;
    let Some(found) = output.map_or(outputs.first(), |output| outputs.iter().find(|port| port.name == output)) else {
        if upstream.ports_are_certain() {
            let name = output.map(|output| format!(" '{output}'")).unwrap_or_default();
            let known = outputs.iter().map(|port| &*port.name);
            let hint = suggest::hint(output.unwrap_or_default(), "its outputs are", known);
            let hint = hint.or_else(|| upstream.ports.open.then(|| "its settings declare none".to_owned()));
            let diagnostic = Diagnostic::error(format!("stage '{stage}' has no output{name}")).at(edge.span, "");
            diagnostics.push(diagnostic.at(upstream.kind_span, format!("'{stage}' is of this kind")).hint(hint));
        }
        return None;
    };
    let files = InputPort { name: edge.port.clone().into(), ty: PortType::Files, required: false, about: "".into() };
    let port = draft.ports.inputs.iter().find(|port| port.name == edge.port).unwrap_or(&files);
    if !found.ty.feeds(port.ty) {
        let message =
            format!("input '{}' of stage '{}' expects {}, found {}", port.name, draft.name, port.ty, found.ty);
        let mut others = producers(port.ty, draft, drafts);
        others.truncate(4);
        let verb = if others.len() == 1 { "produces" } else { "produce" };
        let hint = (!others.is_empty()).then(|| format!("{} {verb} {}", others.join(", "), port.ty));
        let (declared, label) = upstream.declaration_of(found);
        let diagnostic = Diagnostic::error(message)
            .at(edge.span, format!("'{stage}.{}' is of type {}", found.name, found.ty))
            .at(declared, label);
        diagnostics.push(diagnostic.hint(hint));
        return None;
    }
    Some(Edge {
        stage: upstream.name.clone(),
        output: found.name.clone().into_owned(),
        place: diagnostics.sources().place(edge.span),
    })
}

/// Returns the outputs of other stages that an input of type `ty` accepts, as an edge names them; those of stages of the same kind last,
/// since such a connection is rare.
fn producers(ty: PortType, to: &Draft<'_>, drafts: &BTreeMap<&str, &Draft<'_>>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, draft) in drafts.iter().take(suggest::MOST).filter(|(name, _)| **name != to.name.as_str()) {
        for (index, output) in draft.ports.outputs.iter().enumerate().filter(|(_, output)| output.ty.feeds(ty)) {
            let edge = if index == 0 { (*name).to_owned() } else { format!("{name}.{}", output.name) };
            found.push((draft.kind.name == to.kind.name, edge));
        }
    }
    found.sort();
    found.into_iter().map(|(_, edge)| edge).collect()
}
