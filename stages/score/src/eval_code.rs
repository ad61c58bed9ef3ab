//! The stage kind `eval-code`: pass@k of results with intervals, and the comparison with a baseline.
//!
//! It runs no program: a changed k or interval only measures the results of `run-code` again, in about a second. [`crate::run_code`] describes
//! what the key of each stage covers.

use contract::figures::counted;
use contract::{
    ConflictText, Context, Fact, Inferred, InputFacts, Inputs, Needs, PortType, Ports, Problem, Result, Stage,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bootstrap::Bootstrap;
use crate::report::{Report, percent};
use crate::results::Results;
use crate::scores::Measure;
use crate::settings::repeated;

/// The stage kind `eval-code`.
#[derive(Debug)]
pub struct EvalCode;

/// Measures pass@k from the results of samples, with confidence intervals over problems, and compares it with that of a baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Spec {
    /// The values of k for pass@k. By default: those of 1, 10 and 100 that the number of samples allows.
    #[schemars(length(max = 32), inner(range(min = 1, max = 1_000_000)))]
    pub ks: Vec<u64>,
    /// The confidence level of the intervals: the share of the bootstrap's means within an interval.
    #[schemars(range(min = 0.5, max = 0.999))]
    pub level: f64,
    /// The number of draws of the bootstrap.
    #[schemars(range(min = 100, max = 1_000_000))]
    pub draws: usize,
}

impl Default for Spec {
    fn default() -> Self {
        Self { ks: Vec::new(), level: 0.95, draws: 10_000 }
    }
}

impl Spec {
    /// Returns the settings of the measurement, with the seed of the bootstrap.
    pub fn measure(&self, seed: u64) -> Measure {
        Measure { ks: self.ks.clone(), bootstrap: Bootstrap { draws: self.draws, level: self.level, seed } }
    }
}

/// All settings change the output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exec {}

impl Stage for EvalCode {
    type Spec = Spec;
    type Exec = Exec;
    const KIND: &'static str = "eval-code";
    const REVISION: u32 = 5;
    /// For the draws of the bootstrap.
    const SEEDED: bool = true;

    fn ports() -> Ports {
        Ports::new()
            .input("results", PortType::Report, "the result of each sample: the output of run-code")
            .optional_input("baseline", PortType::Report, "results for the same problems, to compare with")
            .output("report", PortType::Report, "report.json, report.md, report.html and pass-at-k.svg")
    }

    fn check(spec: &Spec, _: &Exec) -> Vec<Problem> {
        repeated("ks", &spec.ks).into_iter().collect()
    }

    fn infer(spec: &Spec, _: &Exec, inputs: &InputFacts) -> Inferred {
        let mut inferred = Inferred::default();
        for port in ["results", "baseline"] {
            let samples = inputs.port(port).samples_per_problem;
            for (place, k) in spec.ks.iter().enumerate() {
                let k = Fact::own(*k, format!("ks[{place}]"));
                inferred.compare(
                    &k.origin.setting,
                    Some(&k),
                    samples.as_ref(),
                    |k, samples| k.value <= samples.value,
                    |k, samples| ConflictText {
                        message: format!("pass@{k} needs at least {} of each problem", counted(*k, "sample")),
                        label: format!("{} of each problem", counted(*samples, "sample")),
                        hint: format!("generate {k} or more samples of each problem, or set k to at most {samples}"),
                    },
                );
            }
        }
        inferred
    }

    fn compare(before: &Inputs, after: &Inputs) -> Option<String> {
        let value = |inputs: &Inputs| {
            let file = inputs.get("report")?.file("report.json")?;
            let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&file.location).ok()?).ok()?;
            let best = report.get("best")?.get(0)?;
            Some((best.get("k")?.as_u64()?, best.get("pass_at_k")?.as_f64()?))
        };
        let ((k, old), (other, new)) = (value(before)?, value(after)?);
        (k == other && old != new).then(|| format!("pass@{k} {} -> {}", percent(old), percent(new)))
    }

    fn needs(_: &Spec, _: &Exec) -> Needs {
        Needs { threads: 1, memory: 1 << 30, ..Needs::default() }
    }

    fn run(spec: &Spec, _: &Exec, context: &Context) -> Result<()> {
        let results = Results::read(context.inputs.tree("results")?)?;
        let baseline = context.inputs.get("baseline").map(Results::read).transpose()?;
        let report = Report::new(&results, baseline.as_ref(), &spec.measure(context.seed))?;
        for score in &report.best {
            context.progress.metric(0, &format!("pass@{}", score.k), score.pass_at_k);
        }
        context.progress.info(report.line());
        report.write(context.outputs.tree("report")?)
    }
}
