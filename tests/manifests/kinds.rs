//! Toy stage kinds whose settings have every form that a setting may have.

use std::collections::BTreeMap;

use contract::{Context, Kind, PortType, Ports, Problem, Result, SourcePattern, Stage, setting_path};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub fn kinds() -> Vec<Kind> {
    vec![
        Kind::of::<Import>(),
        Kind::of::<Split>(),
        Kind::of::<Train>(),
        Kind::of::<Shell>(),
        Kind::of::<Judge>(),
        Kind::of::<Copies>(),
    ]
}

/// Reads documents.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct ImportSpec {
    /// Licenses that may pass.
    #[serde(default)]
    allow: Vec<String>,
    /// Rules by name.
    #[serde(default)]
    rules: BTreeMap<String, Rule>,
    /// Longest line that passes.
    #[serde(default)]
    line_max: Option<u32>,
}

/// A rule that a document must pass.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// From 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    threshold: f64,
    #[serde(default)]
    enabled: bool,
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct ImportExec {
    /// Files to read.
    #[serde(default)]
    source: SourcePattern,
}

pub struct Import;

impl Stage for Import {
    type Spec = ImportSpec;
    type Exec = ImportExec;
    const KIND: &'static str = "import";
    const REVISION: u32 = 1;

    fn ports() -> Ports {
        Ports::new().output("documents", PortType::Documents, "documents").output("rejects", PortType::Rows, "rejects")
    }

    fn check(spec: &ImportSpec, _: &ImportExec) -> Vec<Problem> {
        let unknown = spec.allow.iter().enumerate().filter(|(_, license)| !["mit", "isc"].contains(&license.as_str()));
        unknown
            .map(|(index, license)| {
                Problem::new(format!("allow[{index}]"), format!("unknown license '{license}'")).hint("mit or isc")
            })
            .collect()
    }

    fn sources(_: &ImportSpec, exec: &ImportExec) -> Vec<SourcePattern> {
        vec![exec.source.clone()]
    }

    fn run(_: &ImportSpec, _: &ImportExec, _: &Context) -> Result<()> {
        Ok(())
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
pub struct NoSettings {}

/// Cuts documents in two.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct SplitSpec {
    /// What stays together.
    #[serde(default)]
    by: By,
    /// Names of the parts.
    #[serde(default)]
    #[schemars(extend("uniqueItems" = true))]
    parts: Vec<String>,
    /// How to draw.
    #[serde(default)]
    draw: Option<Draw>,
}

#[derive(Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
enum By {
    /// No repository on both sides.
    #[default]
    Repository,
    /// The last shard.
    Shard,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Draw {
    method: Method,
    #[serde(default)]
    share: Option<f64>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Method {
    Share,
    Count,
}

pub struct Split;

impl Stage for Split {
    type Spec = SplitSpec;
    type Exec = NoSettings;
    const KIND: &'static str = "split";
    const REVISION: u32 = 1;

    fn ports() -> Ports {
        let ports = Ports::new().input("documents", PortType::Documents, "documents");
        ports.output("train", PortType::Documents, "training").output("valid", PortType::Documents, "validation")
    }

    fn run(_: &SplitSpec, _: &NoSettings, _: &Context) -> Result<()> {
        Ok(())
    }
}

/// Trains a model.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct TrainSpec {
    /// Optimiser steps.
    steps: u64,
    /// Step size.
    #[serde(default = "learning_rate")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    learning_rate: f64,
    /// Step size at the end.
    #[serde(default)]
    min_learning_rate: f64,
    /// Steps to the full step size.
    #[serde(default = "warmup")]
    warmup: u64,
    /// How steps are taken.
    optimiser: Optimiser,
    /// What happens when.
    #[serde(default)]
    schedule: Vec<Milestone>,
    /// Adam's two decays.
    #[serde(default)]
    #[schemars(length(min = 2, max = 2))]
    betas: Option<Vec<f64>>,
    /// The sizes of the model.
    #[serde(default)]
    size: Option<Size>,
}

fn learning_rate() -> f64 {
    5e-4
}

fn warmup() -> u64 {
    1
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Optimiser {
    name: String,
    #[serde(default)]
    beta: f64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Milestone {
    at: u16,
    rate: f64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Size {
    free: FreeSize,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct FreeSize {
    layers: u32,
    width: u32,
}

/// Settings that change nothing.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct TrainExec {
    /// Steps between two lines of log.
    #[serde(default)]
    log_every: u32,
}

pub struct Train;

impl Stage for Train {
    type Spec = TrainSpec;
    type Exec = TrainExec;
    const KIND: &'static str = "train";
    const REVISION: u32 = 1;
    const SEEDED: bool = true;

    fn ports() -> Ports {
        let ports = Ports::new().input("train", PortType::Documents, "training").optional_input(
            "valid",
            PortType::Documents,
            "validation",
        );
        ports.output("model", PortType::Model, "model").output("report", PortType::Report, "report")
    }

    fn check(spec: &TrainSpec, exec: &TrainExec) -> Vec<Problem> {
        let rules = [
            (spec.min_learning_rate <= spec.learning_rate, "min_learning_rate", Some("learning_rate")),
            (spec.warmup <= spec.steps, "warmup", Some("steps")),
            (exec.log_every != 7, "log_every", None),
        ];
        let broken = rules.into_iter().filter(|(holds, ..)| !holds);
        broken
            .map(|(_, setting, most)| match most {
                Some(most) => Problem::new(setting, format!("must be at most {most}")).depends_on(most),
                None => Problem::new(setting, "must not be 7"),
            })
            .collect()
    }

    fn run(_: &TrainSpec, _: &TrainExec, _: &Context) -> Result<()> {
        Ok(())
    }
}

/// Runs a program.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct ShellSpec {
    /// The program and its arguments.
    #[schemars(length(min = 1, max = 5))]
    arguments: Vec<String>,
    /// What it writes, by name.
    #[serde(default)]
    outputs: BTreeMap<String, PortType>,
    /// Variables that it sees.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// Whatever one wants to remember.
    #[serde(default)]
    notes: BTreeMap<String, serde_json::Value>,
    /// A short word.
    #[serde(default)]
    #[schemars(length(min = 2, max = 8))]
    word: Option<String>,
}

pub struct Shell;

impl Stage for Shell {
    type Spec = ShellSpec;
    type Exec = NoSettings;
    const KIND: &'static str = "shell";
    const REVISION: u32 = 1;

    fn ports() -> Ports {
        Ports { open: true, ..Ports::default() }
    }

    fn ports_of(spec: &ShellSpec) -> Ports {
        spec.outputs.iter().fold(Self::ports(), |ports, (name, ty)| {
            ports.output(name.clone(), *ty, "").declared_by(setting_path("outputs", name))
        })
    }

    fn check(spec: &ShellSpec, _: &NoSettings) -> Vec<Problem> {
        let wrong = spec.environment.keys().filter(|name| name.contains('='));
        wrong.map(|name| Problem::new(setting_path("environment", name), "invalid variable name")).collect()
    }

    fn run(_: &ShellSpec, _: &NoSettings, _: &Context) -> Result<()> {
        Ok(())
    }
}

/// Judges a model and its report.
pub struct Judge;

impl Stage for Judge {
    type Spec = NoSettings;
    type Exec = NoSettings;
    const KIND: &'static str = "judge";
    const REVISION: u32 = 1;

    fn ports() -> Ports {
        let ports = Ports::new().input("model", PortType::Model, "model").input("report", PortType::Report, "report");
        ports.output("report", PortType::Report, "report")
    }

    fn run(_: &NoSettings, _: &NoSettings, _: &Context) -> Result<()> {
        Ok(())
    }
}

/// Gives what it takes under further names.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct CopiesSpec {
    /// Names of further outputs.
    #[serde(default)]
    also: Vec<String>,
}

pub struct Copies;

impl Stage for Copies {
    type Spec = CopiesSpec;
    type Exec = NoSettings;
    const KIND: &'static str = "copies";
    const REVISION: u32 = 1;

    fn ports() -> Ports {
        let ports = Ports::new().input("documents", PortType::Documents, "documents");
        ports.output("documents", PortType::Documents, "the same")
    }

    fn ports_of(spec: &CopiesSpec) -> Ports {
        spec.also.iter().enumerate().fold(Self::ports(), |ports, (index, name)| {
            ports.output(name.clone(), PortType::Documents, "the same").declared_by(format!("also[{index}]"))
        })
    }

    fn run(_: &CopiesSpec, _: &NoSettings, _: &Context) -> Result<()> {
        Ok(())
    }
}
