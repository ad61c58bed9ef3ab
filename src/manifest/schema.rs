//! The JSON schema of a manifest, generated from the kinds, for editors: `#:schema ./schema.json` at the head of a
//! manifest makes an editor complete keys and show their docs.
//!
//! Validators report the exact problem of a value that must match one schema, but only "not valid under any of the
//! given schemas" if there are several. So alternatives are merged into one schema wherever TOML allows it:
//!
//! | Rust | generated schema | here |
//! |---|---|---|
//! | a stage of any kind | | `if` its `kind` is `train`, `then` the schema of that kind |
//! | an `Option` | `anyOf` with null | the schema of its value: TOML has no null |
//! | a table with named keys | any further key | no further key, as in `validate` |
//! | an `enum` with docs | `oneOf` of constants | one `enum`, the docs in `enumDescriptions` |

use contract::Kind;
use serde_json::{Map, Value, json};

use super::section::{ExecSettings, RunSettings};
use super::stage::RESERVED;
use crate::stage_name::StageName;

/// Returns the schema (draft 2020-12) of a manifest whose stages have the given kinds.
pub fn schema(kinds: &[Kind]) -> Value {
    let mut definitions = Map::new();
    let run = adopt("run", schemars::schema_for!(RunSettings).to_value(), &mut definitions);
    let exec = adopt("exec", schemars::schema_for!(ExecSettings).to_value(), &mut definitions);
    let mut stages: Vec<Value> = Vec::new();
    for kind in kinds {
        let stage = stage(kind, &mut definitions);
        let name = format!("stage.{}", kind.name);
        stages.push(json!({
            "if": { "properties": { "kind": { "const": kind.name } }, "required": ["kind"] },
            "then": { "$ref": format!("#/$defs/{name}") },
        }));
        definitions.insert(name, stage);
    }
    let names: Vec<_> = kinds.iter().map(|kind| kind.name).collect();
    let stage = json!({
        "description": "A stage. Without a kind, it overrides settings of a stage of the extended manifest.",
        "type": "object",
        "properties": { "kind": { "description": "What the stage does.", "type": "string", "enum": names } },
        "allOf": stages,
    });
    definitions.insert("stage".to_owned(), stage);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pipeline manifest",
        "description": "Named stages; each names its kind, its inputs (other stages) and its settings.",
        "type": "object",
        "properties": {
            "extends": {
                "description": "The manifest that this one overrides; a relative path is resolved against this file's directory.",
                "type": "string",
            },
            "run": run,
            "exec": exec,
            "stages": {
                "description": "The stages by name.",
                "type": "object",
                "propertyNames": { "pattern": StageName::PATTERN },
                "additionalProperties": { "$ref": "#/$defs/stage" },
            },
        },
        "additionalProperties": false,
        "$defs": definitions,
    })
}

fn stage(kind: &Kind, definitions: &mut Map<String, Value>) -> Value {
    let edge = |about: &str| json!({ "description": about, "type": "string" });
    let mut properties = Map::new();
    properties.insert("kind".to_owned(), json!({ "const": kind.name }));
    if let Some(first) = kind.ports.inputs.first() {
        let about =
            format!("\"stage\" or \"stage.output\" for the input '{}' ({}): {}", first.name, first.ty, first.about);
        properties.insert("input".to_owned(), edge(&about));
    }
    if !kind.ports.inputs.is_empty() || kind.ports.open {
        let ports: Map<_, _> = kind
            .ports
            .inputs
            .iter()
            .map(|port| (port.name.clone().into_owned(), edge(&format!("{}: {}", port.ty, port.about))))
            .collect();
        let further = if kind.ports.open { json!({ "type": "string" }) } else { json!(false) };
        let inputs = json!({
            "description": "\"stage\" or \"stage.output\" for each input.",
            "type": "object",
            "properties": ports,
            "additionalProperties": further,
        });
        properties.insert("inputs".to_owned(), inputs);
    }
    let mut required = vec![json!("kind")];
    for (part, schema) in [("spec", &kind.spec_schema), ("exec", &kind.exec_schema)] {
        let schema = adopt(&format!("{}.{part}", kind.name), Value::clone(schema), definitions);
        if let Some(settings) = schema.get("properties").and_then(Value::as_object) {
            let settings = settings.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str()));
            properties.extend(settings.map(|(name, setting)| (name.clone(), setting.clone())));
        }
        if part == "spec" {
            required.extend(schema.get("required").and_then(Value::as_array).into_iter().flatten().cloned());
        }
    }
    json!({
        "title": kind.name,
        "description": kind.about(),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// Moves a schema's definitions to those of the manifest, each prefixed by `owner` to avoid collisions.
fn adopt(owner: &str, mut schema: Value, definitions: &mut Map<String, Value>) -> Value {
    rename(owner, &mut schema);
    unite(&mut schema);
    if let Value::Object(schema) = &mut schema {
        schema.remove("$schema");
        schema.remove("title");
        if let Some(Value::Object(own)) = schema.remove("$defs") {
            definitions.extend(own.into_iter().map(|(name, definition)| (format!("{owner}.{name}"), definition)));
        }
    }
    schema
}

fn rename(owner: &str, schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(reference) if name == "$ref" => {
                        if let Some(definition) = reference.strip_prefix("#/$defs/") {
                            *reference = format!("#/$defs/{owner}.{definition}");
                        }
                    }
                    member => rename(owner, member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(owner, item)),
        _ => {}
    }
}

/// Merges alternatives into one schema, at any depth, where TOML allows it (module docs).
fn unite(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(unite);
            without_null(members);
            let further = ["additionalProperties", "patternProperties"];
            if members.get("type").is_some_and(|ty| ty == "object")
                && members.contains_key("properties")
                && !further.iter().any(|name| members.contains_key(*name))
            {
                members.insert("additionalProperties".to_owned(), json!(false));
            }
            if let Some([values, docs]) = members.get("oneOf").and_then(constants) {
                members.remove("oneOf");
                members.insert("type".to_owned(), json!("string"));
                members.insert("enum".to_owned(), Value::Array(values));
                members.insert("enumDescriptions".to_owned(), Value::Array(docs));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(unite),
        _ => {}
    }
}

/// Removes null from the allowed values.
fn without_null(schema: &mut Map<String, Value>) {
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|ty| ty != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(branches)) = schema.get_mut("anyOf") {
        branches.retain(|branch| branch.get("type").is_none_or(|ty| ty != "null"));
        if let [Value::Object(only)] = branches.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            for (name, member) in only {
                schema.entry(name).or_insert(member);
            }
        }
    }
}

/// Returns the string constants of all branches, with their docs.
fn constants(branches: &Value) -> Option<[Vec<Value>; 2]> {
    let mut found = [Vec::new(), Vec::new()];
    for branch in branches.as_array()? {
        let docs = branch.get("description").cloned().unwrap_or_else(|| json!(""));
        let values = match branch.get("enum") {
            Some(values) => values.as_array()?.iter().collect(),
            None => vec![branch.get("const")?],
        };
        for value in values.into_iter().filter(|value| value.is_string()) {
            found[0].push(value.clone());
            found[1].push(docs.clone());
        }
    }
    Some(found)
}
