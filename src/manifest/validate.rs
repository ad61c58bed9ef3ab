//! Validation of a table of settings against its JSON schema: unknown and missing keys, wrong types and values out of range.
//! The valid settings become JSON for the types to parse.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path as FilePath;

use contract::figures::counted;
use contract::setting_path;
use serde_json::{Map, Number, Value as Json};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Node, Table, Value};
use super::setting_schema::{Range, SettingSchema, ValueType, quoted};
use super::settings::{Location, Settings};
use super::source::{Sources, Span};
use super::suggest;

/// Validates `table`, declared at `span`, against the union of `schemas`. `owner` is its name in messages: `kind 'train'`, `[exec]`. The
/// keys in `reserved` are ignored: they are read elsewhere.
pub(super) fn validate(
    span: Span,
    table: &Table,
    schemas: &[SettingSchema<'_>],
    reserved: &[&str],
    owner: String,
    diagnostics: &mut Diagnostics,
) -> Settings {
    let sources = diagnostics.sources();
    let mut validator =
        Validator { sources, owner, problems: Vec::new(), misspelt: BTreeSet::new(), locations: BTreeMap::new() };
    let json = validator.table(span, table, schemas, reserved, "");
    let Validator { problems, misspelt, locations, .. } = validator;
    let is_valid = problems.is_empty();
    diagnostics.extend(problems);
    Settings { json, is_valid, declared: span, misspelt, locations }
}

/// The validation of one table of settings.
struct Validator<'s> {
    sources: &'s Sources,
    owner: String,
    problems: Vec<Diagnostic>,
    misspelt: BTreeSet<String>,
    locations: BTreeMap<String, Location>,
}

impl Validator<'_> {
    /// Validates a table at `path`.
    fn table(
        &mut self,
        span: Span,
        table: &Table,
        schemas: &[SettingSchema<'_>],
        reserved: &[&str],
        path: &str,
    ) -> Map<String, Json> {
        let mut settings = Map::new();
        for (key, entry) in table.in_order().into_iter().filter(|(key, _)| !reserved.contains(key)) {
            let path = setting_path(path, key);
            match schemas.iter().find_map(|schema| schema.key(key)) {
                Some(schema) => {
                    let value = self.value(entry.key, &entry.node, schema, &path);
                    settings.extend(value.map(|value| (key.to_owned(), value)));
                }
                None => self.unknown(key, entry.key, schemas, reserved, &path),
            }
        }
        for schema in schemas {
            for key in schema.required().filter(|key| table.get(key).is_none()) {
                let path = setting_path(path, key);
                // A required key that is misspelt is not also reported as missing.
                if !self.misspelt.contains(&path) {
                    self.missing(span, &path, schema.key(key));
                }
            }
        }
        settings
    }

    /// Reports a key that no schema contains.
    fn unknown(&mut self, key: &str, span: Span, schemas: &[SettingSchema<'_>], reserved: &[&str], path: &str) {
        let known: Vec<_> = schemas.iter().flat_map(|schema| schema.keys()).collect();
        let intended = suggest::nearest(key, known.iter().chain(reserved).copied());
        let parent =
            path.strip_suffix(&setting_path("", key)).map(|table| table.trim_end_matches('.')).unwrap_or_default();
        let table = if parent.is_empty() { self.owner.clone() } else { format!("'{parent}'") };
        // The user may have meant a setting of a stage, or of a table in it.
        let section = section_of(key).filter(|_| key != "name" || self.owner.starts_with('['));
        let hint = match (intended, section, known.as_slice()) {
            (Some(intended), ..) => format!("did you mean '{intended}'?"),
            _ if key == "extends" => "it belongs at the top of the file, above the first [section]".to_owned(),
            (_, Some(section), _) => format!("it belongs in {section}"),
            (.., []) => "it takes no settings".to_owned(),
            (.., known) => format!("its settings are: {}", known.join(", ")),
        };
        self.misspelt.extend(intended.map(|intended| setting_path(parent, intended)));
        self.reject(format!("unknown key '{path}'"), span, format!("not a setting of {table}"), hint);
    }

    fn missing(&mut self, span: Span, path: &str, schema: Option<SettingSchema<'_>>) {
        let described = schema.map(SettingSchema::described).unwrap_or_default();
        let about = schema.and_then(SettingSchema::about).and_then(|about| about.lines().next());
        let about = about.map(|about| format!(": {}", about.trim_end_matches('.'))).unwrap_or_default();
        let message = format!("missing setting '{path}' of {}", self.owner);
        self.reject(message, span, "", format!("'{path}' expects {described}{about}"));
    }

    /// Validates a value; `None` if it is invalid.
    fn value(&mut self, key: Span, node: &Node, schema: SettingSchema<'_>, path: &str) -> Option<Json> {
        self.locations.insert(path.to_owned(), Location { key, value: node.span });
        self.typed(node, schema, path)
    }

    fn typed(&mut self, node: &Node, schema: SettingSchema<'_>, path: &str) -> Option<Json> {
        match (schema.value_type(), &node.value) {
            (ValueType::Choice(choices), Value::String(text)) => self.choice(node, &choices, text, path),
            (ValueType::Text { pattern, shortest, longest }, Value::String(text)) => {
                self.sized(node, path, text.chars().count() as u64, (shortest, longest), CHARACTERS)?;
                match pattern {
                    true => self.pattern(node, text, path).map(Json::String),
                    false => Some(Json::String(text.clone())),
                }
            }
            (ValueType::Integer { least, most }, Value::Integer(integer)) => match (least..=most).contains(integer) {
                true => node.json().ok(),
                false => self.invalid(node, format!("'{path}' is out of range"), format!("expected {least} to {most}")),
            },
            (ValueType::Number(range), Value::Integer(integer)) => self.number(node, *integer as f64, &range, path),
            (ValueType::Number(range), Value::Float(float)) => self.number(node, *float, &range, path),
            (ValueType::Boolean, Value::Boolean(boolean)) => Some(Json::Bool(*boolean)),
            (ValueType::Array { items, shortest, longest, unique }, Value::Array(nodes)) => {
                let size = self.sized(node, path, nodes.len() as u64, (shortest, longest), ITEMS);
                let item =
                    |(index, item): (usize, &Node)| self.value(item.span, item, items, &format!("{path}[{index}]"));
                let values = nodes.iter().enumerate().filter_map(item).collect();
                if unique {
                    self.unique(nodes, path);
                }
                size.map(|()| Json::Array(values))
            }
            (ValueType::Table, Value::Table(table)) => {
                Some(Json::Object(self.table(node.span, table, &[schema], &[], path)))
            }
            (ValueType::OneOf(types), value) => {
                match types.iter().find(|ty| accepts(&ty.value_type(), value)).copied() {
                    Some(ty) => self.typed(node, ty, path),
                    None => self.mismatch(node, schema, &ValueType::OneOf(types), path),
                }
            }
            (ValueType::Anything, _) => node.json().map(Some).unwrap_or_else(|inner| {
                let (message, expected) = match inner.value {
                    Value::Integer(_) => ("is out of range", "expected an integer of 64 bits"),
                    Value::Float(_) => ("is not finite", "expected a finite number"),
                    _ => ("cannot be a date or time", "a date or time"),
                };
                self.invalid(inner, format!("'{path}' {message}"), expected)
            }),
            (ty, _) => self.mismatch(node, schema, &ty, path),
        }
    }

    fn number(&mut self, node: &Node, number: f64, range: &Range, path: &str) -> Option<Json> {
        if !number.is_finite() {
            let expected = format!("expected a finite number, {range}");
            return self.invalid(node, format!("'{path}' is not finite"), expected);
        }
        match range.contains(number) {
            true => Number::from_f64(number).map(Json::Number),
            false => self.invalid(node, format!("'{path}' is out of range"), format!("expected {range}")),
        }
    }

    /// Reports a value of a wrong type; always `None`.
    fn mismatch(
        &mut self,
        node: &Node,
        schema: SettingSchema<'_>,
        expected: &ValueType<'_>,
        path: &str,
    ) -> Option<Json> {
        let described = match expected {
            ValueType::Choice(choices) => format!("one of {}", quoted(choices)),
            _ => schema.described(),
        };
        let keys: Vec<_> = schema.keys().collect();
        let hint = (matches!(expected, ValueType::Table) && !keys.is_empty())
            .then(|| format!("its settings are: {}", keys.join(", ")));
        let label = if described.len() < 40 { format!("expected {described}") } else { String::new() };
        let message = format!("'{path}' expects {described}, found {}", node.value.described());
        self.reject(message, node.span, label, hint);
        None
    }

    /// Makes a glob pattern of files absolute.
    fn pattern(&mut self, node: &Node, text: &str, path: &str) -> Option<String> {
        let directory = &self.sources.get(node.span.source).directory;
        let (message, hint) = match (glob::Pattern::new(text), absolute_pattern(text, directory)) {
            (Err(error), _) => (
                format!("'{path}' is not a valid glob pattern: {}", error.msg),
                "'*' and '?' match letters, '**' directories; '[[]' is a literal bracket",
            ),
            // An empty setting means that the stage has no source yet; an empty item is an error.
            (Ok(_), _) if text.is_empty() && path.ends_with(']') => {
                (format!("'{path}' is empty"), "set a file name, or remove the item")
            }
            (Ok(_), None) => (
                format!("'{path}' is relative to '{}', which is not valid UTF-8", directory.display()),
                "rename the directory, or write an absolute path",
            ),
            (Ok(_), Some(pattern)) => return Some(pattern),
        };
        self.reject(message, node.span, "", hint.to_owned());
        None
    }

    /// Checks a length against its bounds; `None` if it is outside.
    fn sized(&mut self, node: &Node, path: &str, size: u64, (least, most): (u64, u64), unit: Unit) -> Option<()> {
        let (message, expected) = if size < least {
            (unit.short, format!("expected at least {}", counted(least, unit.noun)))
        } else if size > most {
            (unit.long, format!("expected at most {}", counted(most, unit.noun)))
        } else {
            return Some(());
        };
        self.invalid(node, format!("'{path}' {message}"), expected);
        None
    }

    /// Validates a string that must be one of `choices`.
    fn choice(&mut self, node: &Node, choices: &[&str], text: &str, path: &str) -> Option<Json> {
        if choices.contains(&text) {
            return Some(Json::String(text.to_owned()));
        }
        let hint = match suggest::nearest(text, choices.iter().copied()) {
            Some(choice) => format!("did you mean \"{choice}\"?"),
            None => format!("expected one of {}", quoted(choices)),
        };
        self.reject(format!("invalid value \"{text}\" for '{path}'"), node.span, "", hint);
        None
    }

    fn unique(&mut self, nodes: &[Node], path: &str) {
        let mut seen = BTreeMap::new();
        for node in nodes {
            let Some(text) = node.as_str() else { continue };
            if let Some(first) = seen.insert(text, node.span) {
                let diagnostic = Diagnostic::error(format!("duplicate item \"{text}\" in '{path}'"));
                self.problems.push(diagnostic.at(node.span, "again here").at(first, "first here"));
            }
        }
    }

    /// Reports an invalid value; always `None`.
    fn invalid(&mut self, node: &Node, message: String, label: impl Into<String>) -> Option<Json> {
        self.reject(message, node.span, label, None);
        None
    }

    fn reject(&mut self, message: String, span: Span, label: impl Into<String>, hint: impl Into<Option<String>>) {
        self.problems.push(Diagnostic::error(message).at(span, label).hint(hint));
    }
}

/// The words for a size outside its bounds.
#[derive(Clone, Copy)]
struct Unit {
    short: &'static str,
    long: &'static str,
    noun: &'static str,
}

const CHARACTERS: Unit = Unit { short: "is too short", long: "is too long", noun: "character" };
const ITEMS: Unit = Unit { short: "has too few items", long: "has too many items", noun: "item" };

/// Returns whether a value has a type, regardless of its content.
fn accepts(ty: &ValueType<'_>, value: &Value) -> bool {
    match (ty, value) {
        (ValueType::Anything, _)
        | (ValueType::Choice(_) | ValueType::Text { .. }, Value::String(_))
        | (ValueType::Integer { .. }, Value::Integer(_))
        | (ValueType::Number(_), Value::Integer(_) | Value::Float(_))
        | (ValueType::Boolean, Value::Boolean(_))
        | (ValueType::Array { .. }, Value::Array(_))
        | (ValueType::Table, Value::Table(_)) => true,
        (ValueType::OneOf(types), value) => types.iter().any(|ty| accepts(&ty.value_type(), value)),
        _ => false,
    }
}

/// Makes a relative pattern absolute, with the directory's own characters escaped; `None` if the directory is not valid UTF-8.
/// An empty pattern means that there is no source; one with a scheme (`s3://`) is absolute already.
fn absolute_pattern(pattern: &str, directory: &FilePath) -> Option<String> {
    if pattern.is_empty() || FilePath::new(pattern).is_absolute() || pattern.contains("://") {
        return Some(pattern.to_owned());
    }
    let directory = glob::Pattern::escape(directory.to_str()?);
    Some(contract::SourcePattern::in_folder(&directory, pattern).0)
}

/// Returns the section that has the setting `key`.
pub(super) fn section_of(key: &str) -> Option<&'static str> {
    match key {
        "name" | "seed" => Some("[run]"),
        "threads" | "jobs" | "memory" | "device" | "cache" => Some("[exec]"),
        _ => None,
    }
}
