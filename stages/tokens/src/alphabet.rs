//! GPT-2's alphabet: each of the 256 bytes as a printable character, so that a vocabulary of byte strings can be written as text.
//!
//! Bytes that print in Latin-1 (`!` to `~`, `¡` to `¬`, `®` to `ÿ`) represent themselves; the other 68 are represented, in order, by the
//! characters from U+0100 on: a space is `Ġ`, a newline `Ċ`. (`bytes_to_unicode` of GPT-2's encoder.)

use std::sync::LazyLock;

static CHARACTERS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut characters = ['\0'; 256];
    let mut shifted = '\u{100}'..;
    for byte in 0..=u8::MAX {
        let prints = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let character = if prints { Some(char::from(byte)) } else { shifted.next() };
        characters[usize::from(byte)] = character.unwrap_or(char::REPLACEMENT_CHARACTER);
    }
    characters
});

/// The bytes in the order of their characters, which is the order of their ids in a vocabulary.
static BYTES: LazyLock<[u8; 256]> = LazyLock::new(|| {
    let mut bytes: [u8; 256] = std::array::from_fn(|index| index as u8);
    bytes.sort_by_key(|byte| CHARACTERS[usize::from(*byte)]);
    bytes
});

/// Returns the bytes in the order of their ids.
pub fn bytes() -> &'static [u8; 256] {
    &BYTES
}

/// Encodes bytes with the alphabet.
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| CHARACTERS[usize::from(*byte)]).collect()
}

/// Decodes a token of the vocabulary; `None` if a character is not in the alphabet.
pub fn decode(token: &str) -> Option<Vec<u8>> {
    let byte = |character: char| {
        let place = BYTES.binary_search_by_key(&character, |byte| CHARACTERS[usize::from(*byte)]);
        place.ok().map(|place| BYTES[place])
    };
    token.chars().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_the_one_of_tokenizers() {
        let theirs = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let ours: String = encode(bytes());
        assert_eq!(ours.chars().collect::<std::collections::BTreeSet<_>>(), theirs.into_iter().collect());
        assert!(ours.starts_with('!') && ours.ends_with('\u{143}'), "{ours}");
        assert_eq!(decode(&ours).as_deref(), Some(bytes().as_slice()));
        assert_eq!(encode(b" \n"), "ĠĊ");
    }
}
