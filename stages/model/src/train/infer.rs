//! Inference before a training starts: conflicts with its inputs, facts of its model, and its cost.

use contract::figures::counted;
use contract::{
    Advice, Conflict, ConflictText, Cost, Fact, Facts, Inferred, InputFacts, InputTree, Inputs, Origin, Shape,
};
use tokens::packed::PackedTokens;

use super::settings::{Exec, Spec};
use crate::config::Gpt2Config;
use crate::folder::ModelFolder;

/// The number of passes over the same tokens after which further passes have little effect (Muennighoff et al., "Scaling
/// data-constrained language models", 2023: up to 4 are as good as new tokens; after 16 there is little gain).
const PASSES: f64 = 16.0;

pub(super) fn infer(spec: &Spec, exec: &Exec, inputs: &InputFacts) -> Inferred {
    let (train, valid, init) = (inputs.port("train"), inputs.port("valid"), inputs.port("init"));
    let mut inferred = Inferred::default();
    inferred.same_tokenizer("valid", &train, &valid, "training and validation have");
    inferred.same_tokenizer(
        "tokenizer",
        &train,
        &inputs.port("tokenizer"),
        "the tokens and the model's directory have",
    );
    inferred.compare(
        "inputs.train",
        init.vocabulary.as_ref(),
        train.vocabulary.as_ref(),
        |init, train| init.value == train.value || spec.resize_vocabulary,
        |init, train| ConflictText {
            message: format!("the model of 'init' has a vocabulary of {init}, but the tokens have one of {train}"),
            label: format!("{train} ids"),
            hint: "pack with the tokenizer of that model, or set resize_vocabulary if the other one extends it"
                .to_owned(),
        },
    );
    // Different vocabularies imply different tokenizers: one conflict is enough.
    let vocabularies = [&init, &train].map(|facts| facts.vocabulary.as_ref().map(|fact| fact.value));
    if !spec.resize_vocabulary && (vocabularies[0].is_none() || vocabularies[0] == vocabularies[1]) {
        inferred.same_tokenizer("train", &init, &train, "the model of 'init' and the tokens have");
    }
    inferred.compare(
        "inputs.valid",
        train.sequence_length.as_ref(),
        valid.sequence_length.as_ref(),
        |train, valid| train.value == valid.value,
        |train, valid| ConflictText {
            message: format!("training has sequences of {train} tokens, but validation has sequences of {valid}"),
            label: format!("{valid} tokens"),
            hint: "pack both with the same sequence_length".to_owned(),
        },
    );
    inferred.compare(
        "inputs.train",
        init.positions.as_ref(),
        train.sequence_length.as_ref(),
        |positions, length| length.value <= positions.value,
        |positions, length| ConflictText {
            message: format!("the model of 'init' reads at most {positions} tokens, but the sequences have {length}"),
            label: format!("{length} tokens"),
            hint: "lower sequence_length in the pack stage".to_owned(),
        },
    );
    // A model that continues from 'init' has its sizes, unless the settings set others.
    let own = spec.shape().map(|(layers, width, heads)| {
        let [layers, width, heads] = [layers, width, heads].map(|size| size as u64);
        Fact::own(Shape { layers, width, heads }, "")
    });
    let mut model = Facts {
        positions: if inputs.has("init") { init.positions } else { train.sequence_length.clone() },
        tokenizer: train.tokenizer,
        vocabulary: train.vocabulary.or(init.vocabulary),
        parameters: init.parameters,
        shape: own.or(init.shape),
        ..Facts::default()
    };
    if let (Some(length), Some(config)) = (&train.sequence_length, config(&model)) {
        let parameters = config.parameters() as u64;
        // The best model of each checkpoint may be another one.
        let models = if spec.keep_best { exec.keep_last + 3 } else { 1 } + if spec.keep_state { 3 } else { 0 };
        let tokens = spec.steps.saturating_mul(spec.batch).saturating_mul(length.value);
        inferred.cost = Cost {
            tokens: Some(tokens),
            updates: Some(spec.steps),
            flops: Some(config.operations(length.value) * tokens as f64),
            memory: Some(spec.memory(&config, usize::try_from(length.value).unwrap_or(usize::MAX))),
            memory_bound: None,
            // Values and two moments of the kept checkpoints and of the one being written, and the models.
            disk: Some(parameters.saturating_mul(4 * (3 * (exec.keep_last + 1) + models))),
        };
        model.parameters = Some(Fact::own(parameters, ""));
    }
    if spec.keep_best {
        inferred.outputs.insert("best", model.clone());
        if !inputs.has("valid") {
            inferred.conflicts.push(Conflict {
                setting: "keep_best".to_owned(),
                message: "keep_best needs a validation loss, and the input 'valid' is not connected".to_owned(),
                with: Origin { setting: "inputs".to_owned(), ..Origin::default() },
                label: "no 'valid'".to_owned(),
                hint: "connect 'valid', or leave keep_best out".to_owned(),
            });
        }
    }
    inferred.outputs.insert("model", model);
    inferred
}

/// Returns the sizes of a model, if all of them are known.
fn config(model: &Facts) -> Option<Gpt2Config> {
    let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let Shape { layers, width, heads } = model.shape.as_ref()?.value;
    Some(Gpt2Config {
        vocabulary: size(model.vocabulary.as_ref()?.value),
        positions: size(model.positions.as_ref()?.value),
        width: size(width),
        layers: size(layers),
        heads: size(heads),
        end_of_text: None,
    })
}

/// Adds the facts that no setting determines from the headers of the tokens and of the initial model.
pub(super) fn observe(facts: &mut InputFacts, input: &dyn Fn(&str) -> Option<InputTree>) {
    let train = facts.port("train");
    if train.vocabulary.is_none() || train.sequence_length.is_none() {
        facts.complete("train", input("train").as_ref().map(PackedTokens::facts).unwrap_or_default());
    }
    ModelFolder::observe(facts, "init", input);
}

/// Compares the tokens that the settings read with the tokens available.
pub(super) fn lint(spec: &Spec, inputs: &Inputs) -> Vec<Advice> {
    let Some(Ok(packed)) = inputs.get("train").map(PackedTokens::open) else { return Vec::new() };
    let (sequences, length) = (packed.sequences() as u64, packed.sequence_length() as u64);
    if sequences == 0 {
        return Vec::new();
    }
    let a_step = spec.batch;
    let read = spec.steps.saturating_mul(a_step);
    let passes = read as f64 / sequences as f64;
    let digits = if passes < 10.0 { 2 } else { 0 };
    let text = format!(
        "{} of {} read {}: {passes:.digits$} epochs over {}",
        counted(spec.steps, "step"),
        counted(a_step, "sequence"),
        counted(read.saturating_mul(length), "token"),
        counted(sequences.saturating_mul(length), "token"),
    );
    let warning = (passes > PASSES).then(|| {
        let enough = (PASSES * sequences as f64 / a_step.max(1) as f64).ceil() as u64;
        format!(
            "more than {PASSES} epochs over the same tokens improve little: use more data, or {}",
            counted(enough, "step")
        )
    });
    vec![Advice { setting: "steps".to_owned(), port: "train", text, warning }]
}
