//! The machine file: what depends on this machine and changes no result. It has the form of a manifest with `[exec]` and
//! those settings of stages that are not hashed (`stages.export.source`), and it serves several manifests: a stage that
//! this one lacks is passed over, with a warning where its name is nearly that of one that is there.

use contract::Kind;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Entry, Table, Value};
use super::shape::Shape;
use super::suggest;

/// The file beside the manifest that is used when none is named.
pub(super) const FILE_NAME: &str = "machine.toml";

/// Lays a machine file over the document, less what has no place in one.
pub(super) fn lay(document: &mut Table, mut machine: Table, kinds: &[Kind], diagnostics: &mut Diagnostics) {
    machine.0.retain(|key, entry| {
        let hint = match key.as_str() {
            "exec" | "stages" => return true,
            "run" => "the name and the seed belong in the manifest",
            _ => "it has [exec] and those settings of stages that change no result",
        };
        let diagnostic = Diagnostic::error(format!("'{key}' has no place in a machine file")).at(entry.key, "");
        diagnostics.push(diagnostic.hint(hint.to_owned()));
        false
    });
    if let Some(Value::Table(stages)) = machine.0.get_mut("stages").map(|entry| &mut entry.node.value) {
        let known = document.table("stages");
        stages.0.retain(|name, entry| {
            let Some(stage) = known.and_then(|known| known.table(name)) else {
                let names = known.iter().flat_map(|known| known.0.keys().map(String::as_str));
                if let Some(near) = suggest::nearest(name, names) {
                    let message = format!("the manifest has no stage '{name}'");
                    diagnostics
                        .push(Diagnostic::warning(message).at(entry.key, "").hint(format!("did you mean '{near}'?")));
                }
                return false;
            };
            let kind = stage.get("kind").and_then(|entry| entry.node.as_str());
            if let Some(kind) = kinds.iter().find(|known| Some(known.name) == kind) {
                keep_exec(kind, name, entry, diagnostics);
            }
            true
        });
    }
    document.overlay(machine);
}

fn keep_exec(kind: &Kind, name: &str, entry: &mut Entry, diagnostics: &mut Diagnostics) {
    let (spec, exec) = (Shape::of(&kind.spec_schema), Shape::of(&kind.exec_schema));
    let Value::Table(settings) = &mut entry.node.value else { return };
    settings.0.retain(|key, entry| {
        let hashed = spec.keys().any(|known| known == key) || matches!(key.as_str(), "kind" | "input" | "inputs");
        if hashed {
            let diagnostic = Diagnostic::error(format!("'stages.{name}.{key}' has no place in a machine file"))
                .at(entry.key, "it changes the result");
            let own: Vec<_> = exec.keys().collect();
            let hint = match own.as_slice() {
                [] => "set it in the manifest, or with --set".to_owned(),
                own => format!("set it in the manifest, or with --set; here may stand: {}", own.join(", ")),
            };
            diagnostics.push(diagnostic.hint(hint));
        }
        !hashed
    });
}
