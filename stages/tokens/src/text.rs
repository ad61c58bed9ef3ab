//! A trained tokenizer, which encodes text to ids and decodes ids.
//!
//! Text is encoded by fastokens, with the same `tokenizer.json` that `tokenizers` and transformers read. Text is always
//! ordinary text: `<|endoftext|>` written in a file becomes the ids of its characters, never the special id.
//!
//! Only byte-level tokenizers without a normalizer are accepted, because only their ids decode to exactly the encoded bytes.

use std::fs;

use contract::{InputTree, Result, StageError};
use serde_json::Value;

use crate::alphabet;

/// The file of a tree of type `tokenizer` that defines the whole tokenizer.
pub const FILE: &str = "tokenizer.json";
/// The file with the special tokens, in the same directory.
pub const CONFIG_FILE: &str = "tokenizer_config.json";
/// The token that ends a document, unless [`CONFIG_FILE`] names another.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// The maximum length of a token in the encoding of the vocabulary, in bytes, that the encoder's tables support.
const LONGEST_TOKEN: usize = u16::MAX as usize;

/// A byte-level tokenizer. Its methods may be called from many threads.
pub struct TextTokenizer {
    encoder: fastokens::Tokenizer,
    /// The bytes of all tokens, one after another; those of each id end at the position in `ends`.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    end_of_text: u32,
}

impl std::fmt::Debug for TextTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextTokenizer").field("vocabulary", &self.vocabulary()).finish_non_exhaustive()
    }
}

impl TextTokenizer {
    /// Opens the tokenizer of a tree of type `tokenizer`.
    ///
    /// # Errors
    /// Returns an error if a file is missing or does not describe a byte-level tokenizer with an end-of-text token.
    pub fn open(tree: &InputTree) -> Result<Self> {
        let read = |file: &contract::InputFile| {
            let text =
                fs::read(&file.location).map_err(|error| StageError::io(format!("read {}", file.path), &error))?;
            let value = serde_json::from_slice::<Value>(&text);
            value.map_err(|error| StageError::new(format!("{} is not JSON: {error}", file.path)))
        };
        let config = tree.file(CONFIG_FILE).map(read).transpose()?;
        // Either a string, or an object with the string as its content.
        let named = config.as_ref().and_then(|config| config.get("eos_token"));
        let named = named.and_then(|token| token.as_str().or_else(|| token.get("content")?.as_str()));
        Self::from_json(read(tree.required(FILE)?)?, named.unwrap_or(END_OF_TEXT))
    }

    /// Creates a tokenizer from the content of a `tokenizer.json`, with this token at the end of each document.
    ///
    /// # Errors
    /// See [`TextTokenizer::open`].
    pub fn from_json(mut json: Value, end_of_text: &str) -> Result<Self> {
        let fault = |problem: String| StageError::new(format!("{FILE} {problem}"));
        let kind = |part: &str| json.get(part).and_then(|part| part.get("type")).and_then(Value::as_str);
        if kind("model") != Some("BPE") || kind("pre_tokenizer") != Some("ByteLevel") || kind("normalizer").is_some() {
            return Err(fault("is not a byte-level tokenizer without a normalizer".to_owned())
                .hint("train one with a stage of kind 'tokenizer'"));
        }
        if json["pre_tokenizer"]["add_prefix_space"] != Value::Bool(false) {
            return Err(fault("adds a space before the text".to_owned()).hint("set add_prefix_space to false in it"));
        }
        let tokens = vocabulary(&json)
            .ok_or_else(|| fault("has a vocabulary whose ids are not 0, 1, 2 and so on".to_owned()))?;
        if let Some((token, _)) = tokens.iter().find(|(token, _)| token.len() > LONGEST_TOKEN) {
            let message = format!("has a token of {} bytes, more than the maximum of {LONGEST_TOKEN}", token.len());
            return Err(fault(message).hint("train one with max_token_length set"));
        }
        let special = |token: &Value| token["special"].as_bool().unwrap_or(false);
        let is_end = |token: &&Value| token["content"].as_str() == Some(end_of_text) && special(token);
        let end =
            json["added_tokens"].as_array().into_iter().flatten().find(is_end).and_then(|token| token["id"].as_u64());
        let end = end.and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
            fault(format!("has no special token '{end_of_text}'"))
                .hint("list it among 'special_tokens' of the stage of kind 'tokenizer'")
        })?;
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(tokens.len()));
        for (token, added) in &tokens {
            let raw = if *added { None } else { alphabet::decode(token) };
            bytes.extend_from_slice(raw.as_deref().unwrap_or(token.as_bytes()));
            ends.push(bytes.len());
        }
        // Settings for training models with batches, which must not affect the ids of a text.
        (json["truncation"], json["padding"], json["model"]["dropout"]) = (Value::Null, Value::Null, Value::Null);
        let encoder =
            fastokens::Tokenizer::from_json(json).map_err(|error| fault(format!("cannot be used: {error}")))?;
        Ok(Self { encoder, bytes, ends, end_of_text: end })
    }

    /// Encodes text, all of it as ordinary text.
    ///
    /// # Errors
    /// Returns an error if the tokenizer lacks a token for a byte of the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.encoder.encode_ordinary(text);
        ids.map_err(|error| StageError::new(format!("cannot tokenise text: {error}")))
    }

    /// Encodes a prompt like [`TextTokenizer::encode`]; an empty prompt becomes the end-of-text token, from which a model starts a new
    /// document.
    ///
    /// # Errors
    /// See [`TextTokenizer::encode`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        if text.is_empty() { Ok(vec![self.end_of_text()]) } else { self.encode(text) }
    }

    /// Decodes ids to text; invalid UTF-8 (a character cut in two) becomes U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        String::from_utf8_lossy(&self.decode_bytes(ids)).into_owned()
    }

    /// Decodes ids to bytes, exactly. Ids outside the vocabulary are skipped.
    pub fn decode_bytes(&self, ids: &[u32]) -> Vec<u8> {
        ids.iter().flat_map(|id| self.token_bytes(*id)).copied().collect()
    }

    /// Returns the bytes that an id decodes to (for a special token, the bytes of its name); empty for an id outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let start = if id == 0 { 0 } else { self.ends.get(id - 1).copied().unwrap_or(self.bytes.len()) };
        let end = self.ends.get(id).copied().unwrap_or(self.bytes.len());
        &self.bytes[start..end]
    }

    /// Returns the id that ends each document.
    pub fn end_of_text(&self) -> u32 {
        self.end_of_text
    }

    /// Returns the number of ids: every id is below it.
    pub fn vocabulary(&self) -> u32 {
        self.ends.len() as u32
    }

    /// Returns the id of a token by its bytes, if it is in the vocabulary. Searches all tokens.
    pub fn id_of(&self, bytes: &[u8]) -> Option<u32> {
        (0..self.vocabulary()).find(|id| *id != self.end_of_text && self.token_bytes(*id) == bytes)
    }
}

/// Returns the tokens by id, and whether each is an added token; `None` unless the ids are 0, 1, 2 and so on.
fn vocabulary(json: &Value) -> Option<Vec<(String, bool)>> {
    let model = json["model"]["vocab"].as_object()?;
    let added = json["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
    let mut tokens = vec![None; model.len() + added.len()];
    for (token, id) in model {
        *tokens.get_mut(usize::try_from(id.as_u64()?).ok()?)? = Some((token.clone(), false));
    }
    for token in added {
        let place = tokens.get_mut(usize::try_from(token["id"].as_u64()?).ok()?)?;
        *place = Some((token["content"].as_str()?.to_owned(), true));
    }
    let used = tokens.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    tokens.truncate(used);
    tokens.into_iter().collect()
}
