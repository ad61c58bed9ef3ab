//! A small pipeline whose stages add numbers: a diamond, a stage with two files and folders, one with two outputs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use contract::{Cancel, Context, Device, Digest, Kind, PortType, Ports, Result, Stage};
use pipeline::manifest::Overrides;
use pipeline::plan::{Decider, StageOutputs};
use pipeline::run::{Budget, Options, RecordedRun};
use pipeline::store::Store;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const MANIFEST: &str = r#"
[run]
name = "sums"
[stages.a]
kind = "sum"
number = 1
[stages.b]
kind = "sum"
number = 2
inputs = { one = "a" }
[stages.c]
kind = "sum"
number = 3
inputs = { one = "a.log" }
[stages.d]
kind = "sum"
number = 4
inputs = { one = "b", two = "c" }
"#;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Spec {
    number: u64,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Nothing {}

/// Writes the sum of its number and of what it reads, a longer file made of it, and a log.
struct Sum;

impl Stage for Sum {
    type Spec = Spec;
    type Exec = Nothing;
    const KIND: &'static str = "sum";
    const REVISION: u32 = 1;

    fn ports() -> Ports {
        let ports =
            Ports::new().optional_input("one", PortType::Files, "a").optional_input("two", PortType::Files, "b");
        ports.output("sum", PortType::Files, "the sum").output("log", PortType::Files, "what was done")
    }

    fn run(spec: &Spec, _: &Nothing, context: &Context) -> Result<()> {
        let mut sum = spec.number;
        for (_, tree) in context.inputs.iter() {
            sum += tree.files.iter().map(|file| file.size).sum::<u64>();
        }
        let output = context.outputs.tree("sum")?;
        output.write("sum", sum.to_string().as_bytes())?;
        output.write("folder/long", sum.to_string().repeat(20_000).as_bytes())?;
        context.outputs.tree("log")?.write("log", format!("added up to {sum}").as_bytes())
    }
}

/// What a run gave.
pub struct Run {
    /// The tree of each stage's first output.
    pub outputs: BTreeMap<String, Digest>,
    pub ran: usize,
    pub cached: usize,
}

/// Runs the pipeline in a folder, as the command `run` does; every stage again where `force`.
pub fn run(folder: &Path, force: bool) -> Run {
    run_with(folder, 1, force)
}

/// The same where the first stage begins with another number.
pub fn run_with(folder: &Path, number: u64, force: bool) -> Run {
    let file = folder.join("sums.toml");
    std::fs::write(&file, MANIFEST.replacen("number = 1", &format!("number = {number}"), 1)).unwrap();
    let manifest = pipeline::manifest::load(&file, &Overrides::default(), &[Kind::of::<Sum>()]).unwrap();
    let store = Store::open(&folder.join("cache")).unwrap();
    let wanted: BTreeSet<_> = manifest.stages.keys().cloned().collect();
    let forced = if force { wanted.clone() } else { BTreeSet::new() };
    let device = Device::Cpu;
    let budget = Budget { threads: 2, memory: 1 << 30, jobs: 2, device, ..Budget::of_this_machine() };
    let options =
        Options { budget, fail_fast: false, wanted, provided: StageOutputs::new(), cancel: Cancel::default() };
    let decider = Decider::new(&manifest, &store, &forced);
    let RecordedRun { outcome, written, .. } =
        RecordedRun::execute(decider, &manifest.graph, &options, Vec::new()).unwrap();
    written.unwrap();
    assert_eq!(outcome.summary.failed + outcome.summary.skipped, 0);
    let sum = |(name, stage): (&pipeline::manifest::StageName, &pipeline::run::StageOutcome)| {
        (name.to_string(), stage.record.outputs["sum"])
    };
    Run { outputs: outcome.stages.iter().map(sum).collect(), ran: outcome.summary.ran, cached: outcome.summary.cached }
}
