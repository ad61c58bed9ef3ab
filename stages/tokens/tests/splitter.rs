//! The hand-written splitter against the regex of `tokenizers`.

mod corpus;

use proptest::prelude::*;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};
use tokens::splitter::words;

/// The words of the reference.
fn reference(text: &str) -> Vec<String> {
    let mut split = PreTokenizedString::from(text);
    ByteLevel::new(false, true, true).pre_tokenize(&mut split).unwrap();
    split
        .get_splits(OffsetReferential::Original, OffsetType::Byte)
        .into_iter()
        .map(|(_, (start, end), _)| text[start..end].to_owned())
        .collect()
}

fn check(text: &str) {
    assert_eq!(words(text).collect::<Vec<_>>(), reference(text), "{text:?}");
}

#[test]
fn the_sample_program_of_the_seed_is_cut_as_the_seed_shows() {
    let program = "def say_hello():\n    print(\"Hello, World!\")\n# Print it\nsay_hello()\n";
    let expected = [
        "def", " say", "_", "hello", "():", "\n   ", " print", "(\"", "Hello", ",", " World", "!\")", "\n", "#",
        " Print", " it", "\n", "say", "_", "hello", "()", "\n",
    ];
    assert_eq!(words(program).collect::<Vec<_>>(), expected);
}

#[test]
fn contractions_spaces_and_ends_are_cut_as_the_pattern_says() {
    for text in [
        "",
        " ",
        "  ",
        "a",
        " a",
        "  a",
        "a ",
        "a  ",
        "a \n",
        "\n a",
        "\n\n\ta",
        "\u{a0}a",
        " \u{a0}a",
        "\u{3000} x",
        "'s",
        "'sa",
        "'re",
        "'r",
        "'ve'll'd'm't",
        "it's",
        "x''s",
        " 's",
        "(\"'s",
        "'S",
        "'l",
        "'",
        "''",
        "'é",
        "'\u{1F600}",
        "²³½Ⅷ",
        "ªº",
        "a\u{301}b",
        "日本語 テキスト",
        "\u{1F468}\u{200D}\u{1F469}",
        "\r\n",
        "\u{85}x",
        "\u{2028} y",
        "\u{feff}a",
        "\u{0}\u{1}",
        " \u{0}",
        "1a1 1a",
        "a_b",
        "__init__",
        "0x1F",
        "\u{e000}",
        "\u{10ffff}",
        "\u{180e}a",
    ] {
        check(text);
    }
}

#[test]
fn every_character_is_of_the_class_that_the_regex_gives_it() {
    // In chunks, so that a failure is short; each character between letters, after a space and after a newline.
    let characters: Vec<char> = (0..=char::MAX as u32).filter_map(char::from_u32).collect();
    for chunk in characters.chunks(4096) {
        let text: String = chunk.iter().flat_map(|c| ['a', *c, ' ', *c, '1', '\n', *c, '.']).collect();
        assert!(words(&text).eq(reference(&text).iter().map(String::as_str)), "near {:?}", chunk[0]);
    }
}

/// Characters on which the pattern turns, more often than chance would have them.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "'", "s", "t", "re", "ve", "m", "ll", "d", " ", "  ", "\n", "\t", "\r\n", "\u{a0}", "\u{3000}", "\u{200b}", "\u{2028}",
        ]).prop_map(str::to_owned),
        2 => "[ -~]{0,4}",
        2 => any::<char>().prop_map(String::from),
        1 => "\\PC{0,4}",
        1 => "\\p{L}{1,3}",
        1 => "\\p{N}{1,3}",
        1 => "\\p{M}{1,2}",
        1 => "\\s{1,3}",
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_cut_as_the_regex_cuts_it(text in text()) {
        let ours: Vec<&str> = words(&text).collect();
        prop_assert_eq!(ours.concat(), text.clone());
        prop_assert_eq!(ours, reference(&text));
    }
}

#[test]
fn real_files_are_cut_as_the_regex_cuts_them() {
    let Some(texts) = corpus::texts(300) else { return };
    for text in &texts {
        let theirs = reference(text);
        assert!(words(text).eq(theirs.iter().map(String::as_str)), "{}", &text[..text.len().min(200)]);
    }
}
