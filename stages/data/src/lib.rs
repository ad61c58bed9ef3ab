//! The data stages: from a query export to the documents that a model is trained on.
//!
//! | module | kind | type |
//! |---|---|---|
//! | [`import`] | `import` | source: export shards to a table of documents |
//! | [`license`] | `license` | row-wise: an allow list of license keys |
//! | [`quality`] | `quality` | row-wise: CodeParrot's heuristics |
//! | [`dedup`] | `dedup` | global: exact and near duplicates |
//! | [`split`] | `split` | global: training and validation documents |
//! | [`sample`] | `sample` | source: a synthetic export |

pub mod dedup;
pub mod import;
pub mod license;
pub mod quality;
pub mod sample;
pub mod split;
