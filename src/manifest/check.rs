//! A table of settings held against its shape: every unknown key, missing key, wrong type and value out of range, and
//! the settings that fit as JSON for the types to read.
//!
//! A setting that does not fit is left out, and with it what cannot be read without it: an item of an array, an entry of
//! a map, a table that requires it. [`Faults`] keeps what was left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Number, Value as Json};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Node, Table, Value};
use super::fault::Faults;
use super::shape::{Form, Shape, quoted};
use super::source::Span;
use super::suggest;
use contract::figures::counted;

/// The walk over one table of settings.
pub(super) struct Check<'d> {
    pub diagnostics: &'d mut Diagnostics,
    /// What the settings belong to, for messages: "kind 'train'", "[exec]".
    pub owner: String,
    /// What did not fit so far.
    pub faults: Faults,
}

impl<'d> Check<'d> {
    /// A walk that has found nothing yet.
    pub fn new(diagnostics: &'d mut Diagnostics, owner: String) -> Self {
        Self { diagnostics, owner, faults: Faults::default() }
    }

    /// Holds `table`, declared at `span`, against the union of `shapes`. `reserved` are further keys, read elsewhere.
    /// `None` when a key that it must have is missing or does not fit.
    pub fn table(
        &mut self,
        span: Span,
        table: &Table,
        shapes: &[Shape<'_>],
        reserved: &[&str],
        path: &str,
    ) -> Option<Json> {
        let mut settings = Map::new();
        let mut slips = BTreeSet::new();
        for (key, entry) in table.in_order().into_iter().filter(|(key, _)| !reserved.contains(key)) {
            let path = join(path, key);
            match shapes.iter().find_map(|shape| shape.key(key)) {
                Some(shape) => {
                    if let Some(value) = self.value(&entry.node, shape, &path) {
                        settings.insert(key.to_owned(), value);
                    }
                }
                None => slips.extend(self.unknown(key, entry.key, shapes, reserved, &path)),
            }
        }
        slips.retain(|meant| table.get(meant).is_none());
        // What was meant is left out too; that it is missing need not be said as well.
        slips.iter().for_each(|meant| self.faults.add(join(path, meant)));
        let mut complete = true;
        for shape in shapes {
            for key in shape.required().filter(|key| !settings.contains_key(*key)) {
                complete = false;
                if table.get(key).is_none() && !slips.contains(key) {
                    self.missing(span, &join(path, key), shape.key(key));
                }
            }
        }
        complete.then_some(Json::Object(settings))
    }

    /// Reports a key that no shape lists; the key that it is a slip of.
    fn unknown<'s>(
        &mut self,
        key: &str,
        span: Span,
        shapes: &[Shape<'s>],
        reserved: &[&'s str],
        path: &str,
    ) -> Option<&'s str> {
        let known: Vec<_> = shapes.iter().flat_map(|shape| shape.keys()).collect();
        let meant = suggest::nearest(key, known.iter().chain(reserved).copied());
        // A stage or a table in it may well lack a name.
        let misplaced = super::section::of(key).filter(|_| key != "name" || self.owner.starts_with('['));
        let place = match path.strip_suffix(join("", key).as_str()).map(|parent| parent.trim_end_matches('.')) {
            Some(parent) if !parent.is_empty() => format!("'{parent}'"),
            _ => self.owner.clone(),
        };
        let diagnostic = Diagnostic::error(format!("unknown key '{path}'"))
            .at(span, format!("not a setting of {place}"))
            .hint(match (meant, known.as_slice()) {
                (Some(meant), _) => format!("did you mean '{meant}'?"),
                _ if key == "extends" => "it stands at the top of the file, above the first [section]".to_owned(),
                _ if misplaced.is_some() => format!("it belongs in {}", misplaced.unwrap_or_default()),
                (None, []) => "it takes no settings".to_owned(),
                (None, known) => format!("its settings are: {}", known.join(", ")),
            });
        self.diagnostics.push(diagnostic);
        meant
    }

    fn missing(&mut self, span: Span, path: &str, shape: Option<Shape<'_>>) {
        self.faults.add(path);
        let described = shape.map(Shape::described).unwrap_or_default();
        let about = shape
            .and_then(Shape::about)
            .and_then(|about| about.lines().next())
            .map(|about| about.trim_end_matches('.'));
        let hint = match about {
            Some(about) => format!("'{path}' takes {described}: {about}"),
            None => format!("'{path}' takes {described}"),
        };
        let diagnostic = Diagnostic::error(format!("missing setting '{path}' of {}", self.owner));
        self.diagnostics.push(diagnostic.at(span, "").hint(hint));
    }

    /// A pattern of files as an absolute one; `None` when it is none.
    fn place(&mut self, node: &Node, text: &str, path: &str) -> Option<String> {
        let folder = &self.diagnostics.source(node.span.source).folder;
        let (message, hint) = match (glob::Pattern::new(text), rebased(text, folder)) {
            (Err(error), _) => (
                format!("'{path}' is no pattern: {}", error.msg),
                "'*' and '?' stand for letters, '**' for folders; '[[]' is the bracket itself",
            ),
            // One alone says that there is none.
            (Ok(_), _) if text.is_empty() && path.ends_with(']') => {
                (format!("'{path}' is empty"), "name a file, or leave it out")
            }
            (Ok(_), None) => (
                format!("'{path}' starts at '{}', whose name is not UTF-8", folder.display()),
                "rename the folder, or write an absolute path",
            ),
            (Ok(_), Some(place)) => return Some(place),
        };
        self.diagnostics.push(Diagnostic::error(message).at(node.span, "").hint(hint.to_owned()));
        None
    }

    /// Holds a value against its shape; `None` when it does not fit.
    pub(super) fn value(&mut self, node: &Node, shape: Shape<'_>, path: &str) -> Option<Json> {
        match (shape.form(), &node.value) {
            (Form::Choice(choices), Value::String(text)) => self.choice(node, &choices, text, path),
            (Form::Text { pattern, shortest, longest }, Value::String(text)) => {
                self.sized(node, path, text.chars().count() as u64, (shortest, longest), LENGTH)?;
                match pattern {
                    true => self.place(node, text, path).map(Json::String),
                    false => Some(Json::String(text.clone())),
                }
            }
            (Form::Integer { least, most }, Value::Integer(integer)) => {
                if !(least..=most).contains(integer) {
                    let expected = format!("expected {least} to {most}");
                    return self.wrong(node, path, format!("'{path}' is out of range"), expected);
                }
                Some(whole(*integer))
            }
            (Form::Number(range), Value::Integer(_) | Value::Float(_)) => {
                let number = match &node.value {
                    Value::Integer(integer) => *integer as f64,
                    Value::Float(float) => *float,
                    _ => f64::NAN,
                };
                if !range.contains(number) {
                    let (fault, expected) = match number.is_finite() {
                        true => ("out of range", format!("expected {range}")),
                        false => ("not finite", format!("expected a finite number, {range}")),
                    };
                    return self.wrong(node, path, format!("'{path}' is {fault}"), expected);
                }
                Number::from_f64(number).map(Json::Number)
            }
            (Form::Boolean, Value::Boolean(boolean)) => Some(Json::Bool(*boolean)),
            (Form::Array { items, shortest, longest, unique }, Value::Array(nodes)) => {
                let size = self.sized(node, path, nodes.len() as u64, (shortest, longest), COUNT);
                let values = nodes.iter().enumerate().map(|(index, item)| match items {
                    Some(items) => self.value(item, items, &format!("{path}[{index}]")),
                    None => self.anything(item, path),
                });
                let values: Vec<_> = values.collect();
                if values.iter().any(Option::is_none) {
                    let fitting = values.iter().enumerate().filter(|(_, value)| value.is_some());
                    self.faults.shorten(path, fitting.map(|(index, _)| index).collect());
                }
                if unique {
                    self.twice(nodes, path);
                }
                size.map(|()| Json::Array(values.into_iter().flatten().collect()))
            }
            (Form::Tuple(items), Value::Array(nodes)) => {
                let count = nodes.len() == items.len();
                if !count {
                    let message = format!("'{path}' has {}", counted(nodes.len() as u64, "item"));
                    self.wrong(node, path, message, format!("expected {}", items.len()));
                }
                let pairs = nodes.iter().zip(items).enumerate();
                let values: Vec<_> =
                    pairs.map(|(index, (item, shape))| self.value(item, shape, &format!("{path}[{index}]"))).collect();
                let values: Option<Vec<_>> = values.into_iter().collect();
                values.filter(|_| count).map(Json::Array)
            }
            (Form::Table, Value::Table(table)) => self.table(node.span, table, &[shape], &[], path),
            (Form::OneOf(branches), _) => self.one_of(node, shape, &branches, path),
            (Form::Anything, _) => self.anything(node, path),
            (form, _) => self.mismatch(node, shape, &form, path),
        }
    }

    /// Holds a length against its bounds; `None` when it is outside.
    fn sized(&mut self, node: &Node, path: &str, size: u64, (least, most): (u64, u64), words: Size) -> Option<()> {
        let (message, expected) = if size < least {
            (words.short, format!("at least {}", counted(least, words.noun)))
        } else if size > most {
            (words.long, format!("at most {}", counted(most, words.noun)))
        } else {
            return Some(());
        };
        self.wrong(node, path, format!("'{path}' {message}"), expected);
        None
    }

    pub(super) fn choice(&mut self, node: &Node, choices: &[&str], text: &str, path: &str) -> Option<Json> {
        if choices.contains(&text) {
            return Some(Json::String(text.to_owned()));
        }
        self.faults.add(path);
        let hint = match suggest::nearest(text, choices.iter().copied()) {
            Some(choice) => format!("did you mean \"{choice}\"?"),
            None => format!("it takes one of {}", quoted(choices)),
        };
        let diagnostic = Diagnostic::error(format!("'{path}' cannot be \"{text}\""));
        self.diagnostics.push(diagnostic.at(node.span, "").hint(hint));
        None
    }

    /// A value without a shape; JSON must be able to hold it.
    fn anything(&mut self, node: &Node, path: &str) -> Option<Json> {
        match &node.value {
            Value::String(text) => Some(Json::String(text.clone())),
            Value::Integer(integer) => match whole(*integer) {
                Json::Null => {
                    self.wrong(node, path, format!("'{path}' is out of range"), "expected an integer of 64 bits")
                }
                integer => Some(integer),
            },
            Value::Float(float) => match Number::from_f64(*float) {
                Some(number) => Some(Json::Number(number)),
                None => self.wrong(node, path, format!("'{path}' is not finite"), "expected a finite number"),
            },
            Value::Boolean(boolean) => Some(Json::Bool(*boolean)),
            Value::Datetime => self.wrong(node, path, format!("'{path}' takes no date or time"), "a date or time"),
            Value::Array(items) => {
                let values: Vec<_> = items.iter().map(|item| self.anything(item, path)).collect();
                values.into_iter().collect::<Option<_>>().map(Json::Array)
            }
            Value::Table(table) => {
                let entries = table.in_order().into_iter();
                let entries: Vec<_> =
                    entries.map(|(key, entry)| Some((key.to_owned(), self.anything(&entry.node, path)?))).collect();
                entries.into_iter().collect::<Option<_>>().map(Json::Object)
            }
        }
    }

    fn twice(&mut self, nodes: &[Node], path: &str) {
        let mut seen = BTreeMap::new();
        for (index, node) in nodes.iter().enumerate() {
            let Some(text) = node.as_str() else { continue };
            if let Some(first) = seen.insert(text, node.span) {
                self.faults.add(format!("{path}[{index}]"));
                let diagnostic = Diagnostic::error(format!("'{path}' holds \"{text}\" twice"));
                self.diagnostics.push(diagnostic.at(node.span, "again here").at(first, "first here"));
            }
        }
    }

    /// Reports a value that does not fit; always `None`.
    pub(super) fn wrong(&mut self, node: &Node, path: &str, message: String, label: impl Into<String>) -> Option<Json> {
        self.faults.add(path);
        self.diagnostics.push(Diagnostic::error(message).at(node.span, label));
        None
    }
}

/// How a length outside its bounds is told.
#[derive(Clone, Copy)]
struct Size {
    short: &'static str,
    long: &'static str,
    noun: &'static str,
}

const LENGTH: Size = Size { short: "is too short", long: "is too long", noun: "character" };
const COUNT: Size = Size { short: "has too few items", long: "has too many items", noun: "item" };

/// `rules.line_max`: the path of a key of the table at `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let key = if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { Json::from(key).to_string() };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

fn whole(integer: i128) -> Json {
    let signed = i64::try_from(integer).map(Json::from);
    signed.or_else(|_| u64::try_from(integer).map(Json::from)).unwrap_or(Json::Null)
}

/// A relative place as an absolute one, the folder's own letters escaped; `None` where the folder's name is no text. An empty
/// one says that there is none; one with a scheme (`s3://`) is whole already.
pub(super) fn rebased(pattern: &str, folder: &Path) -> Option<String> {
    if pattern.is_empty() || Path::new(pattern).is_absolute() || pattern.contains("://") {
        return Some(pattern.to_owned());
    }
    let folder = glob::Pattern::escape(folder.to_str()?);
    Some(contract::SourcePattern::in_folder(&folder, pattern).0)
}
