//! The settings of a stage after validation, and what its kind itself finds wrong with them.
//!
//! The kind checks the valid settings even if others are invalid, so that all problems are reported at once. A default then
//! stands in for each invalid setting, so a problem is not reported if its setting, or one that it depends on, is at, above or
//! below an invalid one: it may be a consequence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use contract::{AnyStage, Kind, Ports, Problem};
use serde_json::{Map, Value as Json};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::source::Span;

/// Where a setting is written.
#[derive(Debug, Clone)]
pub(super) struct Location {
    /// Its path in the manifest.
    pub path: String,
    /// The key; of an item of an array, the item.
    pub key: Span,
    pub value: Span,
}

/// The settings of a stage after validation.
#[derive(Debug)]
pub(super) struct Settings {
    /// The valid settings; `None` if a required one is missing or invalid.
    pub json: Option<Map<String, Json>>,
    /// Where the table is declared.
    declared: Span,
    rejected: BTreeSet<String>,
    locations: BTreeMap<String, Location>,
}

impl Settings {
    pub fn new(
        json: Option<Map<String, Json>>,
        declared: Span,
        rejected: Vec<String>,
        locations: Vec<(String, Location)>,
    ) -> Self {
        let (rejected, locations) = (rejected.into_iter().collect(), locations.into_iter().collect());
        Self { json, declared, rejected, locations }
    }

    /// Where each valid setting is written, by its path in [`Settings::json`].
    pub fn into_locations(self) -> BTreeMap<String, Location> {
        self.locations
    }

    /// Where a setting with a value in [`Settings::json`] is written.
    pub fn location(&self, path: &str) -> Option<&Location> {
        self.locations.get(path)
    }

    /// Whether this setting is invalid, or most likely misspelt.
    pub fn is_rejected(&self, path: &str) -> bool {
        self.rejected.contains(path)
    }

    /// Parses the valid settings. Returns the stage, if nothing is wrong with any, and its ports, as far as they are known.
    pub fn parse(&self, kind: &Kind, diagnostics: &mut Diagnostics) -> (Option<Arc<dyn AnyStage>>, Ports) {
        // A required setting has no default to stand in for it: the kind cannot check the others before it is valid.
        let Some(settings) = &self.json else { return (None, kind.ports.clone()) };
        let problems = match kind.parse(settings) {
            Ok(stage) => {
                let ports = stage.ports();
                return (self.rejected.is_empty().then(|| Arc::from(stage)), ports);
            }
            Err(problems) => problems,
        };
        diagnostics.extend(problems.iter().filter_map(|problem| self.diagnostic(problem)));
        let is_invalid =
            |name: &str| problems.iter().any(|problem| problem.setting.split(['.', '[']).next() == Some(name));
        let valid = settings.iter().filter(|(name, _)| !is_invalid(name.as_str()));
        let settings: Map<_, _> = valid.map(|(name, value)| (name.clone(), value.clone())).collect();
        (None, kind.parse(&settings).map_or_else(|_| kind.ports.clone(), |stage| stage.ports()))
    }

    /// A problem that the kind found; `None` if it may be a consequence of an invalid setting.
    fn diagnostic(&self, problem: &Problem) -> Option<Diagnostic> {
        let Problem { setting, message, depends_on, hint } = problem;
        let (path, span) = self.written(setting);
        if self.touches_rejected(&path) || depends_on.iter().any(|other| self.touches_rejected(other)) {
            return None;
        }
        let title = if path.is_empty() { message.clone() } else { format!("invalid '{path}': {message}") };
        let label =
            if path.is_empty() || self.locations.contains_key(setting) { "" } else { "not set: its default applies" };
        let diagnostic =
            depends_on.iter().fold(Diagnostic::error(title).at(span, label), |diagnostic, other| {
                match self.locations.get(*other) {
                    Some(location) => diagnostic.at(location.value, format!("'{other}' is set here")),
                    None => diagnostic,
                }
            });
        Some(diagnostic.hint(hint.clone()))
    }

    /// Returns the path in the manifest of a setting that the kind names, and where it, or the nearest table that holds it, is
    /// written.
    fn written(&self, path: &str) -> (String, Span) {
        let found = with_parents(path).find_map(|parent| Some((parent, self.locations.get(parent)?)));
        match found {
            Some((parent, location)) => (format!("{}{}", location.path, &path[parent.len()..]), location.value),
            None => (path.to_owned(), self.declared),
        }
    }

    /// Whether the setting at `path` is at, above or below an invalid one.
    fn touches_rejected(&self, path: &str) -> bool {
        let below = |separator: char| {
            let prefix = format!("{path}{separator}");
            self.rejected.range(prefix.clone()..).next().is_some_and(|next| next.starts_with(&prefix))
        };
        (path.is_empty() && !self.rejected.is_empty())
            || with_parents(path).any(|path| self.rejected.contains(path))
            || below('.')
            || below('[')
    }
}

/// A path, then the paths of what holds it, inner first.
pub(super) fn with_parents(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rfind(['.', '[']).map(|end| &path[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::source::Sources;

    fn settings(rejected: &[&str], locations: &[(&str, &str)]) -> Settings {
        let source = Sources::default().add("m.toml", Default::default(), String::new());
        let span = Span { source, start: 0, end: 0 };
        let location = |path: &str| Location { path: path.to_owned(), key: span, value: span };
        let locations = locations.iter().map(|(json, path)| ((*json).to_owned(), location(path)));
        Settings::new(None, span, rejected.iter().map(|path| (*path).to_owned()).collect(), locations.collect())
    }

    #[test]
    fn problems_at_above_and_below_an_invalid_setting_or_that_depend_on_one_are_consequences() {
        let settings = settings(&["rules.ratio.threshold", "allow[2]", "environment.\"LANG.C\""], &[]);
        let is_reported = |problem: Problem| settings.diagnostic(&problem).is_some();
        for path in ["", "rules", "rules.ratio.threshold", "rules.ratio.threshold.x", "allow", "environment.\"LANG.C\""]
        {
            assert!(!is_reported(Problem::new(path, "is wrong")), "{path}");
            assert!(path.is_empty() || !is_reported(Problem::new("steps", "is wrong").depends_on(path)), "{path}");
        }
        for path in ["rules.ratio.enabled", "rules.rat", "allow[1]", "allow[20]", "all", "environment.PATH"] {
            assert!(is_reported(Problem::new(path, "is wrong")), "{path}");
        }
        assert!(super::tests::settings(&[], &[]).diagnostic(&Problem::new("", "is wrong")).is_some());
    }

    #[test]
    fn an_item_is_named_as_it_is_written_though_invalid_ones_before_it_were_left_out() {
        let settings =
            settings(&["allow[0]"], &[("allow", "allow"), ("allow[0]", "allow[1]"), ("allow[1]", "allow[3]")]);
        for (json, manifest) in [
            ("allow[0]", "allow[1]"),
            ("allow[1].of[0].x", "allow[3].of[0].x"),
            ("other[1]", "other[1]"),
            ("allow[7]", "allow[7]"),
            ("allow[", "allow["),
            ("steps", "steps"),
        ] {
            assert_eq!(settings.written(json).0, manifest);
        }
    }
}
