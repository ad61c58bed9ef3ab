//! Floor 1: from documents to token ids: the stage kinds `tokenizer` and `pack`.
//!
//! | module | noun |
//! |---|---|
//! | [`packed`] | `PackedTokens`, the file that training reads |

pub mod packed;
