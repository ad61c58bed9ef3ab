//! The JSON schema of a manifest, generated from the kinds, for editors: `#:schema ./schema.json` at the head of a
//! manifest makes an editor complete keys and show their docs.

use contract::Kind;
use serde_json::{Map, Value, json};

use super::name::StageName;
use super::section::{ExecSettings, RunSettings};
use super::stage::RESERVED;

/// The schema (draft 2020-12) of a manifest whose stages are of these kinds.
pub fn schema(kinds: &[Kind]) -> Value {
    let mut definitions = Map::new();
    let run = adopt("run", schemars::schema_for!(RunSettings).to_value(), &mut definitions);
    let exec = adopt("exec", schemars::schema_for!(ExecSettings).to_value(), &mut definitions);
    let mut stages: Vec<Value> = Vec::new();
    for kind in kinds {
        let stage = stage(kind, &mut definitions);
        let name = format!("stage.{}", kind.name);
        stages.push(json!({ "$ref": format!("#/$defs/{name}") }));
        definitions.insert(name, stage);
    }
    stages.push(json!({
        "title": "what a manifest changes in a stage of the one that it extends",
        "type": "object",
        "not": { "required": ["kind"] },
    }));
    definitions.insert("stage".to_owned(), json!({ "oneOf": stages }));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pipeline manifest",
        "description": "Named stages; each names its kind, its inputs (other stages) and its settings.",
        "type": "object",
        "properties": {
            "extends": {
                "description": "The manifest that this one is laid over; a relative path starts at this file.",
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

/// Moves a schema's definitions to those of the manifest, each under `owner`, so that no two clash.
fn adopt(owner: &str, mut schema: Value, definitions: &mut Map<String, Value>) -> Value {
    rename(owner, &mut schema);
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
