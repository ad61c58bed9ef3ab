//! A table of settings held against its shape: every unknown key, missing key, wrong type and value out of range, and
//! the same settings as JSON for the types to read.

use std::path::Path;

use serde_json::{Map, Number, Value as Json};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Node, Table, Value};
use super::shape::{Form, Shape, quoted};
use super::source::Span;
use super::suggest;

/// The walk over one table of settings.
pub(super) struct Check<'d> {
    pub diagnostics: &'d mut Diagnostics,
    /// What the settings belong to, for messages: "kind 'train'", "[exec]".
    pub owner: String,
    /// Whether every value so far is what its type takes, so that the types can read it.
    pub fits: bool,
}

impl Check<'_> {
    /// Holds `table`, declared at `span`, against the union of `shapes`. `reserved` are further keys, read elsewhere.
    pub fn table(&mut self, span: Span, table: &Table, shapes: &[Shape<'_>], reserved: &[&str], path: &str) -> Json {
        let mut settings = Map::new();
        for (key, entry) in table.in_order().into_iter().filter(|(key, _)| !reserved.contains(key)) {
            match shapes.iter().find_map(|shape| shape.key(key)) {
                Some(shape) => {
                    let value = self.value(&entry.node, shape, &join(path, key));
                    settings.insert(key.to_owned(), value);
                }
                None => {
                    let known: Vec<_> = shapes.iter().flat_map(|shape| shape.keys()).collect();
                    let meant = suggest::nearest(key, known.iter().chain(reserved).copied());
                    let place = if path.is_empty() { self.owner.clone() } else { format!("'{path}'") };
                    let diagnostic = Diagnostic::error(format!("unknown key '{}'", join(path, key)))
                        .at(entry.key, format!("not a setting of {place}"))
                        .hint(match (meant, known.as_slice()) {
                            (Some(meant), _) => format!("did you mean '{meant}'?"),
                            (None, []) => "it takes no settings".to_owned(),
                            (None, known) => format!("its settings are: {}", known.join(", ")),
                        });
                    self.diagnostics.push(diagnostic);
                }
            }
        }
        for shape in shapes {
            for key in shape.required().filter(|key| table.get(key).is_none()) {
                self.missing(span, &join(path, key), shape.key(key));
            }
        }
        Json::Object(settings)
    }

    fn missing(&mut self, span: Span, path: &str, shape: Option<Shape<'_>>) {
        self.fits = false;
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

    fn value(&mut self, node: &Node, shape: Shape<'_>, path: &str) -> Json {
        match (shape.form(), &node.value) {
            (Form::Choice(choices), Value::String(text)) => self.choice(node, &choices, text, path),
            (Form::Text { pattern, shortest, longest }, Value::String(text)) => {
                let length = text.chars().count() as u64;
                if length < shortest {
                    self.wrong(
                        node,
                        format!("'{path}' is too short"),
                        format!("at least {}", counted(shortest, "character")),
                    );
                } else if length > longest {
                    self.wrong(
                        node,
                        format!("'{path}' is too long"),
                        format!("at most {}", counted(longest, "character")),
                    );
                }
                let folder = &self.diagnostics.source(node.span.source).folder;
                Json::String(if pattern { rebased(text, folder) } else { text.clone() })
            }
            (Form::Integer { least, most }, Value::Integer(integer)) => {
                if !(least..=most).contains(integer) {
                    let unbounded = most >= i128::from(i64::MAX);
                    let upper = if unbounded { " or more".to_owned() } else { format!(" to {most}") };
                    self.wrong(node, format!("'{path}' is out of range"), format!("expected {least}{upper}"));
                }
                whole(*integer)
            }
            (Form::Number { least, above, most, below }, Value::Integer(_) | Value::Float(_)) => {
                let number = match &node.value {
                    Value::Integer(integer) => *integer as f64,
                    Value::Float(float) => *float,
                    _ => f64::NAN,
                };
                if !number.is_finite() {
                    self.wrong(node, format!("'{path}' is not finite"), "expected a finite number");
                } else if number < least || number <= above || number > most || number >= below {
                    self.wrong(node, format!("'{path}' is out of range"), range(least, above, most, below));
                }
                Number::from_f64(number).map_or(Json::Null, Json::Number)
            }
            (Form::Boolean, Value::Boolean(boolean)) => Json::Bool(*boolean),
            (Form::Array { items, shortest, longest, unique }, Value::Array(nodes)) => {
                let length = nodes.len() as u64;
                if length < shortest {
                    self.wrong(
                        node,
                        format!("'{path}' has too few items"),
                        format!("at least {}", counted(shortest, "item")),
                    );
                } else if length > longest {
                    self.wrong(
                        node,
                        format!("'{path}' has too many items"),
                        format!("at most {}", counted(longest, "item")),
                    );
                }
                let values = nodes.iter().enumerate().map(|(index, item)| match items {
                    Some(items) => self.value(item, items, &format!("{path}[{index}]")),
                    None => self.anything(item, path),
                });
                let values: Vec<_> = values.collect();
                if unique {
                    self.twice(nodes, path);
                }
                Json::Array(values)
            }
            (Form::Tuple(items), Value::Array(nodes)) => {
                if nodes.len() != items.len() {
                    self.wrong(
                        node,
                        format!("'{path}' has {}", counted(nodes.len() as u64, "item")),
                        format!("expected {}", items.len()),
                    );
                }
                let pairs = nodes.iter().zip(items).enumerate();
                Json::Array(
                    pairs.map(|(index, (item, shape))| self.value(item, shape, &format!("{path}[{index}]"))).collect(),
                )
            }
            (Form::Table, Value::Table(table)) => self.table(node.span, table, &[shape], &[], path),
            (Form::OneOf(branches), _) => self.one_of(node, shape, &branches, path),
            (Form::Anything, _) => self.anything(node, path),
            (form, _) => {
                self.mismatch(node, shape, &form, path);
                Json::Null
            }
        }
    }

    fn choice(&mut self, node: &Node, choices: &[&str], text: &str, path: &str) -> Json {
        if !choices.contains(&text) {
            self.fits = false;
            let hint = match suggest::nearest(text, choices.iter().copied()) {
                Some(choice) => format!("did you mean \"{choice}\"?"),
                None => format!("it takes one of {}", quoted(choices)),
            };
            self.diagnostics
                .push(Diagnostic::error(format!("'{path}' cannot be \"{text}\"")).at(node.span, "").hint(hint));
        }
        Json::String(text.to_owned())
    }

    /// An enum with fields: by its tag, by the one key that names the variant, else whichever branch fits best.
    fn one_of(&mut self, node: &Node, shape: Shape<'_>, branches: &[Shape<'_>], path: &str) -> Json {
        if let Value::Table(table) = &node.value {
            let tables: Vec<_> = branches.iter().filter(|branch| matches!(branch.form(), Form::Table)).collect();
            let tag = tables
                .first()
                .and_then(|first| first.keys().find(|key| tables.iter().all(|branch| tag_of(**branch, key).is_some())));
            if let Some(tag) = tag {
                let Some(entry) = table.get(tag) else {
                    let known: Vec<_> = tables.iter().filter_map(|branch| tag_of(**branch, tag)).collect();
                    self.fits = false;
                    let diagnostic =
                        Diagnostic::error(format!("missing setting '{}' of {}", join(path, tag), self.owner));
                    self.diagnostics
                        .push(diagnostic.at(node.span, "").hint(format!("it takes one of {}", quoted(&known))));
                    return Json::Null;
                };
                let chosen = tables
                    .iter()
                    .find(|branch| entry.node.as_str().is_some() && tag_of(***branch, tag) == entry.node.as_str());
                if let Some(branch) = chosen {
                    return self.table(node.span, table, &[**branch], &[], path);
                }
                let known: Vec<_> = tables.iter().filter_map(|branch| tag_of(**branch, tag)).collect();
                match entry.node.as_str() {
                    Some(text) => drop(self.choice(&entry.node, &known, text, &join(path, tag))),
                    None => self.mismatch(&entry.node, shape, &Form::Choice(known), &join(path, tag)),
                }
                return Json::Null;
            }
            if let [(key, entry)] = table.in_order().as_slice() {
                let variant = tables.iter().find(|branch| branch.required().eq([*key]));
                if let Some(variant) = variant {
                    return self.table(node.span, table, &[**variant], &[], path);
                }
                let known: Vec<_> = tables.iter().flat_map(|branch| branch.required()).collect();
                if !known.is_empty() && tables.iter().all(|branch| branch.keys().count() == 1) {
                    self.fits = false;
                    let diagnostic = Diagnostic::error(format!("unknown key '{}'", join(path, key)))
                        .at(entry.key, "")
                        .hint(suggest::hint(key, "it is one of", known.iter().copied()));
                    self.diagnostics.push(diagnostic);
                    return Json::Null;
                }
            }
        }
        let start = self.diagnostics.len();
        let fitted = self.fits;
        let mut best: Option<(Vec<Diagnostic>, bool, Json)> = None;
        for branch in branches.iter().filter(|branch| takes(&branch.form(), &node.value)) {
            self.fits = fitted;
            let json = self.value(node, *branch, path);
            let found = self.diagnostics.take_after(start);
            if best.as_ref().is_none_or(|(least, ..)| found.len() < least.len()) {
                best = Some((found, self.fits, json));
            }
        }
        self.fits = fitted;
        let Some((found, fits, json)) = best else {
            self.mismatch(node, shape, &Form::OneOf(branches.to_vec()), path);
            return Json::Null;
        };
        self.fits = fits;
        found.into_iter().for_each(|diagnostic| self.diagnostics.push(diagnostic));
        json
    }

    /// A value without a shape; JSON must be able to hold it.
    fn anything(&mut self, node: &Node, path: &str) -> Json {
        match &node.value {
            Value::String(text) => Json::String(text.clone()),
            Value::Integer(integer) => match whole(*integer) {
                Json::Null => {
                    self.wrong(node, format!("'{path}' is out of range"), "expected an integer of 64 bits");
                    Json::Null
                }
                integer => integer,
            },
            Value::Float(float) => Number::from_f64(*float).map_or_else(
                || {
                    self.wrong(node, format!("'{path}' is not finite"), "expected a finite number");
                    Json::Null
                },
                Json::Number,
            ),
            Value::Boolean(boolean) => Json::Bool(*boolean),
            Value::Datetime => {
                self.wrong(node, format!("'{path}' takes no date or time"), "a date or time");
                Json::Null
            }
            Value::Array(items) => Json::Array(items.iter().map(|item| self.anything(item, path)).collect()),
            Value::Table(table) => {
                let entries = table.in_order().into_iter();
                Json::Object(entries.map(|(key, entry)| (key.to_owned(), self.anything(&entry.node, path))).collect())
            }
        }
    }

    fn twice(&mut self, nodes: &[Node], path: &str) {
        let mut seen = std::collections::BTreeMap::new();
        for node in nodes {
            let Some(text) = node.as_str() else { continue };
            if let Some(first) = seen.insert(text, node.span) {
                self.fits = false;
                let diagnostic = Diagnostic::error(format!("'{path}' holds \"{text}\" twice"));
                self.diagnostics.push(diagnostic.at(node.span, "again here").at(first, "first here"));
            }
        }
    }

    fn wrong(&mut self, node: &Node, message: String, label: impl Into<String>) {
        self.fits = false;
        self.diagnostics.push(Diagnostic::error(message).at(node.span, label));
    }

    fn mismatch(&mut self, node: &Node, shape: Shape<'_>, form: &Form<'_>, path: &str) {
        self.fits = false;
        let expected = match form {
            Form::Choice(choices) => format!("one of {}", quoted(choices)),
            _ => shape.described(),
        };
        let found = node.value.described();
        let diagnostic = Diagnostic::error(format!("'{path}' takes {expected}, found {found}"))
            .at(node.span, if expected.len() < 40 { format!("expected {expected}") } else { String::new() })
            .hint(self.respelled(node, form));
        self.diagnostics.push(diagnostic);
    }

    /// How the value would be spelt in the type that is expected, where it has such a spelling.
    fn respelled(&self, node: &Node, form: &Form<'_>) -> Option<String> {
        let text = self.diagnostics.sources().text(node.span);
        let write = |spelling: String| Some(format!("write {spelling}"));
        match (form, &node.value) {
            (Form::Integer { .. }, Value::Float(float)) if float.fract() == 0.0 && float.abs() < 1e15 => {
                write(format!("{float}"))
            }
            (Form::Integer { .. }, Value::String(text)) if text.parse::<i64>().is_ok() => write(text.clone()),
            (Form::Number { .. }, Value::String(text)) if text.parse::<f64>().is_ok_and(f64::is_finite) => {
                write(text.clone())
            }
            (Form::Boolean, Value::String(text)) if text == "true" || text == "false" => write(text.clone()),
            (Form::Text { .. }, Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime) => {
                write(format!("\"{text}\""))
            }
            (Form::Array { items: Some(items), .. }, value) if takes(&items.form(), value) && text.len() < 60 => {
                write(format!("[{text}]"))
            }
            _ => None,
        }
    }
}

/// The string that a table of this shape must have at `key`, if it must have just one.
fn tag_of<'s>(branch: Shape<'s>, key: &str) -> Option<&'s str> {
    match branch.key(key)?.form() {
        Form::Choice(choices) if branch.required().any(|required| required == key) => match choices.as_slice() {
            [only] => Some(only),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a value is of the form's type, whatever is inside it.
fn takes(form: &Form<'_>, value: &Value) -> bool {
    match (form, value) {
        (Form::Anything, _)
        | (Form::Choice(_) | Form::Text { .. }, Value::String(_))
        | (Form::Integer { .. }, Value::Integer(_))
        | (Form::Number { .. }, Value::Integer(_) | Value::Float(_))
        | (Form::Boolean, Value::Boolean(_))
        | (Form::Array { .. } | Form::Tuple(_), Value::Array(_))
        | (Form::Table, Value::Table(_)) => true,
        (Form::OneOf(branches), value) => branches.iter().any(|branch| takes(&branch.form(), value)),
        _ => false,
    }
}

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

fn range(least: f64, above: f64, most: f64, below: f64) -> String {
    let lower = if above > least {
        Some(format!("more than {above}"))
    } else {
        least.is_finite().then(|| format!("at least {least}"))
    };
    let upper = if below < most {
        Some(format!("less than {below}"))
    } else {
        most.is_finite().then(|| format!("at most {most}"))
    };
    format!("expected {}", [lower, upper].into_iter().flatten().collect::<Vec<_>>().join(" and "))
}

fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A relative place as an absolute one, the folder's own letters escaped. An empty one says that there is none; one with
/// a scheme (`s3://`) is whole already.
pub(super) fn rebased(pattern: &str, folder: &Path) -> String {
    if pattern.is_empty() || Path::new(pattern).is_absolute() || pattern.contains("://") {
        return pattern.to_owned();
    }
    let folder = glob::Pattern::escape(&folder.to_string_lossy());
    format!("{}/{}", folder.trim_end_matches('/'), pattern.trim_start_matches("./"))
}
