//! Text generation in batches with a key-value cache.
//!
//! Each prompt is read once, alone and without padding ([`decode::read_prompt`]): exactly the forward pass of [`Gpt2`].
//! Its keys and values are then repeated for its completions and the rows of a batch advance together, one new token per row
//! and step ([`decode::step`]). Prompts of different lengths are right-aligned in the cache ([`cache::Cache`]), with
//! their own positions and the empty columns before them masked, so a row's logits are those of the plain forward
//! pass of its sequence up to the order of floating-point sums. Rows that have ended leave the batch.
//!
//! Choices are made on the host in `f64` ([`sampling`]). The random number of a choice is
//! hash(seed, prompt, completion, position), never the next one of a stream: a completion draws the same numbers in any
//! batch.
//!
//! | module | contents |
//! |---|---|
//! | [`batch`] | `generate`, which completes prompts |
//! | [`cache`] | the keys and values of the tokens so far |
//! | [`decode`] | the forward pass of a prompt and of one step |
//! | [`sampling`] | the choice of the next token |
//! | [`stops`] | texts at which a completion ends |
//!
//! [`Gpt2`]: crate::Gpt2

pub mod batch;
pub mod cache;
pub mod decode;
pub mod sampling;
pub mod stops;

pub use batch::{Completion, End, Generation, Request, generate};
pub use cache::Cache;
pub use sampling::Sampling;
pub use stops::Stops;
