//! Validation of a table of settings against its JSON schema: unknown and missing keys, wrong types and values out of range.
//! The valid settings become JSON for the types to parse.
//!
//! An invalid setting is left out of the JSON, and with it everything that cannot be parsed without it: an item of an array, an
//! entry of a map, a table that requires it. [`Settings`] records what was left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path as FilePath;

use contract::figures::counted;
use contract::setting_path;
use serde_json::{Map, Number, Value as Json};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Node, Table, Value};
use super::setting_schema::{SettingSchema, ValueType, quoted};
use super::settings::{Location, Settings};
use super::source::{Sources, Span};
use super::suggest;

/// Validates `table`, declared at `span`, against the union of `schemas`. `owner` is its name in messages: `kind 'train'`,
/// `[exec]`. The keys `reserved` are read elsewhere.
pub(super) fn validate(
    span: Span,
    table: &Table,
    schemas: &[SettingSchema<'_>],
    reserved: &[&str],
    owner: String,
    diagnostics: &mut Diagnostics,
) -> Settings {
    let mut validator = Validator { sources: diagnostics.sources(), owner, found: Found::default() };
    let json = validator.table(span, table, schemas, reserved, &Path::default());
    let Found { problems, rejected, locations } = validator.found;
    diagnostics.extend(problems);
    Settings::new(json, span, rejected, locations)
}

/// The traversal of one table of settings.
pub(super) struct Validator<'s> {
    pub sources: &'s Sources,
    pub owner: String,
    pub found: Found,
}

/// The findings of a traversal, or of a part of it.
#[derive(Default)]
pub(super) struct Found {
    pub problems: Vec<Diagnostic>,
    /// The paths of invalid settings.
    pub rejected: Vec<String>,
    /// The valid settings, by their path in the JSON.
    pub locations: Vec<(String, Location)>,
}

/// The path of a setting. The two differ after an invalid item of an array, which the JSON lacks.
#[derive(Default)]
pub(super) struct Path {
    pub manifest: String,
    pub json: String,
}

impl Path {
    pub fn key(&self, key: &str) -> Self {
        Self { manifest: setting_path(&self.manifest, key), json: setting_path(&self.json, key) }
    }

    fn item(&self, manifest: usize, json: usize) -> Self {
        Self { manifest: format!("{}[{manifest}]", self.manifest), json: format!("{}[{json}]", self.json) }
    }
}

impl Validator<'_> {
    /// Validates a table; `None` if a required key is missing or invalid.
    fn table(
        &mut self,
        span: Span,
        table: &Table,
        schemas: &[SettingSchema<'_>],
        reserved: &[&str],
        path: &Path,
    ) -> Option<Map<String, Json>> {
        let mut settings = Map::new();
        let mut misspelt = BTreeSet::new();
        for (key, entry) in table.in_order().into_iter().filter(|(key, _)| !reserved.contains(key)) {
            let path = path.key(key);
            match schemas.iter().find_map(|schema| schema.key(key)) {
                Some(schema) => {
                    if let Some(value) = self.value(entry.key, &entry.node, schema, &path) {
                        settings.insert(key.to_owned(), value);
                    }
                }
                None => misspelt.extend(self.unknown(key, entry.key, schemas, reserved, &path)),
            }
        }
        // The intended key is rejected too; that it is missing is not reported as well.
        misspelt.retain(|intended| table.get(intended).is_none());
        self.found.rejected.extend(misspelt.iter().map(|intended| path.key(intended).manifest));
        let mut complete = true;
        for schema in schemas {
            for key in schema.required().filter(|key| !settings.contains_key(*key)) {
                complete = false;
                if table.get(key).is_none() && !misspelt.contains(key) {
                    self.missing(span, &path.key(key), schema.key(key));
                }
            }
        }
        complete.then_some(settings)
    }

    /// Reports a key that no schema has. Returns the key that it most likely misspells.
    fn unknown<'k>(
        &mut self,
        key: &str,
        span: Span,
        schemas: &[SettingSchema<'k>],
        reserved: &[&'k str],
        path: &Path,
    ) -> Option<&'k str> {
        let path = &path.manifest;
        let known: Vec<_> = schemas.iter().flat_map(|schema| schema.keys()).collect();
        let intended = suggest::nearest(key, known.iter().chain(reserved).copied());
        // `name` may be meant as a setting of a stage or of a table in it.
        let section = section_of(key).filter(|_| key != "name" || self.owner.starts_with('['));
        let table = match path.strip_suffix(&setting_path("", key)).map(|table| table.trim_end_matches('.')) {
            Some(table) if !table.is_empty() => format!("'{table}'"),
            _ => self.owner.clone(),
        };
        let hint = match (intended, section, known.as_slice()) {
            (Some(intended), ..) => format!("did you mean '{intended}'?"),
            _ if key == "extends" => "it belongs at the top of the file, above the first [section]".to_owned(),
            (_, Some(section), _) => format!("it belongs in {section}"),
            (.., []) => "it takes no settings".to_owned(),
            (.., known) => format!("its settings are: {}", known.join(", ")),
        };
        let diagnostic = Diagnostic::error(format!("unknown key '{path}'"));
        self.found.problems.push(diagnostic.at(span, format!("not a setting of {table}")).hint(hint));
        intended
    }

    fn missing(&mut self, span: Span, path: &Path, schema: Option<SettingSchema<'_>>) {
        let path = &path.manifest;
        let described = schema.map(SettingSchema::described).unwrap_or_default();
        let about = schema.and_then(SettingSchema::about).and_then(|about| about.lines().next());
        let about = about.map(|about| format!(": {}", about.trim_end_matches('.'))).unwrap_or_default();
        let diagnostic = Diagnostic::error(format!("missing setting '{path}' of {}", self.owner));
        self.reject(path, diagnostic.at(span, "").hint(format!("'{path}' expects {described}{about}")));
    }

    /// Validates a value. Records where it is written, unless it is invalid.
    fn value(&mut self, key: Span, node: &Node, schema: SettingSchema<'_>, path: &Path) -> Option<Json> {
        let before = std::mem::take(&mut self.found.locations);
        let json = self.typed(node, schema, path);
        let within = std::mem::replace(&mut self.found.locations, before);
        if json.is_some() {
            let location = Location { path: path.manifest.clone(), key, value: node.span };
            self.found.locations.push((path.json.clone(), location));
            self.found.locations.extend(within);
        }
        json
    }

    fn typed(&mut self, node: &Node, schema: SettingSchema<'_>, path: &Path) -> Option<Json> {
        let name = &path.manifest;
        match (schema.value_type(), &node.value) {
            (ValueType::Choice(choices), Value::String(text)) => self.choice(node, &choices, text, path),
            (ValueType::Text { pattern, shortest, longest }, Value::String(text)) => {
                self.sized(node, path, text.chars().count() as u64, (shortest, longest), CHARACTERS)?;
                match pattern {
                    true => self.pattern(node, text, path).map(Json::String),
                    false => Some(Json::String(text.clone())),
                }
            }
            (ValueType::Integer { least, most }, Value::Integer(integer)) => {
                if !(least..=most).contains(integer) {
                    let expected = format!("expected {least} to {most}");
                    return self.invalid(node, path, format!("'{name}' is out of range"), expected);
                }
                node.json().ok()
            }
            (ValueType::Number(range), Value::Integer(_) | Value::Float(_)) => {
                let number = match &node.value {
                    Value::Integer(integer) => *integer as f64,
                    Value::Float(float) => *float,
                    _ => f64::NAN,
                };
                if !range.contains(number) {
                    let (message, expected) = match number.is_finite() {
                        true => ("out of range", format!("expected {range}")),
                        false => ("not finite", format!("expected a finite number, {range}")),
                    };
                    return self.invalid(node, path, format!("'{name}' is {message}"), expected);
                }
                Number::from_f64(number).map(Json::Number)
            }
            (ValueType::Boolean, Value::Boolean(boolean)) => Some(Json::Bool(*boolean)),
            (ValueType::Array { items, shortest, longest, unique }, Value::Array(nodes)) => {
                let size = self.sized(node, path, nodes.len() as u64, (shortest, longest), ITEMS);
                let mut values = Vec::with_capacity(nodes.len());
                for (index, item) in nodes.iter().enumerate() {
                    values.extend(self.value(item.span, item, items, &path.item(index, values.len())));
                }
                if unique {
                    self.unique(nodes, path);
                }
                size.map(|()| Json::Array(values))
            }
            (ValueType::Table, Value::Table(table)) => {
                self.table(node.span, table, &[schema], &[], path).map(Json::Object)
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
                    _ => ("cannot hold a date or time", "a date or time"),
                };
                self.invalid(inner, path, format!("'{name}' {message}"), expected)
            }),
            (ty, _) => self.mismatch(node, schema, &ty, path),
        }
    }

    /// Makes a glob pattern of files absolute.
    fn pattern(&mut self, node: &Node, text: &str, path: &Path) -> Option<String> {
        let name = &path.manifest;
        let directory = &self.sources.get(node.span.source).directory;
        let (message, hint) = match (glob::Pattern::new(text), absolute_pattern(text, directory)) {
            (Err(error), _) => (
                format!("'{name}' is not a valid glob pattern: {}", error.msg),
                "'*' and '?' match letters, '**' directories; '[[]' is a literal bracket",
            ),
            // An empty setting means that the stage has no source yet; an empty item means nothing.
            (Ok(_), _) if text.is_empty() && name.ends_with(']') => {
                (format!("'{name}' is empty"), "name a file, or remove the item")
            }
            (Ok(_), None) => (
                format!("'{name}' starts at '{}', which is not valid UTF-8", directory.display()),
                "rename the directory, or write an absolute path",
            ),
            (Ok(_), Some(pattern)) => return Some(pattern),
        };
        self.reject(name, Diagnostic::error(message).at(node.span, "").hint(hint.to_owned()));
        None
    }

    /// Checks a length against its bounds; `None` if it is outside.
    fn sized(&mut self, node: &Node, path: &Path, size: u64, (least, most): (u64, u64), unit: Unit) -> Option<()> {
        let (message, expected) = if size < least {
            (unit.short, format!("expected at least {}", counted(least, unit.noun)))
        } else if size > most {
            (unit.long, format!("expected at most {}", counted(most, unit.noun)))
        } else {
            return Some(());
        };
        self.invalid(node, path, format!("'{}' {message}", path.manifest), expected);
        None
    }

    /// Validates a string that must be one of `choices`.
    fn choice(&mut self, node: &Node, choices: &[&str], text: &str, path: &Path) -> Option<Json> {
        if choices.contains(&text) {
            return Some(Json::String(text.to_owned()));
        }
        let hint = match suggest::nearest(text, choices.iter().copied()) {
            Some(choice) => format!("did you mean \"{choice}\"?"),
            None => format!("expected one of {}", quoted(choices)),
        };
        let diagnostic = Diagnostic::error(format!("invalid value \"{text}\" for '{}'", path.manifest));
        self.reject(&path.manifest, diagnostic.at(node.span, "").hint(hint));
        None
    }

    fn unique(&mut self, nodes: &[Node], path: &Path) {
        let mut seen = BTreeMap::new();
        for (index, node) in nodes.iter().enumerate() {
            let Some(text) = node.as_str() else { continue };
            if let Some(first) = seen.insert(text, node.span) {
                let diagnostic = Diagnostic::error(format!("duplicate item \"{text}\" in '{}'", path.manifest));
                let diagnostic = diagnostic.at(node.span, "again here").at(first, "first here");
                self.reject(&path.item(index, index).manifest, diagnostic);
            }
        }
    }

    /// Reports an invalid value; always `None`.
    fn invalid(&mut self, node: &Node, path: &Path, message: String, label: impl Into<String>) -> Option<Json> {
        self.reject(&path.manifest, Diagnostic::error(message).at(node.span, label));
        None
    }

    /// Reports why the setting at `path` is invalid.
    pub fn reject(&mut self, path: &str, diagnostic: Diagnostic) {
        self.found.rejected.push(path.to_owned());
        self.found.problems.push(diagnostic);
    }
}

/// How a size outside its bounds is described.
#[derive(Clone, Copy)]
struct Unit {
    short: &'static str,
    long: &'static str,
    noun: &'static str,
}

const CHARACTERS: Unit = Unit { short: "is too short", long: "is too long", noun: "character" };
const ITEMS: Unit = Unit { short: "has too few items", long: "has too many items", noun: "item" };

/// Returns whether a value is of a type, whatever it contains.
pub(super) fn accepts(ty: &ValueType<'_>, value: &Value) -> bool {
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
