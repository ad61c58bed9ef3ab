//! The JSON schema of a setting, generated from its Rust type, and the values that it allows.
//!
//! | JSON schema | value type |
//! |---|---|
//! | `$ref`, one branch of `allOf` | that of its target |
//! | `type: [T, null]`, `anyOf: [T, null]` (an `Option`) | that of `T`; TOML has no null |
//! | `enum` or `const` of strings, `oneOf` of such | one of these strings |
//! | `integer` with `minimum`, `maximum` | an integer of at most 64 bits in the range |
//! | `number` | a finite number; an integer is one |
//! | `string` with `format: path-pattern` | a glob pattern; a relative one is resolved against the manifest's directory |
//! | `array` with `items` | an array of values that match that schema |
//! | `object` with `properties` | a table of these keys and no others |
//! | `object` with `additionalProperties` | a table of any keys, whose values match that schema |
//! | several types | a value of any of them |
//! | anything else, such as `true` | anything |
//!
//! The schema of a manifest has no `anyOf` other than these (tests/published.rs), so that validators in editors can name the problem.

use std::fmt;

use contract::SourcePattern;
use serde_json::{Map, Value};

/// A JSON schema and the document that its references point into.
#[derive(Debug, Clone, Copy)]
pub(super) struct SettingSchema<'s> {
    root: &'s Value,
    schema: &'s Value,
    /// The type to consider, if the schema has several.
    ty: Option<&'s str>,
}

/// The values that a schema allows. For several types, `OneOf` contains a schema for each.
#[derive(Debug)]
pub(super) enum ValueType<'s> {
    Anything,
    Choice(Vec<&'s str>),
    Text { pattern: bool, shortest: u64, longest: u64 },
    Integer { least: i128, most: i128 },
    Number(Range),
    Boolean,
    Array { items: SettingSchema<'s>, shortest: u64, longest: u64, unique: bool },
    Table,
    OneOf(Vec<SettingSchema<'s>>),
}

/// The bounds of a number: keyword, word for people, comparison of a number with the bound.
type Bound = (&'static str, &'static str, fn(&f64, &f64) -> bool);

const BOUNDS: [Bound; 4] = [
    ("minimum", "at least", f64::ge),
    ("exclusiveMinimum", "more than", f64::gt),
    ("maximum", "at most", f64::le),
    ("exclusiveMaximum", "less than", f64::lt),
];

/// The finite numbers within all bounds.
#[derive(Debug)]
pub(super) struct Range(Vec<(Bound, f64)>);

impl Range {
    /// Returns whether a number is finite and within the bounds.
    pub fn contains(&self, number: f64) -> bool {
        number.is_finite() && self.0.iter().all(|((_, _, holds), bound)| holds(&number, bound))
    }
}

/// Formats the bounds: `more than 0 and at most 1`.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bounds: Vec<_> = self.0.iter().map(|((_, word, _), bound)| format!("{word} {bound}")).collect();
        f.write_str(if bounds.is_empty() { "of any size" } else { "" })?;
        f.write_str(&bounds.join(" and "))
    }
}

/// The schema that allows anything.
static ANYTHING: Value = Value::Bool(true);

/// The maximum number of references to follow: a cyclic schema allows anything.
const REFERENCES: usize = 32;

impl<'s> SettingSchema<'s> {
    /// Creates the view of a whole schema.
    pub fn of(root: &'s Value) -> Self {
        Self { root, schema: root, ty: None }
    }

    fn with(self, schema: &'s Value) -> Self {
        Self { root: self.root, schema, ty: None }
    }

    /// Returns a member of the schema, such as `minimum`.
    fn member(self, name: &str) -> Option<&'s Value> {
        self.schema.get(name)
    }

    /// Returns the docs of the setting.
    pub fn about(self) -> Option<&'s str> {
        let own = self.member("description").and_then(Value::as_str);
        own.or_else(|| self.resolved().member("description").and_then(Value::as_str))
    }

    /// Returns the default value.
    pub fn default(self) -> Option<&'s Value> {
        self.member("default")
    }

    /// Follows references and unwraps an `Option`.
    pub fn resolved(self) -> Self {
        let mut current = self;
        for _ in 0..REFERENCES {
            let reference = current.member("$ref").and_then(Value::as_str);
            let target = reference.and_then(|reference| current.root.pointer(reference.trim_start_matches('#')));
            let only = |name| match current.branches(name)?.as_slice() {
                [only] => Some(only.schema),
                _ => None,
            };
            match target.or_else(|| only("allOf")).or_else(|| only("anyOf")).or_else(|| only("oneOf")) {
                Some(schema) => current = current.with(schema),
                None => break,
            }
        }
        current
    }

    /// Returns the alternatives of `anyOf` or `oneOf`, without null.
    fn branches(self, name: &str) -> Option<Vec<Self>> {
        let branches = self.member(name)?.as_array()?;
        let null = |schema: &Value| schema.get("type").is_some_and(|ty| ty == "null");
        Some(branches.iter().filter(|schema| !null(schema)).map(|schema| self.with(schema)).collect())
    }

    /// Returns its types, without null.
    fn types(self) -> Vec<&'s str> {
        match (self.ty, self.member("type")) {
            (Some(ty), _) => vec![ty],
            (None, Some(Value::String(name))) => vec![name],
            (None, Some(Value::Array(names))) => {
                names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect()
            }
            _ => Vec::new(),
        }
    }

    /// Describes the allowed values with their bounds: `an integer, 1 to 64`, `an array of strings, each one of "a", "b"`.
    pub fn permitted(self) -> String {
        let described = self.described();
        match self.value_type() {
            ValueType::Integer { least, most } => format!("{described}, {least} to {most}"),
            ValueType::Number(range) => format!("{described}, {range}"),
            ValueType::Array { items, .. } => match items.value_type() {
                ValueType::Choice(_) => format!("{described}, each {}", items.described()),
                _ => described,
            },
            _ => described,
        }
    }

    /// Returns the allowed strings, each with its docs.
    pub fn explained_choices(self) -> Vec<(&'s str, &'s str)> {
        let resolved = self.resolved();
        let branches = resolved.branches("oneOf").unwrap_or_default();
        let choice = |branch: Self| Some((*branch.choices()?.first()?, branch.about()?));
        branches.into_iter().filter_map(choice).collect()
    }

    /// Returns the allowed strings, if the schema is a choice of strings.
    fn choices(self) -> Option<Vec<&'s str>> {
        let resolved = self.resolved();
        if let Some(only) = resolved.member("const") {
            return Some(vec![only.as_str()?]);
        }
        if let Some(values) = resolved.member("enum").and_then(Value::as_array) {
            return values.iter().filter(|value| !value.is_null()).map(Value::as_str).collect();
        }
        let branches = resolved.branches("oneOf").or_else(|| resolved.branches("anyOf"))?;
        let choices: Option<Vec<_>> = branches.into_iter().map(Self::choices).collect();
        choices.map(|choices| choices.concat())
    }

    /// Returns the allowed values.
    pub fn value_type(self) -> ValueType<'s> {
        let resolved = self.resolved();
        if let Some(choices) = resolved.choices() {
            return ValueType::Choice(choices);
        }
        let size = |name, otherwise| resolved.member(name).and_then(Value::as_u64).unwrap_or(otherwise);
        let types = resolved.types();
        match types.first().copied() {
            Some(_) if types.len() > 1 => {
                ValueType::OneOf(types.into_iter().map(|ty| Self { ty: Some(ty), ..resolved }).collect())
            }
            Some("string") => ValueType::Text {
                pattern: resolved.member("format").is_some_and(|format| format == SourcePattern::FORMAT),
                shortest: size("minLength", 0),
                longest: size("maxLength", u64::MAX),
            },
            Some("integer") => resolved.integer(),
            Some("number") => {
                let bound = |bound: Bound| Some((bound, resolved.member(bound.0)?.as_f64()?));
                ValueType::Number(Range(BOUNDS.into_iter().filter_map(bound).collect()))
            }
            Some("boolean") => ValueType::Boolean,
            Some("array") => ValueType::Array {
                items: resolved.with(resolved.member("items").unwrap_or(&ANYTHING)),
                shortest: size("minItems", 0),
                longest: size("maxItems", u64::MAX),
                unique: resolved.member("uniqueItems").is_some_and(|unique| unique == true),
            },
            Some("object") => ValueType::Table,
            _ => ValueType::Anything,
        }
    }

    fn integer(self) -> ValueType<'s> {
        let bound = |name: &str| {
            let value = self.member(name)?;
            let whole = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
            whole.or_else(|| value.as_f64().map(|float| float as i128))
        };
        let least = bound("minimum").or(bound("exclusiveMinimum").map(|bound| bound + 1)).unwrap_or(i64::MIN.into());
        let most = bound("maximum").or(bound("exclusiveMaximum").map(|bound| bound - 1));
        let largest = if least < 0 { i64::MAX.into() } else { u64::MAX.into() };
        ValueType::Integer { least, most: most.unwrap_or(largest) }
    }

    fn map(self, name: &str) -> Option<&'s Map<String, Value>> {
        self.resolved().member(name)?.as_object()
    }

    /// Returns the keys that a table may have by name.
    pub fn keys(self) -> impl Iterator<Item = &'s str> + Clone {
        self.map("properties").into_iter().flat_map(|properties| properties.keys().map(String::as_str))
    }

    /// Returns the schema of the value at a key of a table.
    pub fn key(self, name: &str) -> Option<Self> {
        let resolved = self.resolved();
        let listed = self.map("properties").and_then(|properties| properties.get(name));
        let further = || resolved.member("additionalProperties").filter(|further| **further != Value::Bool(false));
        listed.or_else(further).map(|schema| resolved.with(schema))
    }

    /// Returns the keys that a table must have.
    pub fn required(self) -> impl Iterator<Item = &'s str> {
        let required = self.resolved().member("required").and_then(Value::as_array);
        required.into_iter().flatten().filter_map(Value::as_str)
    }

    /// Describes the allowed values: `an integer`.
    pub fn described(self) -> String {
        match self.value_type() {
            ValueType::Anything => "a value".to_owned(),
            ValueType::Choice(choices) => match choices.as_slice() {
                [only] => format!("\"{only}\""),
                choices => format!("one of {}", quoted(choices)),
            },
            ValueType::Text { .. } => "a string".to_owned(),
            ValueType::Integer { .. } => "an integer".to_owned(),
            ValueType::Number(_) => "a number".to_owned(),
            ValueType::Boolean => "true or false".to_owned(),
            ValueType::Array { items, .. } => match items.value_type() {
                ValueType::Text { .. } | ValueType::Choice(_) => "an array of strings".to_owned(),
                ValueType::Integer { .. } => "an array of integers".to_owned(),
                ValueType::Number(_) => "an array of numbers".to_owned(),
                ValueType::Table | ValueType::OneOf(_) => "an array of tables".to_owned(),
                _ => "an array".to_owned(),
            },
            ValueType::Table => "a table".to_owned(),
            ValueType::OneOf(branches) => {
                let mut all: Vec<_> = branches.into_iter().map(Self::described).collect();
                all.dedup();
                all.join(" or ")
            }
        }
    }
}

/// Formats choices as `"a", "b"`.
pub(super) fn quoted(choices: &[&str]) -> String {
    let choices: Vec<_> = choices.iter().map(|choice| format!("\"{choice}\"")).collect();
    choices.join(", ")
}
