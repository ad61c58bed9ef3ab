//! The settings of a stage after validation, and the problems that its kind finds in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use contract::{AnyStage, Kind, Problem};
use serde_json::{Map, Value as Json};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::source::Span;

/// The position of a setting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Location {
    /// The span of the key, or of the item for an item of an array.
    pub key: Span,
    pub value: Span,
}

/// The settings of a stage after validation.
#[derive(Debug)]
pub(super) struct Settings {
    /// The settings, without invalid ones.
    pub json: Map<String, Json>,
    /// Whether all are valid.
    pub is_valid: bool,
    /// The position of the table.
    pub declared: Span,
    /// The paths of settings that unknown keys most likely misspell.
    pub misspelt: BTreeSet<String>,
    /// The position of each setting, by its path.
    pub locations: BTreeMap<String, Location>,
}

impl Settings {
    /// Parses the settings if all are valid, and reports the problems that the kind finds.
    pub fn parse(&self, kind: &Kind, diagnostics: &mut Diagnostics) -> Option<Arc<dyn AnyStage>> {
        if !self.is_valid {
            return None;
        }
        let parsed = kind.parse(&self.json);
        parsed
            .map(Arc::from)
            .map_err(|problems| diagnostics.extend(problems.iter().map(|one| self.diagnostic(one))))
            .ok()
    }

    /// Describes a problem that the kind found.
    fn diagnostic(&self, problem: &Problem) -> Diagnostic {
        let Problem { setting, message, depends_on, hint } = problem;
        let title = if setting.is_empty() { message.clone() } else { format!("invalid '{setting}': {message}") };
        let is_default = !setting.is_empty() && !self.locations.contains_key(setting);
        let label = if is_default { "not set: its default applies" } else { "" };
        // A setting that is not in the manifest is shown at the nearest table that contains it.
        let span = with_parents(setting).find_map(|path| self.locations.get(path)).map_or(self.declared, |at| at.value);
        let others = depends_on.iter().filter_map(|other| Some((other, self.locations.get(*other)?)));
        let diagnostic = others.fold(Diagnostic::error(title).at(span, label), |diagnostic, (other, location)| {
            diagnostic.at(location.value, format!("'{other}' is set here"))
        });
        diagnostic.hint(hint.clone())
    }
}

/// Returns a path, then the paths of the tables that contain it, inner first.
pub(super) fn with_parents(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rfind(['.', '[']).map(|end| &path[..end]))
}
