//! The stage kind `eval-loss`: measures how well a model predicts tokens that it has not seen.
//!
//! [`crate::sums`] defines the measures, [`crate::slices`] the divisions of the tokens: every loss is computed once, and the slices are
//! sums of the same losses. `batch` sequences are read at once. It is part of the key, because a matrix product of a different size may add
//! in a different order and so change the last bits of a loss. The definition of the measures does not depend on it.

use contract::figures::counted;
use contract::{
    ConflictText, Context, Inferred, InputFacts, InputTree, Needs, PortType, Ports, Problem, Result, Stage, StageError,
    Unit,
};
use model::folder::ModelFolder;
use model::fused::memory::Reuse;
use model::train::head::LOGITS;
use model::{Gpt2, Gpt2Config};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokens::packed::PackedTokens;
use tokens::text::TextTokenizer;

use crate::cost::Sizes;
use crate::document_slices::DocumentSlices;
use crate::losses::token_losses;
use crate::slices::{SliceSettings, Slicer};
use crate::sums::{Measures, Nats, Prediction, Sums};
use crate::tally::{LossReport, Tally};
use crate::threads::on_threads;

/// The stage kind `eval-loss`.
#[derive(Debug)]
pub struct EvalLoss;

/// Measures a model's loss, perplexity and bits per byte over packed tokens: in total, and by license, repository size, file length and
/// position. With the input `contaminated`, for example rows that a program found in a benchmark, also with and without these documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "EvalLossSpec")]
pub struct Spec {
    /// The number of sequences per batch. A larger batch is faster on a GPU and needs more memory.
    #[serde(default = "batch")]
    #[schemars(range(min = 1, max = 1 << 20))]
    pub batch: usize,
    /// The maximum number of sequences; by default, all. Packed sequences are shuffled, so the first ones are a sample.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub sequences: Option<u64>,
    /// The boundaries of the slices: each number of a list is the start of a slice, which ends before the next number.
    #[serde(default)]
    pub slices: SliceSettings,
}

fn batch() -> usize {
    8
}

/// There are no settings that do not change the output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "EvalLossExec")]
pub struct Exec {}

impl Stage for EvalLoss {
    type Spec = Spec;
    type Exec = Exec;
    const KIND: &'static str = "eval-loss";
    const REVISION: u32 = 4;
    const TOLERANCE: Option<f64> = Some(0.02);

    fn ports() -> Ports {
        Ports::new()
            .input("model", PortType::Model, "the model")
            .input("tokens", PortType::Tokens, "the tokens to predict: validation tokens")
            .input("tokenizer", PortType::Tokenizer, "the tokenizer that the tokens were packed with")
            .optional_input(
                "documents",
                PortType::Documents,
                "the documents that were packed: for slices by license, repository size and file length",
            )
            .optional_input(
                "contaminated",
                PortType::Rows,
                "rows whose column id contains the ids of contaminated documents: for slices with and without them",
            )
            .output("report", PortType::Report, "report.json and report.md")
    }

    fn infer(spec: &Spec, _: &Exec, inputs: &InputFacts) -> Inferred {
        let mut inferred = Inferred::default();
        let (model, tokens) = (inputs.port("model"), inputs.port("tokens"));
        inferred.same_tokenizer("tokens", &model, &tokens, "the model and the tokens come from");
        inferred.same_tokenizer("tokenizer", &tokens, &inputs.port("tokenizer"), "the tokens and this evaluation have");
        inferred.compare(
            "inputs.tokens",
            model.positions.as_ref(),
            tokens.sequence_length.as_ref(),
            |positions, length| length.value <= positions.value,
            |positions, length| ConflictText {
                message: format!("the model reads at most {positions} tokens, but the sequences have {length}"),
                label: format!("sequences of {length} tokens"),
                hint: "pack the validation documents with the settings of the training documents".to_owned(),
            },
        );
        if let (Some(sizes), Some(length)) = (Sizes::of(&model), &tokens.sequence_length) {
            let there = tokens.sequences.as_ref().map(|fact| fact.value);
            let read = there.into_iter().chain(spec.sequences).min();
            inferred.cost = sizes.predict(spec.batch as u64, read, length.value, LOGITS);
        }
        inferred
    }

    fn observe(facts: &mut InputFacts, input: &dyn Fn(&str) -> Option<InputTree>) {
        ModelFolder::observe(facts, "model", input);
        facts.complete("tokens", input("tokens").as_ref().map(PackedTokens::facts).unwrap_or_default());
    }

    fn check(spec: &Spec, _: &Exec) -> Vec<Problem> {
        spec.slices.check()
    }

    fn needs(_: &Spec, _: &Exec) -> Needs {
        Needs { gpu: true, memory: 1 << 30, ..Needs::default() }
    }

    fn run(spec: &Spec, _: &Exec, context: &Context) -> Result<()> {
        let folder = ModelFolder::of(context.inputs.tree("model")?)?;
        let tokens = PackedTokens::open(context.inputs.tree("tokens")?)?;
        let tokenizer = TextTokenizer::open(context.inputs.tree("tokenizer")?)?;
        check_inputs(&folder.config()?, &tokens, &tokenizer)?;
        let documents = DocumentSlices::read(context, &spec.slices, &tokens)?;
        let report = on_threads(context, || {
            let (_, model) = folder.load(&model::device::resolve(context.resources.device)?)?;
            measure(spec, context, &model, &tokens, &tokenizer, Slicer::new(&spec.slices, documents))
        })?;
        context.progress.info(report.line());
        let Measures { tokens, loss, perplexity, bits_per_byte, .. } = report.measures;
        let metrics = [("loss", Some(loss)), ("perplexity", Some(perplexity)), ("bits_per_byte", bits_per_byte)];
        for (name, value) in metrics {
            value.into_iter().for_each(|value| context.progress.metric(tokens, name, value));
        }
        let output = context.outputs.tree("report")?;
        output.write_json("report.json", &report)?;
        output.write("report.md", report.markdown().as_bytes())
    }
}

fn check_inputs(config: &Gpt2Config, tokens: &PackedTokens, tokenizer: &TextTokenizer) -> Result<()> {
    let length = tokens.sequence_length();
    let (vocabulary, end_of_text) = (tokens.vocabulary(), tokens.end_of_text());
    if (vocabulary, end_of_text) != (tokenizer.vocabulary(), tokenizer.end_of_text()) {
        return Err(StageError::new(format!(
            "the tokens were packed with another tokenizer: {vocabulary} ids, end-of-text {end_of_text}, but this one \
             has {} ids, end-of-text {}",
            tokenizer.vocabulary(),
            tokenizer.end_of_text()
        ))
        .hint("connect the tokenizer that the pack stage reads"));
    }
    if vocabulary as usize > config.vocabulary {
        return Err(StageError::new(format!(
            "the tokens have {vocabulary} ids, but the model's vocabulary has {}",
            config.vocabulary
        ))
        .hint("evaluate on tokens of the tokenizer that the model was trained with"));
    }
    if length > config.positions {
        return Err(StageError::new(format!(
            "the sequences have {length} tokens, but the model reads at most {}",
            config.positions
        ))
        .hint("pack sequences of the length that the model was trained with"));
    }
    if length < 2 || tokens.sequences() == 0 {
        return Err(StageError::new(format!(
            "there is nothing to predict: {} of {}",
            counted(tokens.sequences() as u64, "sequence"),
            counted(length as u64, "token")
        ))
        .hint("use more documents or shorter sequences"));
    }
    Ok(())
}

fn measure(
    spec: &Spec,
    context: &Context,
    model: &Gpt2,
    tokens: &PackedTokens,
    tokenizer: &TextTokenizer,
    mut slicer: Slicer<'_>,
) -> Result<LossReport> {
    let length = tokens.sequence_length();
    let cap = spec.sequences.and_then(|cap| usize::try_from(cap).ok()).unwrap_or(usize::MAX);
    let sequences = tokens.sequences().min(cap);
    context.progress.start("", Unit::Tokens, Some((sequences * (length - 1)) as u64));
    let bytes = |id: u32| (id != tokenizer.end_of_text()).then(|| tokenizer.token_bytes(id).len() as u64);
    let mut tally = Tally::default();
    let mut ids = Vec::with_capacity(spec.batch.min(sequences) * length);
    // The tensors of a batch are as large as those of the one before.
    let _memory = Reuse::begin();
    for first in (0..sequences).step_by(spec.batch) {
        context.cancel.check()?;
        ids.clear();
        let batch = first..first.saturating_add(spec.batch).min(sequences);
        batch.clone().try_for_each(|sequence| tokens.read(sequence, &mut ids))?;
        let losses = token_losses(model, &ids, length)?;
        for ((sequence, ids), losses) in batch.zip(ids.chunks_exact(length)).zip(losses.chunks_exact(length - 1)) {
            let prediction = |(loss, id): (&f32, &u32)| match Nats::of(*loss) {
                Some(loss) => Ok(Prediction { loss, bytes: bytes(*id) }),
                None => Err(out_of_range(sequence, *loss)),
            };
            let predictions = losses.iter().zip(&ids[1..]).map(prediction).collect::<Result<Vec<_>>>()?;
            tally.add(&predictions);
            slicer.add(sequence as u64, &predictions)?;
        }
        context.progress.add(losses.len() as u64);
    }
    check_partitions(&tally, &slicer)?;
    Ok(tally.report(length as u64, tokens.sequences() as u64, slicer.tables()))
}

fn out_of_range(sequence: usize, loss: f32) -> StageError {
    let problem = if loss.is_finite() { "out of range" } else { "not a finite number" };
    StageError::new(format!("the loss of sequence {sequence} is {problem}"))
        .hint("the model's training has diverged: check its loss, and lower the learning rate")
}

/// Checks that the slices of every partition add up to the whole.
fn check_partitions(tally: &Tally, slicer: &Slicer<'_>) -> Result<()> {
    for (by, slices) in slicer.sums() {
        let mut sums = Sums::default();
        slices.iter().for_each(|slice| sums += *slice);
        if sums != *tally.sums() {
            return Err(StageError::new(format!("the slices by {} do not add up", by.title())));
        }
    }
    Ok(())
}
