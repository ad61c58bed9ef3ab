//! Diagnostics as text: message, file, line, the source line with a caret, hint, and a final count.
//!
//! ```text
//! error: unknown key 'learning_rte'
//!   --> codeparrot-small.toml:41:1
//!    |
//! 41 | learning_rte = 5e-4
//!    | ^^^^^^^^^^^^ not a setting of kind 'train'
//!    |
//!    = hint: did you mean 'learning_rate'?
//!
//! error: 1 problem in codeparrot-small.toml
//! ```

use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, normalize_untrusted_str};

use super::diagnostic::{Diagnostic, Diagnostics, Label, Severity};
use super::source::Sources;

/// The maximum number of problems shown in full; the rest are counted.
const SHOWN: usize = 50;
const WIDTH: usize = 120;

impl Diagnostics {
    /// Renders all problems as text without colours that ends with a newline.
    fn render(&self) -> String {
        let renderer = Renderer::plain().term_width(WIDTH).hyperlink(false);
        let mut text = String::new();
        for diagnostic in self.list().iter().take(SHOWN) {
            text.push_str(renderer.render(&groups(diagnostic, self.sources())).trim_end());
            text.push_str("\n\n");
        }
        let hidden = self.len().saturating_sub(SHOWN);
        let more = if hidden > 0 { format!(" (the first {SHOWN} are shown)") } else { String::new() };
        let (level, noun) = match (self.has_errors(), self.len()) {
            (true, 1) => (Level::ERROR, "problem"),
            (true, _) => (Level::ERROR, "problems"),
            (false, 1) => (Level::WARNING, "warning"),
            (false, _) => (Level::WARNING, "warnings"),
        };
        let closing = format!("{} {noun} in {}{more}", self.len(), self.subject());
        text + &renderer.render(&[Group::with_title(level.primary_title(closing))]) + "\n"
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render())
    }
}

fn groups<'a>(diagnostic: &'a Diagnostic, sources: &'a Sources) -> Vec<Group<'a>> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(&diagnostic.message));
    let annotation = |(index, label): (usize, &'a Label)| {
        let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
        let text = (!label.text.is_empty()).then_some(label.text.as_str());
        let source = sources.get(label.span.source);
        kind.span(visible(&source.text, label.span.start, label.span.end)).label(text)
    };
    let mut shown = Vec::new();
    for id in diagnostic.labels.iter().map(|label| label.span.source) {
        if !shown.contains(&id) {
            shown.push(id);
            let labels = diagnostic.labels.iter().enumerate().filter(|(_, label)| label.span.source == id);
            let snippet = Snippet::source(&sources.get(id).text).path(&sources.get(id).name);
            group = group.element(snippet.annotations(labels.map(annotation)));
        }
    }
    if let Some(hint) = &diagnostic.hint {
        group = group.element(Level::HELP.with_name("hint").message(normalize_untrusted_str(hint)));
    }
    vec![group]
}

/// Clamps a range to its first line, so that a caret never spans a whole table, and to character boundaries.
fn visible(text: &str, start: usize, end: usize) -> std::ops::Range<usize> {
    let start = text.floor_char_boundary(start);
    let end = text.ceil_char_boundary(end).max(start);
    let first_line = text[start..end].find(['\n', '\r']).map_or(end, |length| start + length.max(1));
    start..first_line
}
