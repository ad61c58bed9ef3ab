//! What a setting may be, read from the JSON schema that its Rust type generates.
//!
//! | JSON schema | form |
//! |---|---|
//! | `$ref`, one branch of `allOf` | what it refers to |
//! | `type: [T, null]`, `anyOf: [T, null]` (an `Option`) | that of `T`; TOML has no null |
//! | `enum` or `const` of strings, `oneOf` of such | one of these strings |
//! | `integer` with `minimum`, `maximum`, `format: uint32`... | an integer in the narrowest of the ranges |
//! | `number` | a finite number; an integer is one |
//! | `string` with `format: path-pattern` | a place; a relative one starts at the file's folder |
//! | `array` with `items` or `prefixItems` | each item of its shape |
//! | `object` with `properties` | these keys and no others |
//! | `object` with `additionalProperties` or `patternProperties` | any keys, each value of that shape |
//! | `oneOf`, `anyOf` of other things | one of them |
//! | `true`, `{}` | anything |

use std::fmt;

use contract::SourcePattern;
use serde_json::{Map, Value};

/// A schema and the document that its references point into.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape<'s> {
    root: &'s Value,
    schema: &'s Value,
}

/// What a value may be.
#[derive(Debug)]
pub(super) enum Form<'s> {
    Anything,
    Choice(Vec<&'s str>),
    Text { pattern: bool, shortest: u64, longest: u64 },
    Integer { least: i128, most: i128 },
    Number(Range),
    Boolean,
    Array { items: Option<Shape<'s>>, shortest: u64, longest: u64, unique: bool },
    Tuple(Vec<Shape<'s>>),
    Table,
    OneOf(Vec<Shape<'s>>),
}

/// The finite numbers between bounds, of which the tighter one counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    least: f64,
    above: f64,
    most: f64,
    below: f64,
}

impl Range {
    /// Whether it holds a number.
    pub fn contains(self, number: f64) -> bool {
        let Self { least, above, most, below } = self;
        number.is_finite() && number >= least && number > above && number <= most && number < below
    }
}

/// `more than 0 and at most 1`.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { least, above, most, below } = self;
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
        let bounds: Vec<_> = [lower, upper].into_iter().flatten().collect();
        f.write_str(if bounds.is_empty() { "of any size" } else { "" })?;
        f.write_str(&bounds.join(" and "))
    }
}

/// References are followed this far: a schema that goes in a circle says nothing.
const REFERENCES: usize = 32;

impl<'s> Shape<'s> {
    /// The shape of a whole schema.
    pub fn of(root: &'s Value) -> Self {
        Self { root, schema: root }
    }

    fn with(self, schema: &'s Value) -> Self {
        Self { root: self.root, schema }
    }

    /// A member of the schema, as `minimum`.
    fn member(self, name: &str) -> Option<&'s Value> {
        self.schema.get(name)
    }

    /// What the setting is for, from its docs.
    pub fn about(self) -> Option<&'s str> {
        let own = self.member("description").and_then(Value::as_str);
        own.or_else(|| self.resolved().member("description").and_then(Value::as_str))
    }

    /// What the setting is where it is left out.
    pub fn default(self) -> Option<&'s Value> {
        self.member("default")
    }

    /// The same with references followed and an `Option` taken off.
    pub fn resolved(self) -> Self {
        let mut shape = self;
        for _ in 0..REFERENCES {
            let reference = shape.member("$ref").and_then(Value::as_str);
            let target = reference.and_then(|reference| shape.root.pointer(reference.trim_start_matches('#')));
            let only = |name| match shape.branches(name)?.as_slice() {
                [only] => Some(only.schema),
                _ => None,
            };
            match target.or_else(|| only("allOf")).or_else(|| only("anyOf")).or_else(|| only("oneOf")) {
                Some(schema) => shape = shape.with(schema),
                None => break,
            }
        }
        shape
    }

    /// The alternatives of `anyOf` and the like, less null.
    fn branches(self, name: &str) -> Option<Vec<Self>> {
        let branches = self.member(name)?.as_array()?;
        let null = |schema: &Value| schema.get("type").is_some_and(|ty| ty == "null");
        Some(branches.iter().filter(|schema| !null(schema)).map(|schema| self.with(schema)).collect())
    }

    /// The one type that it names, less null.
    fn type_name(self) -> Option<&'s str> {
        match self.member("type")? {
            Value::String(name) => Some(name),
            Value::Array(names) => {
                let mut names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
                names.next().filter(|_| names.next().is_none())
            }
            _ => None,
        }
    }

    /// The same with what it may be at most: "an integer, 1 to 64", "an array of strings, each one of "a", "b"".
    pub fn permitted(self) -> String {
        let described = self.described();
        match self.form() {
            Form::Integer { least, most } => format!("{described}, {least} to {most}"),
            Form::Number(range) => format!("{described}, {range}"),
            Form::Array { items: Some(items), .. } => match items.form() {
                Form::Choice(_) => format!("{described}, each {}", items.described()),
                _ => described,
            },
            _ => described,
        }
    }

    /// The strings that it is one of, each with what is said of it.
    pub fn explained_choices(self) -> Vec<(&'s str, &'s str)> {
        let shape = self.resolved();
        let branches = shape.branches("oneOf").unwrap_or_default();
        let choice = |branch: Self| Some((*branch.choices()?.first()?, branch.about()?));
        branches.into_iter().filter_map(choice).collect()
    }

    /// The strings that it is one of, if it is.
    fn choices(self) -> Option<Vec<&'s str>> {
        let shape = self.resolved();
        if let Some(only) = shape.member("const") {
            return Some(vec![only.as_str()?]);
        }
        if let Some(values) = shape.member("enum").and_then(Value::as_array) {
            return values.iter().filter(|value| !value.is_null()).map(Value::as_str).collect();
        }
        let branches = shape.branches("oneOf").or_else(|| shape.branches("anyOf"))?;
        let choices: Option<Vec<_>> = branches.into_iter().map(Self::choices).collect();
        choices.map(|choices| choices.concat())
    }

    /// What a value may be.
    pub fn form(self) -> Form<'s> {
        let shape = self.resolved();
        if let Some(choices) = shape.choices() {
            return Form::Choice(choices);
        }
        if let Some(branches) = shape.branches("oneOf").or_else(|| shape.branches("anyOf")) {
            return Form::OneOf(branches);
        }
        let size = |name, otherwise| shape.member(name).and_then(Value::as_u64).unwrap_or(otherwise);
        match shape.type_name() {
            Some("string") => Form::Text {
                pattern: shape.member("format").is_some_and(|format| format == SourcePattern::FORMAT),
                shortest: size("minLength", 0),
                longest: size("maxLength", u64::MAX),
            },
            Some("integer") => shape.integer(),
            Some("number") => {
                let bound = |name, otherwise| shape.member(name).and_then(Value::as_f64).unwrap_or(otherwise);
                Form::Number(Range {
                    least: bound("minimum", f64::NEG_INFINITY),
                    above: bound("exclusiveMinimum", f64::NEG_INFINITY),
                    most: bound("maximum", f64::INFINITY),
                    below: bound("exclusiveMaximum", f64::INFINITY),
                })
            }
            Some("boolean") => Form::Boolean,
            Some("array") => match shape.member("prefixItems").and_then(Value::as_array) {
                Some(items) => Form::Tuple(items.iter().map(|item| shape.with(item)).collect()),
                None => Form::Array {
                    items: shape.member("items").map(|items| shape.with(items)),
                    shortest: size("minItems", 0),
                    longest: size("maxItems", u64::MAX),
                    unique: shape.member("uniqueItems").is_some_and(|unique| unique == true),
                },
            },
            Some("object") => Form::Table,
            _ => Form::Anything,
        }
    }

    fn integer(self) -> Form<'s> {
        let bound = |name: &str| {
            let value = self.member(name)?;
            let whole = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
            whole.or_else(|| value.as_f64().map(|float| float as i128))
        };
        let (least, most) = match self.member("format").and_then(Value::as_str) {
            Some("uint8") => (0, i128::from(u8::MAX)),
            Some("uint16") => (0, i128::from(u16::MAX)),
            Some("uint32") => (0, i128::from(u32::MAX)),
            Some("uint64" | "uint" | "uint128") => (0, i128::from(u64::MAX)),
            Some("int8") => (i128::from(i8::MIN), i128::from(i8::MAX)),
            Some("int16") => (i128::from(i16::MIN), i128::from(i16::MAX)),
            Some("int32") => (i128::from(i32::MIN), i128::from(i32::MAX)),
            _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
        };
        let least = least.max(bound("minimum").unwrap_or(i128::MIN));
        let least = least.max(bound("exclusiveMinimum").map_or(i128::MIN, |bound| bound + 1));
        let most = most.min(bound("maximum").unwrap_or(i128::MAX));
        let most = most.min(bound("exclusiveMaximum").map_or(i128::MAX, |bound| bound - 1));
        Form::Integer { least, most }
    }

    fn map(self, name: &str) -> Option<&'s Map<String, Value>> {
        self.resolved().member(name)?.as_object()
    }

    /// The keys that a table of this shape lists.
    pub fn keys(self) -> impl Iterator<Item = &'s str> + Clone {
        self.map("properties").into_iter().flat_map(|properties| properties.keys().map(String::as_str))
    }

    /// The shape of what stands at a key of a table: listed, or of any key.
    pub fn key(self, name: &str) -> Option<Self> {
        let resolved = self.resolved();
        let listed = self.map("properties").and_then(|properties| properties.get(name));
        let pattern = || self.map("patternProperties").and_then(|patterns| patterns.values().next());
        let further = || resolved.member("additionalProperties").filter(|further| **further != Value::Bool(false));
        listed.or_else(pattern).or_else(further).map(|schema| resolved.with(schema))
    }

    /// The keys that a table of this shape must have.
    pub fn required(self) -> impl Iterator<Item = &'s str> {
        let required = self.resolved().member("required").and_then(Value::as_array);
        required.into_iter().flatten().filter_map(Value::as_str)
    }

    /// What a value may be, for people: "an integer".
    pub fn described(self) -> String {
        match self.form() {
            Form::Anything => "a value".to_owned(),
            Form::Choice(choices) => match choices.as_slice() {
                [only] => format!("\"{only}\""),
                choices => format!("one of {}", quoted(choices)),
            },
            Form::Text { .. } => "a string".to_owned(),
            Form::Integer { .. } => "an integer".to_owned(),
            Form::Number(_) => "a number".to_owned(),
            Form::Boolean => "true or false".to_owned(),
            Form::Array { items: Some(items), .. } => match items.form() {
                Form::Text { .. } | Form::Choice(_) => "an array of strings".to_owned(),
                Form::Integer { .. } => "an array of integers".to_owned(),
                Form::Number(_) => "an array of numbers".to_owned(),
                Form::Table | Form::OneOf(_) => "an array of tables".to_owned(),
                _ => "an array".to_owned(),
            },
            Form::Array { .. } => "an array".to_owned(),
            Form::Tuple(items) => format!("an array of {} items", items.len()),
            Form::Table => "a table".to_owned(),
            Form::OneOf(branches) => {
                let mut all: Vec<_> = branches.into_iter().map(Self::described).collect();
                all.dedup();
                all.join(" or ")
            }
        }
    }
}

/// `"a", "b"`.
pub(super) fn quoted(choices: &[&str]) -> String {
    let choices: Vec<_> = choices.iter().map(|choice| format!("\"{choice}\"")).collect();
    choices.join(", ")
}
