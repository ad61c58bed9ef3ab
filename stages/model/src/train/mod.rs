//! The stage kind `train`: trains a GPT-2 on packed tokens.
//!
//! A step reads `batch` sequences in the order of [`order`], `micro_batch` at a time, computes the mean loss over all their
//! predictions (a sequence of `n` tokens has `n − 1`; a smaller last micro-batch weighs as much as it has sequences), and updates the model by [`adamw`] at the rate of [`schedule`]. On the
//! CPU the result is the same to the bit for any number of threads and after any number of interruptions ([`checkpoint`]).
//!
//! A step whose loss, gradients, weights or validation loss are not finite fails the stage, unless `skip_non_finite` allows that many
//! updates in a row to be skipped for their loss or gradients. Loss and gradients are checked
//! after each update, once the next one is queued; weights when a checkpoint or the model is written
//! ([`crate::tensor_file`]), and by the loss of the next step: so the check costs nothing on the device, and nothing that is
//! not finite is ever stored or resumed from.
//!
//! Dropout ([`crate::dropout`]) is off by default: training sees each sequence about once, where dropout costs loss. GPT-2's 0.1 came
//! from many epochs over a small corpus. The configuration that is written has 0.
//!
//! [`memory`] estimates the memory; what does not fit into a GPU is rejected before anything is computed.

pub mod adamw;
mod best;
pub mod checkpoint;
pub mod event_file;
pub mod head;
mod infer;
mod inputs;
mod memory;
pub mod metrics;
pub mod order;
mod run;
pub mod schedule;
pub mod settings;
pub mod speed;
pub mod trainer;

use std::path::Path;

use contract::{
    Advice, Checkpoint, Context, Inferred, InputFacts, InputTree, Inputs, Needs, PortType, Ports, Problem, Result,
    Stage, StageError, Unit,
};

use run::Run;
use settings::{Exec, Spec};
pub use trainer::{Batch, Measured, Measuring, Trainer};

/// The stage kind `train`.
#[derive(Debug)]
pub struct Train;

impl Stage for Train {
    type Spec = Spec;
    type Exec = Exec;
    const KIND: &'static str = "train";
    const REVISION: u32 = 4;
    const SEEDED: bool = true;
    const TOLERANCE: Option<f64> = Some(0.02);

    fn ports() -> Ports {
        Ports::new()
            .input("train", PortType::Tokens, "sequences to learn from")
            .optional_input("valid", PortType::Tokens, "sequences to measure the loss on")
            .optional_input("tokenizer", PortType::Tokenizer, "copied into the model's directory")
            .optional_input("init", PortType::Model, "the model to start from; by default, a random initialization")
            .output("model", PortType::Model, "config.json, model.safetensors and the tokenizer's files")
            .output("metrics", PortType::Report, "metrics.jsonl, a TensorBoard event file and report.json")
    }

    fn ports_of(spec: &Spec) -> Ports {
        match spec.keep_best {
            true => Self::ports().output("best", PortType::Model, "the model with the lowest validation loss"),
            false => Self::ports(),
        }
    }

    fn check(spec: &Spec, _: &Exec) -> Vec<Problem> {
        settings::check(spec)
    }

    fn infer(spec: &Spec, exec: &Exec, inputs: &InputFacts) -> Inferred {
        infer::infer(spec, exec, inputs)
    }

    fn observe(facts: &mut InputFacts, input: &dyn Fn(&str) -> Option<InputTree>) {
        infer::observe(facts, input);
    }

    fn checkpoint(spec: &Spec, _: &Exec, scratch: &Path) -> Option<Checkpoint> {
        let (done, seconds, saved) = checkpoint::newest(scratch)?;
        Some(Checkpoint { done, total: spec.steps, unit: Unit::Steps, seconds, saved })
    }

    fn lint(spec: &Spec, _: &Exec, inputs: &Inputs) -> Vec<Advice> {
        infer::lint(spec, inputs)
    }

    fn needs(_: &Spec, _: &Exec) -> Needs {
        Needs { gpu: true, ..Needs::default() }
    }

    fn run(spec: &Spec, exec: &Exec, context: &Context) -> Result<()> {
        // Burn's CPU backend computes on the rayon pool of the calling thread.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(context.resources.threads.max(1)).build();
        let pool = pool.map_err(|error| StageError::new(format!("cannot start threads: {error}")))?;
        pool.install(|| Run::prepare(spec, exec, context)?.finish())
    }
}
