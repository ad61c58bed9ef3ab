//! A completion's text piece by piece, against the text of all of its bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use model::generate::stream::completion_text;
use model::generate::{Stops, TextStream};
use proptest::prelude::*;

/// Returns the pieces of a completion whose tokens have these bytes, the rest last.
fn pieces(stops: &Stops, tokens: &[&[u8]]) -> Vec<String> {
    let mut stream = TextStream::new(stops);
    let mut pieces: Vec<String> = tokens.iter().map(|token| stream.push(token)).collect();
    pieces.push(stream.finish());
    pieces
}

/// Text of few different characters, so that stop texts, white space, characters of several bytes and invalid bytes meet.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        &b"a"[..],
        b"b",
        b"ab",
        b"\n",
        b" ",
        b"\nd",
        "\u{e9}".as_bytes(),
        "\u{2003}".as_bytes(),
        "\u{1f600}".as_bytes(),
        b"\xf0\x9f",
        b"\x80",
        b"\xe2\x80",
        b"\xff",
    ]);
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

fn stops() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let stop = prop::sample::select(vec![
        &b"\nd"[..],
        b"\n\n",
        b"aab",
        b"ab",
        b"b",
        b"\n ab",
        b"bbbb",
        "a\u{e9}".as_bytes(),
        "\u{1f600}\n".as_bytes(),
        b"\x80a",
    ]);
    prop::collection::vec(stop.prop_map(<[u8]>::to_vec), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_pieces_of_any_split_are_the_text(
        bytes in bytes(), stops in stops(), splits in prop::collection::vec(0usize..100, 0..30),
    ) {
        let stops = Stops::new(stops);
        let mut places: Vec<usize> = splits.into_iter().map(|place| place % (bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let tokens: Vec<&[u8]> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(pieces(&stops, &tokens).concat(), completion_text(&bytes, &stops));
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(pieces(&stops, &single).concat(), completion_text(&bytes, &stops));
    }

    /// A piece never has to be taken back, however the text goes on.
    #[test]
    fn what_was_returned_begins_every_longer_text(start in bytes(), more in bytes(), stops in stops()) {
        let stops = Stops::new(stops);
        let returned = TextStream::new(&stops).push(&start);
        let all = completion_text(&[start, more].concat(), &stops);
        prop_assert!(all.starts_with(&returned), "{:?} does not begin with {:?}", all, returned);
    }
}

#[test]
fn text_is_returned_as_soon_as_it_is_certain() {
    let stops = Stops::new(["\ndef", "\n#"]);
    let tokens: [&[u8]; 9] = [b"x", b" =", b" ", b"\xc3", b"\xa9", b"\n", b"y", b"\nde", b"f f"];
    assert_eq!(pieces(&stops, &tokens), ["x", " =", "", "", " \u{e9}", "", "\ny", "", "", ""]);
}

#[test]
fn what_may_have_been_a_stop_text_is_returned_when_it_is_none() {
    let stops = Stops::new(["\ndef"]);
    assert_eq!(pieces(&stops, &[b"a\nd", b"e", b"\nx"]), ["a", "", "\nde\nx", ""]);
    assert_eq!(pieces(&stops, &[b"a\nde"]), ["a", "\nde"]);
}

#[test]
fn a_character_whose_last_bytes_never_come_is_replaced() {
    let stops = Stops::default();
    assert_eq!(pieces(&stops, &[b"a\xe2\x82"]), ["a", "\u{fffd}"]);
    assert_eq!(pieces(&stops, &[b"a\xe2\x82", b"b"]), ["a", "\u{fffd}b", ""]);
}
