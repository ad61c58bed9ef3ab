//! Problems of a manifest or a command line, each with its positions and a hint.

use std::sync::Arc;

use contract::shortened_to;
use serde::Serialize;

use super::place::Place;
use super::source::{Source, SourceId, Sources, Span};
use crate::parallel;

/// The severity of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// An error: nothing runs until it is fixed.
    Error,
    /// A warning: the manifest still loads.
    Warning,
}

/// A span with a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The span.
    pub span: Span,
    /// The label; may be empty.
    pub text: String,
}

/// The maximum length of a message, in characters: the keys and values in it may be as long as a file.
const LONGEST: usize = 500;

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The severity.
    pub severity: Severity,
    /// The message: a lowercase fragment.
    pub message: String,
    /// The positions: the first one is that of the problem, the others explain it.
    pub labels: Vec<Label>,
    /// The hint.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// Creates an error without a position.
    pub fn error(message: impl AsRef<str>) -> Self {
        let message = shortened_to(message.as_ref(), LONGEST).into_owned();
        Self { severity: Severity::Error, message, labels: Vec::new(), hint: None }
    }

    /// Creates a warning without a position.
    pub fn warning(message: impl AsRef<str>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    /// Adds a position with a label.
    #[must_use]
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into().or(self.hint);
        self
    }
}

/// A problem for programs, with lines and columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlacedDiagnostic {
    /// The severity.
    pub severity: Severity,
    /// The message.
    pub message: String,
    /// The positions: the first one is that of the problem, the others explain it.
    pub places: Vec<PlacedLabel>,
    /// The hint.
    pub hint: Option<String>,
}

/// A position with a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlacedLabel {
    /// The position.
    #[serde(flatten)]
    pub place: Place,
    /// The label; may be empty.
    pub text: String,
}

/// The problems of one manifest or command line, with the source texts that their spans point into.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    subject: String,
    sources: Arc<Sources>,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Creates an empty list for `subject`, a file or a command.
    pub fn new(subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), sources: Arc::default(), list: Vec::new() }
    }

    /// Returns the file or command that has the problems.
    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    /// Applies `work` to each item, on several threads. Adds the problems that it finds, in the order of the items. `work` must not add
    /// sources.
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

    /// Returns the sources that the problems point into.
    pub fn sources(&self) -> &Arc<Sources> {
        &self.sources
    }

    /// Adds a source that problems may point into.
    pub(super) fn add_source(
        &mut self,
        name: impl Into<String>,
        directory: std::path::PathBuf,
        text: String,
    ) -> SourceId {
        Arc::make_mut(&mut self.sources).add(name, directory, text)
    }

    /// Returns a source.
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

    /// Returns the problems.
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// Returns the problems for programs.
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

    /// Returns the number of problems.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns whether there are no problems.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns whether any problem is an error.
    pub(super) fn has_errors(&self) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Sorts by position; problems without a position come first.
    pub(super) fn sort(&mut self) {
        self.list.sort_by_key(|diagnostic| diagnostic.labels.first().map(|label| label.span));
    }
}

impl std::error::Error for Diagnostics {}
