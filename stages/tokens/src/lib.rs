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
//! | [`packed`] | `PackedTokens`, the file that training reads |

pub mod alphabet;
mod documents;
pub mod merges;
pub mod packed;
mod selection;
pub mod splitter;
pub mod text;
pub mod tokenizer;
pub mod word_counts;

pub use tokenizer::Tokenizer;
