//! From documents to token ids: the stage kinds `tokenizer` and `pack`.
//!
//! | module | contents |
//! |---|---|
//! | [`splitter`] | splits text into words by GPT-2's pattern |
//! | [`word_counts`] | counts words in bounded memory |
//! | [`alphabet`] | the 256 bytes as printable characters |
//! | [`merges`] | byte-pair encoding, learned from counted words |
//! | [`tokenizer`] | the stage kind `tokenizer` |
//! | [`text`] | `TextTokenizer`, which encodes text to ids and decodes ids |
//! | [`pack`] | the stage kind `pack` |
//! | [`packed`] | `PackedTokens`, the file that training reads |
//! | [`permutation`] | a shuffle that needs no memory |
//! | [`index`] | `DocumentIndex`, the positions of the documents in the packed tokens |

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
