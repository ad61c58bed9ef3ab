//! Inference before anything runs, from the settings of a stage and of the stages upstream.
//!
//! The engine walks the graph once. Each stage receives the [`Facts`] of its inputs and returns those of its outputs, the settings that
//! contradict each other ([`Conflict`], shown with the positions of both), and its [`Cost`]. Unknown facts are left out and not checked. A
//! fact that no setting determines (the sizes of a model that a command writes) is read from the headers of the inputs once they exist
//! ([`crate::Stage::observe`]).

use std::collections::BTreeMap;

use serde::Serialize;

/// A value that a setting of a stage determines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact<T> {
    /// The value.
    pub value: T,
    /// The setting that determines it.
    pub origin: Origin,
}

/// A setting of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The stage; empty for the one being inferred.
    pub stage: String,
    /// The setting's path; empty for the stage as a whole.
    pub setting: String,
}

impl<T> Fact<T> {
    /// Returns a value determined by a setting of this stage.
    pub fn own(value: T, setting: impl Into<String>) -> Self {
        Self { value, origin: Origin { stage: String::new(), setting: setting.into() } }
    }
}

/// The known facts about the data on an edge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The tokenizer, identified by the stage that trains it.
    pub tokenizer: Option<Fact<()>>,
    /// An upper bound on the number of ids.
    pub vocabulary: Option<Fact<u64>>,
    /// The number of tokens in a packed sequence.
    pub sequence_length: Option<Fact<u64>>,
    /// The maximum sequence length of a model, in tokens.
    pub positions: Option<Fact<u64>>,
    /// The number of trainable values of a model.
    pub parameters: Option<Fact<u64>>,
    /// The layers, width and heads of a model.
    pub shape: Option<Fact<Shape>>,
    /// The number of packed sequences. No setting determines it, so it is known only once they are packed.
    pub sequences: Option<Fact<u64>>,
    /// The number of programming problems, known once they are read.
    pub problems: Option<Fact<u64>>,
    /// The number of samples of code, known once they are generated.
    pub samples: Option<Fact<u64>>,
    /// The number of samples of code of each problem, at each temperature.
    pub samples_per_problem: Option<Fact<u64>>,
    /// The size of the files, in bytes, known once they are written.
    pub bytes: Option<Fact<u64>>,
}

/// The sizes of a transformer, without vocabulary and positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The number of transformer blocks.
    pub layers: u64,
    /// The number of features per token.
    pub width: u64,
    /// The number of attention heads per block.
    pub heads: u64,
}

impl Facts {
    /// Returns these facts, with missing ones taken from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            tokenizer: self.tokenizer.or(other.tokenizer),
            vocabulary: self.vocabulary.or(other.vocabulary),
            sequence_length: self.sequence_length.or(other.sequence_length),
            positions: self.positions.or(other.positions),
            parameters: self.parameters.or(other.parameters),
            shape: self.shape.or(other.shape),
            sequences: self.sequences.or(other.sequences),
            problems: self.problems.or(other.problems),
            samples: self.samples.or(other.samples),
            samples_per_problem: self.samples_per_problem.or(other.samples_per_problem),
            bytes: self.bytes.or(other.bytes),
        }
    }
}

/// The facts of a stage's inputs, by port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InputFacts(BTreeMap<String, Facts>);

impl InputFacts {
    /// Creates the facts of these connected ports.
    pub fn new(facts: BTreeMap<String, Facts>) -> Self {
        Self(facts)
    }

    /// Returns the facts of a port; empty if it is not connected.
    pub fn port(&self, port: &str) -> Facts {
        self.0.get(port).cloned().unwrap_or_default()
    }

    /// Adds the facts still missing for a connected port.
    pub fn complete(&mut self, port: &str, facts: Facts) {
        if let Some(known) = self.0.get_mut(port) {
            *known = std::mem::take(known).or(facts);
        }
    }

    /// Returns whether the port is connected.
    pub fn has(&self, port: &str) -> bool {
        self.0.contains_key(port)
    }
}

/// A setting that contradicts one of another stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The setting of this stage, or `inputs.<port>`, or empty for the stage as a whole.
    pub setting: String,
    /// The description of the contradiction.
    pub message: String,
    /// The other setting; its stage is empty if it belongs to this stage.
    pub with: Origin,
    /// A short description of the other setting.
    pub label: String,
    /// The hint.
    pub hint: String,
}

/// Advice for a stage of which some inputs exist ([`crate::Stage::lint`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// The setting that it concerns; empty for the stage as a whole.
    pub setting: String,
    /// The input port that it concerns.
    pub port: &'static str,
    /// The observation.
    pub text: String,
    /// The hint, if the advice is a warning.
    pub warning: Option<String>,
}

/// The estimated cost of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Cost {
    /// The number of tokens that a model reads; an upper bound if the number is known only at run time.
    pub tokens: Option<u64>,
    /// The number of equal updates in which a training reads them.
    pub updates: Option<u64>,
    /// The number of floating-point operations for these tokens.
    pub flops: Option<f64>,
    /// The estimated lower bound of memory, in bytes: a machine with less cannot run the stage. Memory that a stage can use
    /// but also spill is [`crate::Needs::memory`].
    pub memory: Option<u64>,
    /// The upper bound of memory that cannot be spilled, in bytes, if the amount depends on the inputs: a machine with less may still run
    /// the stage.
    pub memory_bound: Option<u64>,
    /// The peak disk usage of output and scratch together, in bytes.
    pub disk: Option<u64>,
}

/// The inferred facts of a stage.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Inferred {
    /// The facts of its outputs, by port.
    pub outputs: BTreeMap<&'static str, Facts>,
    /// Settings that contradict each other.
    pub conflicts: Vec<Conflict>,
    /// The cost.
    pub cost: Cost,
}

impl Inferred {
    /// Adds a conflict if both facts are known and `fits` returns false.
    pub fn compare<A, B>(
        &mut self,
        setting: &str,
        one: Option<&Fact<A>>,
        other: Option<&Fact<B>>,
        fits: impl FnOnce(&Fact<A>, &Fact<B>) -> bool,
        text: impl FnOnce(&A, &B) -> ConflictText,
    ) {
        let (Some(one), Some(other)) = (one, other) else { return };
        if !fits(one, other) {
            let ConflictText { message, label, hint } = text(&one.value, &other.value);
            let with = other.origin.clone();
            self.conflicts.push(Conflict { setting: setting.to_owned(), message, with, label, hint });
        }
    }

    /// Adds a conflict if two tokenizers are known and differ; the diagnostic points at `other`.
    pub fn same_tokenizer(&mut self, port: &str, one: &Facts, other: &Facts, what: &str) {
        self.compare(
            &format!("inputs.{port}"),
            one.tokenizer.as_ref(),
            other.tokenizer.as_ref(),
            |one, other| one.origin == other.origin,
            |(), ()| ConflictText {
                message: format!("{what} two tokenizers"),
                label: "the other tokenizer".to_owned(),
                hint: "connect both to the same tokenizer".to_owned(),
            },
        );
    }
}

/// The text of a [`Conflict`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictText {
    /// The description of the contradiction.
    pub message: String,
    /// A short description of the other setting.
    pub label: String,
    /// The hint.
    pub hint: String,
}
