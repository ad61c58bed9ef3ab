//! What is wrong with a manifest or a command line: each problem with its places and a hint, all of them together.

use std::sync::Arc;

use contract::shortened_to;
use serde::Serialize;

use super::place::Place;
use super::source::{Source, SourceId, Sources, Span};
use crate::parallel;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Nothing runs before it is put right.
    Error,
    /// People should know.
    Warning,
}

/// A place with a word on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What is there; may be empty.
    pub text: String,
}

/// Characters of the longest message: keys and values in it may be as long as a file.
const LONGEST: usize = 500;

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: a lowercase fragment.
    pub message: String,
    /// Where; the first is where it is wrong, the others help to see why.
    pub labels: Vec<Label>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error without a place.
    pub fn error(message: impl AsRef<str>) -> Self {
        let message = shortened_to(message.as_ref(), LONGEST).into_owned();
        Self { severity: Severity::Error, message, labels: Vec::new(), hint: None }
    }

    /// A warning without a place.
    pub fn warning(message: impl AsRef<str>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    /// Adds a place with a word on it.
    #[must_use]
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into().or(self.hint);
        self
    }
}

/// A problem as programs read it: its places are those of an editor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlacedDiagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// Where; the first is where it is wrong, the others help to see why.
    pub places: Vec<PlacedLabel>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A place with a word on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlacedLabel {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What is there; may be empty.
    pub text: String,
}

/// All problems of one manifest or command line, with the texts that they point into.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    subject: String,
    sources: Arc<Sources>,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// No problem yet with `subject` (a file, a command).
    pub fn new(subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), sources: Arc::default(), list: Vec::new() }
    }

    /// What has the problems.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What `work` gives of each item, on a few threads; what it finds wrong is added, in the order of the items. It
    /// adds no texts: nobody else would see them.
    pub(super) fn of_each<T: Sync, U: Send>(
        &mut self,
        items: &[T],
        work: impl Fn(&T, &mut Self) -> U + Sync,
    ) -> Vec<U> {
        let apart = |item: &T| {
            let mut found = Self { subject: String::new(), sources: Arc::clone(&self.sources), list: Vec::new() };
            (work(item, &mut found), found.list)
        };
        let (given, found): (Vec<_>, Vec<_>) = parallel::map(items, apart).into_iter().unzip();
        self.extend(found.into_iter().flatten());
        given
    }

    /// The texts that the problems point into.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Adds a text for problems to point into.
    pub fn add_source(&mut self, name: impl Into<String>, folder: std::path::PathBuf, text: String) -> SourceId {
        Arc::make_mut(&mut self.sources).add(name, folder, text)
    }

    /// A text.
    pub fn source(&self, id: SourceId) -> &Source {
        self.sources.get(id)
    }

    /// Adds a problem.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    /// Adds problems.
    pub fn extend(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        self.list.extend(diagnostics);
    }

    /// The problems.
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// The problems as programs read them.
    pub fn placed(&self) -> Vec<PlacedDiagnostic> {
        let place = |Label { span, text }: &Label| PlacedLabel { place: self.sources.place(*span), text: text.clone() };
        let placed = |Diagnostic { severity, message, labels, hint }: &Diagnostic| PlacedDiagnostic {
            severity: *severity,
            message: message.clone(),
            places: labels.iter().map(place).collect(),
            hint: hint.clone(),
        };
        self.list.iter().map(placed).collect()
    }

    /// How many problems there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether nothing may run.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Takes back the problems after the first `length`.
    pub(super) fn take_after(&mut self, length: usize) -> Vec<Diagnostic> {
        self.list.split_off(length.min(self.list.len()))
    }

    /// In the order of the texts; problems without a place first.
    pub(super) fn sort(&mut self) {
        self.list.sort_by_key(|diagnostic| diagnostic.labels.first().map(|label| label.span));
    }
}

impl std::error::Error for Diagnostics {}
