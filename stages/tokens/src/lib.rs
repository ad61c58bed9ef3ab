//! Floor 1: from documents to token ids: the stage kinds `tokenizer` and `pack`.
//!
//! | module | noun |
//! |---|---|
//! | [`splitter`] | words: GPT-2's pattern by hand |
//! | [`word_counts`] | how often each word occurs, in bounded memory |
//! | [`alphabet`] | the 256 bytes as printable characters |
//! | [`merges`] | byte-pair encoding, learned from counted words |
//! | [`tokenizer`] | the stage kind `tokenizer` |
//! | [`text`] | `TextTokenizer`, for all who turn text into ids and back |
//! | [`pack`] | the stage kind `pack` |
//! | [`packed`] | `PackedTokens`, the file that training reads |
//! | [`permutation`] | a shuffle that needs no memory |
//! | [`index`] | `DocumentIndex`, which document lies where in it |

pub mod alphabet;
mod documents;
pub mod index;
pub mod merges;
pub mod pack;
pub mod packed;
pub mod permutation;
mod selection;
pub mod splitter;
pub mod text;
pub mod tokenizer;
pub mod word_counts;

pub use pack::Pack;
pub use tokenizer::Tokenizer;
