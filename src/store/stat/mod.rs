//! File signatures: what `stat` reports of a file whose digest is known, so that an untouched file is not read again.

mod index;
mod signature;
mod sources;

pub(super) use index::Index;
pub use signature::Signature;
pub use sources::{SourceSnapshot, Sources};
