//! What stages say of what the stages above gave them.

use contract::{Digest, Inputs, Remark};
use serde::Serialize;

use crate::manifest::{Edge, Manifest, Place, StageDeclaration, StageName};
use crate::store::Store;

/// A remark of a stage on its inputs, with the lines of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remarked {
    /// The stage.
    pub stage: StageName,
    /// Where the setting is written that it is about, else the stage.
    pub place: Place,
    /// Where the stage is declared that gives the input.
    pub input: Option<Place>,
    /// What there is to know.
    pub text: String,
    /// What to do about it, where it is more than worth knowing.
    pub warning: Option<String>,
}

impl Remarked {
    /// For people.
    pub fn full_text(&self) -> String {
        let Self { stage, place, input, text, warning } = self;
        let input = input.as_ref().map(|input| format!(" (given by {input})")).unwrap_or_default();
        let warning = warning.as_ref().map(|warning| format!(": {warning}")).unwrap_or_default();
        format!("{place}: stage '{stage}': {text}{input}{warning}")
    }
}

/// What a stage says of these inputs, by port; one that is not there yet is missing.
pub fn of(manifest: &Manifest, stage: &StageDeclaration, inputs: &Inputs) -> Vec<Remarked> {
    if inputs.is_empty() {
        return Vec::new();
    }
    let remarked = |remark: Remark| {
        let edge = stage.inputs.get(remark.port);
        Remarked {
            stage: stage.name.clone(),
            place: stage.setting(&remark.setting).unwrap_or(&stage.place).clone(),
            input: edge.and_then(|edge| Some(manifest.stages.get(&edge.stage)?.place.clone())),
            text: remark.text,
            warning: remark.warning,
        }
    };
    stage.stage.consider(inputs).into_iter().map(remarked).collect()
}

/// The inputs of a stage as the stages above gave them last in runs of this name; what the store does not have any more
/// is missing.
pub fn last_inputs(manifest: &Manifest, stage: &StageDeclaration, store: &Store) -> Inputs {
    let given = |(port, edge): (&String, &Edge)| Some((port.clone(), last_output(manifest, edge, store)?));
    store.readable(&stage.inputs.iter().filter_map(given).collect())
}

/// The tree that a stage last wrote to the output of an edge in runs of this name.
pub(super) fn last_output(manifest: &Manifest, edge: &Edge, store: &Store) -> Option<Digest> {
    let last = store.last_build(&manifest.name, edge.stage.as_str()).ok()??;
    last.outputs.get(&edge.output).copied()
}
