//! `import` on well-formed and hostile exports.
#![allow(clippy::unwrap_used)]

mod bench;
mod malformed;
mod rows;
mod sources;
#[path = "../support/mod.rs"]
mod support;
