//! The advice of stages about existing inputs.

use contract::{Advice, Digest, Inputs};
use serde::Serialize;

use crate::manifest::{Edge, Manifest, Place, StageDeclaration, StageName};
use crate::store::Store;

/// Advice of a stage about its inputs, with the positions of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LocatedAdvice {
    /// The stage.
    pub stage: StageName,
    /// The position of the setting that it concerns, else of the stage.
    pub place: Place,
    /// The position of the stage that produces the input.
    pub input: Option<Place>,
    /// The observation.
    pub text: String,
    /// What to do, if the observation deserves a warning.
    pub warning: Option<String>,
}

impl LocatedAdvice {
    /// Formats the advice as one line.
    pub fn full_text(&self) -> String {
        let Self { stage, place, input, text, warning } = self;
        let input = input.as_ref().map(|input| format!(" (produced by {input})")).unwrap_or_default();
        let warning = warning.as_ref().map(|warning| format!(": {warning}")).unwrap_or_default();
        format!("{place}: stage '{stage}': {text}{input}{warning}")
    }
}

/// Returns the advice of a stage about the given inputs, by port; inputs that do not exist yet are absent.
pub fn of(manifest: &Manifest, stage: &StageDeclaration, inputs: &Inputs) -> Vec<LocatedAdvice> {
    if inputs.is_empty() {
        return Vec::new();
    }
    let located = |advice: Advice| {
        let edge = stage.inputs.get(advice.port);
        LocatedAdvice {
            stage: stage.name.clone(),
            place: stage.setting(&advice.setting).unwrap_or_else(|| stage.place.clone()),
            input: edge.and_then(|edge| Some(manifest.stages.get(&edge.stage)?.place.clone())),
            text: advice.text,
            warning: advice.warning,
        }
    };
    stage.stage.lint(inputs).into_iter().map(located).collect()
}

/// Returns the last inputs of a stage that its upstream stages wrote in runs of this name, except those that are no longer in the store.
pub fn last_inputs(manifest: &Manifest, stage: &StageDeclaration, store: &Store) -> Inputs {
    let last = |(port, edge): (&String, &Edge)| Some((port.clone(), last_output(manifest, edge, store)?));
    store.objects.readable(&stage.inputs.iter().filter_map(last).collect())
}

/// Returns the last tree that was written to the output of an edge in runs of this name.
pub(super) fn last_output(manifest: &Manifest, edge: &Edge, store: &Store) -> Option<Digest> {
    let last = store.builds.last_build(&manifest.name, edge.stage.as_str()).ok()??;
    last.outputs.get(&edge.output).copied()
}
