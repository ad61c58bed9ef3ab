//! What is known of a stage before anything runs: from its settings and those of the stages above it.
//!
//! The engine walks the graph once. Each stage is told the [`Facts`] of its inputs and answers with those of its outputs,
//! with what does not fit together ([`Clash`]: shown with the lines of both settings), and with what it will cost
//! ([`Cost`]). A fact that is not known is left out, and nothing is checked against it. What no setting decides (a model that
//! a command writes) is read from the headers of the inputs once these are there ([`crate::Stage::observe`]).

use std::collections::BTreeMap;

use serde::Serialize;

/// A value that a setting of some stage decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact<T> {
    /// The value.
    pub value: T,
    /// Where it was decided.
    pub origin: Origin,
}

/// A setting of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The stage; empty for the one that is asked.
    pub stage: String,
    /// The setting's path; empty for the stage as a whole.
    pub setting: String,
}

impl<T> Fact<T> {
    /// A value that a setting of the asked stage decides.
    pub fn own(value: T, setting: impl Into<String>) -> Self {
        Self { value, origin: Origin { stage: String::new(), setting: setting.into() } }
    }
}

/// What is known of what flows along an edge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The tokenizer, as the stage that makes it: two tokenizers are the same when they come from the same stage.
    pub tokenizer: Option<Fact<()>>,
    /// Ids that there are at most.
    pub vocabulary: Option<Fact<u64>>,
    /// Tokens of a packed sequence.
    pub sequence_length: Option<Fact<u64>>,
    /// The longest sequence of a model, in tokens.
    pub positions: Option<Fact<u64>>,
    /// Trainable values of a model.
    pub parameters: Option<Fact<u64>>,
    /// Layers, width and heads of a model.
    pub shape: Option<Fact<Shape>>,
    /// Packed sequences: no setting decides how many there are, so this is known once they are packed.
    pub sequences: Option<Fact<u64>>,
}

/// The sizes of a transformer beside its vocabulary and positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Transformer blocks.
    pub layers: u64,
    /// Features of a token.
    pub width: u64,
    /// Attention heads a block.
    pub heads: u64,
}

impl Facts {
    /// These facts, and those of `other` where one is missing.
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
        }
    }
}

/// The facts of a stage's inputs, by port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known(BTreeMap<String, Facts>);

impl Known {
    /// Of these ports.
    pub fn new(facts: BTreeMap<String, Facts>) -> Self {
        Self(facts)
    }

    /// Those of a port; nothing where it is not connected.
    pub fn port(&self, port: &str) -> Facts {
        self.0.get(port).cloned().unwrap_or_default()
    }

    /// Adds what is not known yet of a connected port.
    pub fn complete(&mut self, port: &str, facts: Facts) {
        if let Some(known) = self.0.get_mut(port) {
            *known = std::mem::take(known).or(facts);
        }
    }

    /// Whether something is connected to the port.
    pub fn has(&self, port: &str) -> bool {
        self.0.contains_key(port)
    }
}

/// A setting that does not fit one of another stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The asked stage's setting, or `inputs.<port>`, or empty for the stage as a whole.
    pub setting: String,
    /// What does not fit.
    pub message: String,
    /// The other setting; of the asked stage itself where it names none.
    pub with: Origin,
    /// What the other setting says, in a few words.
    pub label: String,
    /// What to do about it.
    pub hint: String,
}

/// What is worth knowing of a stage once some of its inputs are there ([`crate::Stage::consider`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// The setting that it is about; empty for the stage as a whole.
    pub setting: String,
    /// The input port that it is about.
    pub port: &'static str,
    /// What there is to know.
    pub text: String,
    /// What to do about it, where it is more than worth knowing.
    pub warning: Option<String>,
}

/// What a stage will cost.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Cost {
    /// Tokens that a model reads; the most that it can be where that is decided while it runs.
    pub tokens: Option<u64>,
    /// Floating-point operations for these tokens.
    pub flops: Option<f64>,
    /// Bytes of memory that it cannot do without, by estimate: a machine with less cannot run the stage. What a stage
    /// would like to have and can spill is [`crate::Needs::memory`].
    pub memory: Option<u64>,
    /// Bytes of memory that it may come to need and cannot spill, where its inputs decide how much it will be: a machine with
    /// less may still run the stage.
    pub memory_bound: Option<u64>,
    /// Bytes on disk at the same time, output and scratch.
    pub disk: Option<u64>,
}

/// The answer of a stage.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Foresight {
    /// What is known of its outputs, by port.
    pub outputs: BTreeMap<&'static str, Facts>,
    /// What does not fit.
    pub clashes: Vec<Clash>,
    /// What it will cost.
    pub cost: Cost,
}

impl Foresight {
    /// Tells a clash where both facts are known, both are decided by a setting, and `fits` says that they do not go
    /// together.
    pub fn compare<A, B>(
        &mut self,
        setting: &str,
        one: Option<&Fact<A>>,
        other: Option<&Fact<B>>,
        fits: impl FnOnce(&Fact<A>, &Fact<B>) -> bool,
        tell: impl FnOnce(&A, &B) -> Told,
    ) {
        let (Some(one), Some(other)) = (one, other) else { return };
        if !fits(one, other) {
            let Told { message, label, hint } = tell(&one.value, &other.value);
            let with = other.origin.clone();
            self.clashes.push(Clash { setting: setting.to_owned(), message, with, label, hint });
        }
    }

    /// Tells a clash where two tokenizers are known and are not the same; `other` is the one that is out of place.
    pub fn same_tokenizer(&mut self, port: &str, one: &Facts, other: &Facts, what: &str) {
        self.compare(
            &format!("inputs.{port}"),
            one.tokenizer.as_ref(),
            other.tokenizer.as_ref(),
            |one, other| one.origin == other.origin,
            |(), ()| Told {
                message: format!("{what} two tokenizers"),
                label: "the other tokenizer".to_owned(),
                hint: "connect both to the same tokenizer".to_owned(),
            },
        );
    }
}

/// The words of a clash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What does not fit.
    pub message: String,
    /// What the other setting says.
    pub label: String,
    /// What to do about it.
    pub hint: String,
}
