//! The machine file: settings that depend on the machine and do not change outputs. It has the format of a manifest, and may contain
//! `[exec]` and settings of stages that are not hashed (`stages.export.source`). Several manifests may share it: stages that this manifest
//! lacks are ignored, with a warning if the name resembles that of a stage.

use contract::Kind;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Entry, Table, Value};
use super::setting_schema::SettingSchema;
use super::suggest;

/// The default machine file, in the manifest's directory.
pub(super) const FILE_NAME: &str = "machine.toml";

/// Applies a machine file to the document, except for settings that a machine file must not contain.
pub(super) fn apply(document: &mut Table, mut machine: Table, kinds: &[Kind], diagnostics: &mut Diagnostics) {
    machine.0.retain(|key, entry| {
        let hint = match key.as_str() {
            "exec" | "stages" => return true,
            "run" => "name and seed belong in the manifest",
            _ => "it may contain [exec], and settings of stages that do not change the output",
        };
        let diagnostic = Diagnostic::error(format!("'{key}' is not allowed in a machine file")).at(entry.key, "");
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
                retain_exec(kind, name, entry, diagnostics);
            }
            true
        });
    }
    document.overlay(machine);
}

fn retain_exec(kind: &Kind, name: &str, entry: &mut Entry, diagnostics: &mut Diagnostics) {
    let (spec, exec) = (SettingSchema::of(&kind.spec_schema), SettingSchema::of(&kind.exec_schema));
    let Value::Table(settings) = &mut entry.node.value else { return };
    settings.0.retain(|key, entry| {
        let hashed = spec.keys().any(|known| known == key) || matches!(key.as_str(), "kind" | "input" | "inputs");
        if hashed {
            let diagnostic = Diagnostic::error(format!("'stages.{name}.{key}' is not allowed in a machine file"))
                .at(entry.key, "changes the output");
            let own: Vec<_> = exec.keys().collect();
            let hint = match own.as_slice() {
                [] => "set it in the manifest, or with --set".to_owned(),
                own => format!("set it in the manifest, or with --set; allowed here: {}", own.join(", ")),
            };
            diagnostics.push(diagnostic.hint(hint));
        }
        !hashed
    });
}
