//! The numbers that a JSON schema lists, read without the program's own reader of schemas.

use serde_json::Value;

/// A setting that is a number.
#[derive(Debug, Clone)]
pub struct Number {
    /// `batch`, `line_max.threshold`, `prompts[].max_length`.
    pub path: String,
    pub integer: bool,
    pub least: Option<Bound>,
    pub most: Option<Bound>,
}

#[derive(Debug, Clone, Copy)]
pub struct Bound {
    value: f64,
    whole: Option<i128>,
    open: bool,
}

/// Every number of a schema, at any depth.
pub fn numbers(schema: &Value) -> Vec<Number> {
    let mut found = Vec::new();
    collect(schema, schema, "", &mut found);
    found
}

fn collect(root: &Value, schema: &Value, path: &str, found: &mut Vec<Number>) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    let is = |ty: &str| match &schema["type"] {
        Value::Array(types) => types.iter().any(|one| one == ty),
        one => one == ty,
    };
    if is("integer") || is("number") {
        let bound = |closed: &str, open: &str| {
            let of = |value: &Value, open| {
                let whole = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
                Some(Bound { value: value.as_f64()?, whole, open })
            };
            of(&schema[open], true).or_else(|| of(&schema[closed], false))
        };
        let (least, most) = (bound("minimum", "exclusiveMinimum"), bound("maximum", "exclusiveMaximum"));
        found.push(Number { path: path.to_owned(), integer: is("integer"), least, most });
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect(root, property, &path, found);
    }
    if schema["items"].is_object() {
        collect(root, &schema["items"], &format!("{path}[]"), found);
    }
    for branch in schema["anyOf"].as_array().into_iter().flatten() {
        collect(root, branch, path, found);
    }
}

impl Number {
    /// Whether a value, as TOML, is within the bounds and of the type.
    pub fn takes(&self, value: &str) -> bool {
        let (Some(least), Some(most)) = (self.least, self.most) else { return true };
        if self.integer {
            let Ok(whole) = value.parse::<i128>() else { return false };
            let (least, most) = (least.whole.unwrap(), most.whole.unwrap());
            return (least..=most).contains(&whole);
        }
        let number: f64 = value.parse().unwrap();
        let above = if least.open { number > least.value } else { number >= least.value };
        let below = if most.open { number < most.value } else { number <= most.value };
        number.is_finite() && above && below
    }

    /// A bound as messages show it.
    pub fn shown(&self, bound: Option<Bound>) -> String {
        let bound = bound.unwrap();
        bound.whole.map_or_else(|| bound.value.to_string(), |whole| whole.to_string())
    }

    /// The values at the bounds, and those next to them on both sides.
    pub fn around(&self) -> Vec<String> {
        let bounds = [self.least, self.most].into_iter().flatten();
        let near = |bound: Bound| match bound.whole.filter(|_| self.integer) {
            Some(whole) => [whole - 1, whole, whole + 1].map(|value| value.to_string()).to_vec(),
            None => {
                let value = bound.value;
                [value.next_down(), value, value.next_up()].map(|value| format!("{value:e}")).to_vec()
            }
        };
        bounds.flat_map(near).collect()
    }

    /// Those of them that are within the bounds.
    pub fn inside(&self) -> Vec<String> {
        self.around().into_iter().filter(|value| self.takes(value)).collect()
    }
}
