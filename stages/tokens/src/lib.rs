//! Floor 1: from documents to token ids: the stage kinds `tokenizer` and `pack`.
//!
//! | module | noun |
//! |---|---|
//! | [`splitter`] | words: GPT-2's pattern by hand |
//! | [`word_counts`] | how often each word occurs, in bounded memory |
//! | [`alphabet`] | the 256 bytes as printable characters |
//! | [`merges`] | byte-pair encoding, learned from counted words |
//! | [`packed`] | `PackedTokens`, the file that training reads |

pub mod alphabet;
pub mod merges;
pub mod packed;
pub mod splitter;
pub mod word_counts;
