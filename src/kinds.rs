//! The table of stage kinds, the only place that registers them. A new kind is one module in `stages/` and one line
//! here.

use contract::Kind;

/// Every stage kind of this program, in the order of a pipeline.
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind::of::<data::sample::Sample>(),
        Kind::of::<data::import::Import>(),
        Kind::of::<data::license::License>(),
        Kind::of::<data::quality::QualityStage>(),
        Kind::of::<data::dedup::Dedup>(),
        Kind::of::<data::split::Split>(),
        Kind::of::<tokens::Tokenizer>(),
        Kind::of::<tokens::Pack>(),
        Kind::of::<model::import_model::ImportModel>(),
        Kind::of::<model::train::Train>(),
        Kind::of::<evaluate::EvalLoss>(),
        Kind::of::<evaluate::EvalCompletions>(),
        Kind::of::<score::Problems>(),
        Kind::of::<evaluate::SampleCode>(),
        Kind::of::<score::RunCode>(),
        Kind::of::<score::EvalCode>(),
        Kind::of::<command::Command>(),
    ]
}
