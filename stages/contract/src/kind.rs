//! A type-erased stage kind, as the engine uses it.
//!
//! This module defines the canonical form of settings: the typed `Spec` is serialised to JSON without the settings that equal their
//! default, at any depth. So number spelling, key order and explicit defaults make no difference, and a new setting with a default changes
//! no key.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::context::{Context, InputTree, Inputs};
use crate::error::{Problem, Result};
use crate::infer::{Advice, Inferred, InputFacts};
use crate::machine::MachineCheck;
use crate::port::Ports;
use crate::resume::Checkpoint;
use crate::stage::{Needs, SourcePattern, Stage};

/// A stage kind, as the table of kinds lists it.
#[derive(Debug, Clone)]
pub struct Kind {
    /// The value of `kind` in a manifest.
    pub name: &'static str,
    /// See [`Stage::REVISION`].
    pub revision: u32,
    /// See [`Stage::SEEDED`].
    pub seeded: bool,
    /// See [`Stage::NAMED_SOURCES`].
    pub named_sources: bool,
    /// See [`Stage::COPIES_TABLES`].
    pub copies_tables: bool,
    /// See [`Stage::TOLERANCE`].
    pub tolerance: Option<f64>,
    /// The ports of the kind that do not depend on settings.
    pub ports: Ports,
    /// JSON schema (an object) of the settings that are hashed.
    pub spec_schema: Arc<Value>,
    /// JSON schema (an object) of the settings that are not hashed.
    pub exec_schema: Arc<Value>,
    parse: Parse,
}

type Parse = fn(&Kind, &Map<String, Value>) -> Result<Box<dyn AnyStage>, Vec<Problem>>;

/// One stage of a manifest: a kind with its settings.
pub trait AnyStage: Send + Sync {
    /// Returns the hashed settings in canonical form: sorted keys, defaults left out.
    fn spec(&self) -> &Map<String, Value>;
    /// Returns the settings that are not hashed, in the same form.
    fn exec(&self) -> &Map<String, Value>;
    /// Returns the ports of this stage.
    fn ports(&self) -> Ports;
    /// Returns the files outside the store that it reads.
    fn sources(&self) -> Vec<SourcePattern>;
    /// See [`Stage::infer`].
    fn infer(&self, inputs: &InputFacts) -> Inferred;
    /// See [`Stage::observe`].
    fn observe(&self, facts: &mut InputFacts, input: &dyn Fn(&str) -> Option<InputTree>);
    /// See [`Stage::checkpoint`].
    fn checkpoint(&self, scratch: &Path) -> Option<Checkpoint>;
    /// See [`Stage::lint`].
    fn lint(&self, inputs: &Inputs) -> Vec<Advice>;
    /// See [`Stage::compare`].
    fn compare(&self, before: &Inputs, after: &Inputs) -> Option<String>;
    /// See [`Stage::check_machine`].
    fn check_machine(&self) -> Vec<MachineCheck>;
    /// See [`Stage::machine_facts`].
    fn machine_facts(&self) -> BTreeMap<String, String>;
    /// See [`Stage::needs`].
    fn needs(&self) -> Needs;
    /// Runs the stage.
    ///
    /// # Errors
    /// See [`Stage::run`].
    fn run(&self, context: &Context) -> Result<()>;
}

struct Typed<S: Stage> {
    spec: S::Spec,
    exec: S::Exec,
    canonical: Map<String, Value>,
    canonical_exec: Map<String, Value>,
    stage: PhantomData<fn() -> S>,
}

impl Kind {
    /// Creates the kind of `S`, with its types erased.
    pub fn of<S: Stage>() -> Self {
        Self {
            name: S::KIND,
            revision: S::REVISION,
            seeded: S::SEEDED,
            named_sources: S::NAMED_SOURCES,
            copies_tables: S::COPIES_TABLES,
            tolerance: S::TOLERANCE,
            ports: S::ports(),
            spec_schema: Arc::new(schemars::schema_for!(S::Spec).to_value()),
            exec_schema: Arc::new(schemars::schema_for!(S::Exec).to_value()),
            parse: parse::<S>,
        }
    }

    /// Returns the kind's docs: those of its `Spec`.
    pub fn about(&self) -> &str {
        self.spec_schema.get("description").and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the default of a setting by its path (`line_max.threshold`), hashed or not; `None` if it has none, because it is required or
    /// an entry of a map.
    pub fn default_of(&self, setting: &str) -> Option<Value> {
        let mut names = setting.split('.');
        let first = names.next()?;
        let default = |schema: &Value| schema.get("properties")?.get(first)?.get("default").cloned();
        let default = default(&self.spec_schema).or_else(|| default(&self.exec_schema))?;
        names.try_fold(default, |value, name| value.get(name).cloned())
    }

    /// Creates a stage from settings that the manifest has checked against the schemas (unknown keys are ignored here).
    ///
    /// # Errors
    /// Returns every problem that the types or [`Stage::check`] find, each with the path of its setting.
    pub fn parse(&self, settings: &Map<String, Value>) -> Result<Box<dyn AnyStage>, Vec<Problem>> {
        (self.parse)(self, settings)
    }

    /// Returns the canonical form of a serialised `Spec` or `Exec` with this schema.
    fn canonical(settings: Value, schema: &Value) -> Map<String, Value> {
        let Value::Object(settings) = settings else { return Map::new() };
        settings
            .into_iter()
            .filter_map(|(name, value)| {
                let property = schema.get("properties").and_then(|properties| properties.get(&name));
                let value = match property.and_then(|property| Some((property, property.get("default")?))) {
                    Some((property, default)) => Self::without_defaults(value, default, property, schema)?,
                    None => value,
                };
                Some((name, value))
            })
            .collect()
    }

    /// Removes settings equal to `default` from `value`; returns `None` if nothing is left. Only tables with named fields are pruned: in a
    /// map, a missing entry does not mean its default. `root` contains the definitions that `schema` may refer to.
    fn without_defaults(value: Value, default: &Value, schema: &Value, root: &Value) -> Option<Value> {
        if value == *default {
            return None;
        }
        let fields = Self::resolved(schema, root).get("properties");
        match (value, default, fields) {
            (Value::Object(values), Value::Object(defaults), Some(fields)) => {
                let pruned = values.into_iter().filter_map(|(name, value)| {
                    let value = match (defaults.get(&name), fields.get(&name)) {
                        (Some(default), Some(schema)) => Self::without_defaults(value, default, schema, root)?,
                        _ => value,
                    };
                    Some((name, value))
                });
                Some(Value::Object(pruned.collect()))
            }
            (value, ..) => Some(value),
        }
    }

    /// Returns the schema that `schema` refers to (`{"$ref": "#/$defs/Name"}`), or `schema` itself.
    fn resolved<'s>(schema: &'s Value, root: &'s Value) -> &'s Value {
        let reference = schema.get("$ref").and_then(Value::as_str);
        let target = reference.and_then(|reference| root.pointer(reference.trim_start_matches('#')));
        target.unwrap_or(schema)
    }
}

fn parse<S: Stage>(kind: &Kind, settings: &Map<String, Value>) -> Result<Box<dyn AnyStage>, Vec<Problem>> {
    let (spec, exec) = (typed::<S::Spec>(settings, &kind.spec_schema), typed::<S::Exec>(settings, &kind.exec_schema));
    let (spec, exec) = match (spec, exec) {
        (Ok(spec), Ok(exec)) => (spec, exec),
        (spec, exec) => return Err(spec.err().into_iter().chain(exec.err()).collect()),
    };
    let problems = S::check(&spec, &exec);
    if !problems.is_empty() {
        return Err(problems);
    }
    let value =
        |settings: serde_json::Result<Value>| settings.map_err(|error| vec![Problem::new("", error.to_string())]);
    let canonical = Kind::canonical(value(serde_json::to_value(&spec))?, &kind.spec_schema);
    let canonical_exec = Kind::canonical(value(serde_json::to_value(&exec))?, &kind.exec_schema);
    Ok(Box::new(Typed::<S> { spec, exec, canonical, canonical_exec, stage: PhantomData }))
}

/// Deserialises the settings that `schema` lists.
fn typed<T: DeserializeOwned>(settings: &Map<String, Value>, schema: &Value) -> Result<T, Problem> {
    let listed = |name: &String| schema.get("properties").is_some_and(|properties| properties.get(name).is_some());
    let settings: Map<_, _> =
        settings.iter().filter(|(name, _)| listed(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
    serde_path_to_error::deserialize(Value::Object(settings)).map_err(|error| {
        let path = error.path().to_string();
        Problem::new(if path == "." { "" } else { &path }, error.into_inner().to_string())
    })
}

impl<S: Stage> AnyStage for Typed<S>
where
    S::Spec: Serialize,
{
    fn spec(&self) -> &Map<String, Value> {
        &self.canonical
    }

    fn exec(&self) -> &Map<String, Value> {
        &self.canonical_exec
    }

    fn ports(&self) -> Ports {
        S::ports_of(&self.spec)
    }

    fn sources(&self) -> Vec<SourcePattern> {
        S::sources(&self.spec, &self.exec)
    }

    fn infer(&self, inputs: &InputFacts) -> Inferred {
        S::infer(&self.spec, &self.exec, inputs)
    }

    fn observe(&self, facts: &mut InputFacts, input: &dyn Fn(&str) -> Option<InputTree>) {
        S::observe(facts, input);
    }

    fn checkpoint(&self, scratch: &Path) -> Option<Checkpoint> {
        S::checkpoint(&self.spec, &self.exec, scratch)
    }

    fn lint(&self, inputs: &Inputs) -> Vec<Advice> {
        S::lint(&self.spec, &self.exec, inputs)
    }

    fn compare(&self, before: &Inputs, after: &Inputs) -> Option<String> {
        S::compare(before, after)
    }

    fn check_machine(&self) -> Vec<MachineCheck> {
        S::check_machine(&self.spec, &self.exec)
    }

    fn machine_facts(&self) -> BTreeMap<String, String> {
        S::machine_facts(&self.spec, &self.exec)
    }

    fn needs(&self) -> Needs {
        S::needs(&self.spec, &self.exec)
    }

    fn run(&self, context: &Context) -> Result<()> {
        S::run(&self.spec, &self.exec, context)
    }
}
