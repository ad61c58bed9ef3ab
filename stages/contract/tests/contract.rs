//! The canonical form of settings, and a stage run through the harness.

use contract::harness::Harness;
use contract::{Context, Kind, PortType, Ports, Problem, Result, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Writes a greeting.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct GreetingSpec {
    /// Whom to greet.
    name: String,
    /// How often.
    #[serde(default = "one")]
    times: u32,
    #[serde(default)]
    tone: Tone,
}

fn one() -> u32 {
    1
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Tone {
    loud: bool,
    warmth: f64,
}

impl Default for Tone {
    fn default() -> Self {
        Self { loud: false, warmth: 0.5 }
    }
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct GreetingExec {
    #[serde(default)]
    color: bool,
}

struct Greeting;

impl Stage for Greeting {
    type Spec = GreetingSpec;
    type Exec = GreetingExec;
    const KIND: &'static str = "greeting";
    const REVISION: u32 = 1;

    fn ports() -> Ports {
        Ports::new().output("greeting", PortType::Report, "the greeting")
    }

    fn check(spec: &GreetingSpec, _: &GreetingExec) -> Vec<Problem> {
        if spec.times == 0 { vec![Problem::new("times", "must be at least 1")] } else { Vec::new() }
    }

    fn run(spec: &GreetingSpec, _: &GreetingExec, context: &Context) -> Result<()> {
        context.outputs.tree("greeting")?.write("hello.txt", spec.name.repeat(spec.times as usize).as_bytes())
    }
}

fn canonical(settings: Value) -> Map<String, Value> {
    let Value::Object(settings) = settings else { panic!("an object") };
    Kind::of::<Greeting>().parse(&settings).map(|stage| stage.spec().clone()).unwrap()
}

#[test]
fn settings_at_their_default_are_left_out_at_any_depth() {
    let short = canonical(json!({ "name": "Ada" }));
    assert_eq!(Value::Object(short.clone()), json!({ "name": "Ada" }));
    let long = json!({ "name": "Ada", "times": 1, "tone": { "warmth": 0.5, "loud": false }, "color": true });
    assert_eq!(canonical(long), short);
    let loud = canonical(json!({ "name": "Ada", "tone": { "loud": true } }));
    assert_eq!(Value::Object(loud), json!({ "name": "Ada", "tone": { "loud": true } }));
}

#[test]
fn problems_carry_the_path_of_their_setting() {
    let settings = |value: Value| value.as_object().cloned().unwrap();
    let problems = |value| Kind::of::<Greeting>().parse(&settings(value)).err().unwrap();
    assert_eq!(problems(json!({ "name": "Ada", "times": 0 })), [Problem::new("times", "must be at least 1")]);
    assert_eq!(problems(json!({ "name": "Ada", "tone": { "warmth": "hot" } }))[0].setting, "tone.warmth");
}

#[test]
fn a_stage_runs_in_the_harness() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(folder.path());
    let one = harness.run::<Greeting>(json!({ "name": "Ada" })).unwrap();
    let two = harness.run::<Greeting>(json!({ "name": "Ada" })).unwrap();
    assert_eq!(one["greeting"].digest, two["greeting"].digest);
    assert_eq!(std::fs::read(&one["greeting"].files[0].location).unwrap(), b"Ada");
}
