//! A plan followed by a run with nothing touched makes the same decisions, and a store with a history gives the bytes
//! that an empty one gives: over random graphs and random edits.
//!
//! Proptest prints the smallest failing history; `PROPTEST_CASES=1000` looks longer.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use contract::{Cancel, Class, Context, Device, Kind, PortType, Ports, Result, Stage};
use pipeline::events::{Event, Renderer, Renderers, Stamped};
use pipeline::manifest::Overrides;
use pipeline::plan::{Decider, Plan, State};
use pipeline::run::{Budget, Options};
use pipeline::store::Store;
use proptest::collection::vec;
use proptest::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Adds its number to those of its inputs, modulo 3: an edit often leaves the output as it was.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Sum {
    #[serde(default)]
    number: u64,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Nothing {}

struct Add;

impl Stage for Add {
    type Spec = Sum;
    type Exec = Nothing;
    const KIND: &'static str = "add";
    const REVISION: u32 = 1;
    const CLASS: Class = Class::Global;

    fn ports() -> Ports {
        let ports = Ports::new().output("sum", PortType::Files, "the sum, modulo 3");
        (0..4).fold(ports, |ports, port| ports.optional_input(["a", "b", "c", "d"][port], PortType::Files, "a number"))
    }

    fn run(spec: &Sum, _: &Nothing, context: &Context) -> Result<()> {
        let mut sum = spec.number;
        for (_, tree) in context.inputs.iter() {
            let text = std::fs::read_to_string(&tree.required("sum")?.location)?;
            sum += text.parse::<u64>().unwrap();
        }
        context.outputs.tree("sum")?.write("sum", (sum % 3).to_string().as_bytes())
    }
}

/// Stage `i` reads some of the stages before it and adds a number.
#[derive(Debug, Clone)]
struct Node {
    number: u64,
    inputs: Vec<prop::sample::Index>,
}

#[derive(Debug, Clone)]
enum Edit {
    Number(prop::sample::Index, u64),
    Forget(prop::sample::Index),
    Force(prop::sample::Index),
    Damage(prop::sample::Index),
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let node = (0..4u64, vec(any::<prop::sample::Index>(), 0..4)).prop_map(|(number, inputs)| Node { number, inputs });
    vec(node, 1..7)
}

fn edit() -> impl Strategy<Value = Edit> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (index(), 0..4u64).prop_map(|(stage, number)| Edit::Number(stage, number)),
        1 => index().prop_map(Edit::Forget),
        1 => index().prop_map(Edit::Force),
        1 => index().prop_map(Edit::Damage),
    ]
}

fn manifest(nodes: &[Node]) -> String {
    let mut text = "[run]\nname = \"random\"\n".to_owned();
    for (stage, node) in nodes.iter().enumerate() {
        text += &format!("[stages.s{stage}]\nkind = \"add\"\nnumber = {}\n", node.number);
        if stage > 0 {
            let from: BTreeSet<_> = node.inputs.iter().map(|input| input.index(stage)).collect();
            let edges = from.iter().zip(["a", "b", "c", "d"]).map(|(from, port)| format!("{port} = \"s{from}\""));
            text += &format!("inputs = {{ {} }}\n", edges.collect::<Vec<_>>().join(", "));
        }
    }
    text
}

#[derive(Clone, Default)]
struct Ran(Arc<Mutex<BTreeSet<String>>>);

impl Renderer for Ran {
    fn event(&mut self, event: &Stamped) -> io::Result<()> {
        if let Event::StageFinished { stage, .. } = &event.event {
            self.0.lock().unwrap().insert(stage.clone());
        }
        Ok(())
    }
}

/// Plans and runs the manifest; the plan's states, the stages that ran, and what each stage's output holds.
fn plan_and_run(
    file: &Path,
    cache: &Path,
    forced: &[usize],
) -> (BTreeMap<String, State>, BTreeSet<String>, BTreeMap<String, contract::Digest>) {
    let (manifest, graph) = pipeline::graph::load(file, &Overrides::default(), &[Kind::of::<Add>()]).unwrap();
    let forced: BTreeSet<_> = forced.iter().map(|stage| format!("s{stage}").parse().unwrap()).collect();
    let wanted: BTreeSet<_> = manifest.stages.keys().cloned().collect();
    let plan = {
        let store = Store::open_read_only(cache).unwrap();
        let decider = Decider::new(&manifest, &store, &forced);
        Plan::new(&decider, &graph, &wanted, |_| true).unwrap()
    };
    let states = plan.stages.iter().map(|stage| (stage.name.to_string(), stage.state)).collect();
    let store = Store::open(cache).unwrap();
    let ran = Ran::default();
    let renderers = Renderers::with(vec![Box::new(ran.clone())]);
    let budget = Budget { threads: 2, memory: 1 << 30, jobs: 2, device: Device::Cpu };
    let options = Options { budget, fail_fast: false, wanted, cancel: Cancel::default(), events: renderers.sender() };
    let decider = Decider::new(&manifest, &store, &forced);
    let summary = pipeline::run::run(decider, &graph, &options).unwrap().summary;
    renderers.finish();
    assert_eq!((summary.failed, summary.skipped, summary.interrupted), (0, 0, false));
    let output = |name: &pipeline::manifest::StageName| {
        let last = store.last_build("random", name.as_str()).unwrap().unwrap();
        (name.to_string(), last.outputs["sum"])
    };
    let outputs = manifest.stages.keys().map(output).collect();
    let ran = ran.0.lock().unwrap().clone();
    (states, ran, outputs)
}

/// Removes the record of a stage's last build, or its only blob.
fn spoil(cache: &Path, stage: usize, blob: bool) {
    let store = Store::open(cache).unwrap();
    let last = store.last_build("random", &format!("s{stage}")).unwrap().unwrap();
    if blob {
        let tree = store.tree(last.outputs["sum"]).unwrap();
        std::fs::remove_file(&tree.files[0].location).unwrap();
    } else {
        std::fs::remove_dir_all(store.layout().records(last.key)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_and_a_run_agree_and_history_makes_no_difference(mut nodes in nodes(), edits in vec(edit(), 1..6)) {
        let folder = tempfile::tempdir().unwrap();
        let (file, cache) = (folder.path().join("random.toml"), folder.path().join("cache"));
        std::fs::write(&file, manifest(&nodes)).unwrap();
        let (states, ran, _) = plan_and_run(&file, &cache, &[]);
        prop_assert!(states.values().all(|state| *state != State::Cached));
        for (stage, state) in &states {
            prop_assert!(*state != State::WillRun || ran.contains(stage), "{stage} was to run");
        }
        for (number, edit) in edits.into_iter().enumerate() {
            let mut forced = Vec::new();
            // Stages may share a blob: one that is rebuilt mends it for the others.
            let damaged = matches!(edit, Edit::Damage(_));
            match edit {
                Edit::Number(stage, number) => {
                    let stage = stage.index(nodes.len());
                    nodes[stage].number = number;
                }
                Edit::Force(stage) => forced.push(stage.index(nodes.len())),
                Edit::Forget(stage) => spoil(&cache, stage.index(nodes.len()), false),
                Edit::Damage(stage) => spoil(&cache, stage.index(nodes.len()), true),
            }
            std::fs::write(&file, manifest(&nodes)).unwrap();
            let (states, ran, outputs) = plan_and_run(&file, &cache, &forced);
            for (stage, state) in &states {
                match state {
                    State::Cached => prop_assert!(!ran.contains(stage), "{stage} was cached and ran"),
                    State::WillRun => {
                        prop_assert!(damaged || ran.contains(stage), "{stage} was to run");
                    }
                    State::MayRun => {}
                }
            }
            let clean = folder.path().join(format!("clean{number}"));
            prop_assert_eq!(plan_and_run(&file, &clean, &[]).2, outputs, "an empty store gives other bytes");
            let (states, ran, _) = plan_and_run(&file, &cache, &[]);
            prop_assert!(states.values().all(|state| *state == State::Cached), "{states:?}");
            prop_assert!(ran.is_empty());
        }
    }
}
