//! Settings that several stage kinds share, and checks of settings.

use std::collections::BTreeSet;
use std::fmt::Display;

use contract::{Problem, Progress};
use sandbox::Layer;
use schemars::{Schema, SchemaGenerator, json_schema};

/// The default interpreter.
pub const PYTHON: &str = "python3";

/// Returns the schema of a set of the sandbox's layers.
pub fn layers(_: &mut SchemaGenerator) -> Schema {
    let names = Layer::ALL.map(Layer::name);
    json_schema!({ "type": "array", "items": { "type": "string", "enum": names }, "uniqueItems": true, "maxItems": names.len() })
}

/// Warns about layers of the sandbox that are switched off.
pub fn warn_without(progress: &Progress, layers: &BTreeSet<Layer>) {
    if !layers.is_empty() {
        let off: Vec<_> = layers.iter().map(Layer::to_string).collect();
        progress.warn(format!("generated programs run without layers of the sandbox: {}", off.join(", ")));
    }
}

/// Finds the first repeated value of the list setting `name`.
pub fn repeated<T: PartialEq + Display>(name: &str, values: &[T]) -> Option<Problem> {
    let place = (1..values.len()).find(|place| values[..*place].contains(&values[*place]))?;
    Some(Problem::new(format!("{name}[{place}]"), format!("{} is listed twice", values[place])))
}
