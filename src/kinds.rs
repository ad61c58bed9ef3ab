//! The table of stage kinds: the one place that registers them. A new kind is one module in `stages/` and one line here.

use contract::Kind;

/// Every stage kind of this program, in the order of a pipeline.
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind::of::<data::Sample>(),
        Kind::of::<data::Import>(),
        Kind::of::<data::License>(),
        Kind::of::<data::Quality>(),
        Kind::of::<data::Dedup>(),
        Kind::of::<data::Split>(),
        Kind::of::<tokens::Tokenizer>(),
        Kind::of::<tokens::Pack>(),
        Kind::of::<model::Train>(),
        Kind::of::<evaluate::EvalLoss>(),
        Kind::of::<evaluate::EvalCompletions>(),
        Kind::of::<command::Command>(),
    ]
}
