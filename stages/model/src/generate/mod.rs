//! Text generation in batches with a key-value cache.
//!
//! A [`Generator`] reads each prompt once, alone and without padding. All its completions share its keys and values. The rows of a batch
//! advance together, one new token per row and step; finished rows are removed from the batch.
//!
//! On the CPU ([`cpu`]) the bits of a row's logits depend on its tokens alone: not on the batch, the number of threads, or what
//! was cached. On a GPU ([`decode`]) prompts of different lengths are right-aligned in the cache ([`cache::Cache`]), with their
//! own positions and the empty columns before them masked, so a row's logits are those of the plain forward pass of its
//! sequence ([`Gpt2`]) up to the order of floating-point sums.
//!
//! Choices are made on the host in `f64` ([`sampling`]). The random number of a choice is
//! hash(seed, prompt, completion, position), never the next one of a stream: a completion draws the same numbers in any
//! batch.
//!
//! | module | contents |
//! |---|---|
//! | [`generator`] | `Generator`: a model that is ready |
//! | [`batch`] | requests, completions, and the loop over a batch's tokens |
//! | [`cpu`] | the forward pass on the CPU |
//! | [`decode`] | the forward pass of a prompt and of one step with Burn's tensors |
//! | [`cache`] | the keys and values of the tokens so far, as tensors |
//! | [`sampling`] | the choice of the next token |
//! | [`stops`] | texts at which a completion ends |
//! | [`stream`] | a completion's text as it grows |
//!
//! [`Gpt2`]: crate::Gpt2

pub mod batch;
pub mod cache;
pub mod cpu;
pub mod decode;
mod engine;
pub mod generator;
pub mod sampling;
pub mod stops;
pub mod stream;

pub use batch::{Completion, End, Generation, NewToken, Request};
pub use cache::Cache;
pub use generator::Generator;
pub use sampling::Sampling;
pub use stops::Stops;
pub use stream::TextStream;
