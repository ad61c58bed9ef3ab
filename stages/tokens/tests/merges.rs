//! Counting and learning against `tokenizers`' trainer.

mod corpus;

use std::collections::BTreeMap;

use contract::{Cancel, Progress};
use proptest::prelude::*;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::Trainer;
use tokens::alphabet;
use tokens::merges::{Goal, Learned, learn};
use tokens::splitter::words;
use tokens::word_counts::{CountedWords, Counter, PIECE_BYTES, WordCounts};

/// Without special tokens: the bytes take the first 256 ids.
fn ours(counted: &CountedWords, vocabulary: u32, min_frequency: u64) -> Learned {
    bounded(counted, Goal { vocabulary, min_frequency, max_length: 1024 })
}

fn bounded(counted: &CountedWords, goal: Goal) -> Learned {
    let mut ids = [0; 256];
    for (id, byte) in (0..).zip(alphabet::bytes()) {
        ids[usize::from(*byte)] = id;
    }
    learn(counted, &ids, 256, goal, &Progress::default(), &Cancel::default()).unwrap()
}

fn count(texts: &[String], budget: usize) -> CountedWords {
    let folder = tempfile::tempdir().unwrap();
    let mut counts = WordCounts::new(folder.path(), budget);
    for text in texts {
        let mut counter = Counter::default();
        counter.count(text);
        counts.absorb(&mut counter).unwrap();
    }
    counts.finish(u64::MAX).unwrap()
}

/// The module's docs word for word: everything is counted anew for each merge. The merges and the tokens.
fn by_the_book(counted: &CountedWords, goal: Goal) -> (Vec<(u32, u32)>, Vec<Vec<u8>>) {
    let id_of = |byte: &u8| alphabet::bytes().iter().position(|other| other == byte).unwrap() as u32;
    let mut spelled: Vec<Vec<u8>> = alphabet::bytes().iter().map(|byte| vec![*byte]).collect();
    let mut words: Vec<(Vec<u32>, u64)> =
        counted.iter().map(|(word, count)| (word.iter().map(id_of).collect(), count)).collect();
    let mut merges = Vec::<(u32, u32)>::new();
    while spelled.len() < goal.vocabulary as usize {
        let mut counts = BTreeMap::<(u32, u32), u64>::new();
        for (word, count) in &words {
            word.windows(2).for_each(|pair| *counts.entry((pair[0], pair[1])).or_default() += count);
        }
        let length = |pair: &(u32, u32)| spelled[pair.0 as usize].len() + spelled[pair.1 as usize].len();
        counts.retain(|pair, _| length(pair) <= goal.max_length as usize);
        let again = counts.keys().find(|pair| merges.contains(pair)).copied();
        let best = counts.iter().max_by_key(|(pair, count)| (**count, std::cmp::Reverse(**pair)));
        let Some(pair) = again.or(best.filter(|(_, count)| **count >= goal.min_frequency).map(|(pair, _)| *pair))
        else {
            break;
        };
        let bytes = [spelled[pair.0 as usize].as_slice(), &spelled[pair.1 as usize]].concat();
        let id = spelled.iter().position(|token| *token == bytes).unwrap_or(spelled.len());
        if id == spelled.len() {
            spelled.push(bytes);
        }
        if again.is_none() {
            merges.push(pair);
        }
        for (word, _) in &mut words {
            let mut at = 0;
            while at + 1 < word.len() {
                if (word[at], word[at + 1]) == pair {
                    word.splice(at..at + 2, [id as u32]);
                }
                at += 1;
            }
        }
    }
    (merges, spelled.split_off(256))
}

/// The learned tokens in order of ids, by the reference's trainer. Its bound on a token's length is one too high.
fn theirs(texts: &[String], vocabulary: usize, min_frequency: u64, max_length: Option<usize>) -> Vec<String> {
    let mut trainer = BpeTrainer::builder()
        .max_token_length(max_length.map(|length| length + 1))
        .vocab_size(vocabulary)
        .min_frequency(min_frequency)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build();
    let split = |text: &str| Ok(words(text).map(|word| alphabet::encode(word.as_bytes())).collect());
    trainer.feed(texts.iter(), split).unwrap();
    let mut model = BPE::default();
    trainer.train(&mut model).unwrap();
    let mut tokens: Vec<_> = model.get_vocab().into_iter().map(|(token, id)| (id, token)).collect();
    tokens.sort();
    tokens.into_iter().skip(256).map(|(_, token)| token).collect()
}

fn tokens(learned: &Learned) -> Vec<String> {
    learned.tokens.iter().map(|token| alphabet::encode(token)).collect()
}

#[test]
fn words_are_counted_exactly_whatever_the_budget() {
    let texts: Vec<String> = (0..200).map(|n| format!("x{} = {n}\n    it's {}\n", n % 7, "ab".repeat(n))).collect();
    let mut expected = BTreeMap::<&[u8], u64>::new();
    for word in texts.iter().flat_map(|text| words(text)) {
        *expected.entry(word.as_bytes()).or_default() += 1;
    }
    for budget in [0, 1000, 100_000, usize::MAX] {
        let counted = count(&texts, budget);
        assert!(counted.iter().eq(expected.iter().map(|(word, count)| (*word, *count))), "budget {budget}");
        assert_eq!(counted.distinct, expected.len() as u64);
        assert_eq!(counted.total, expected.values().sum::<u64>());
    }
}

#[test]
fn a_longer_word_is_counted_in_pieces_in_memory_and_on_disk() {
    for (length, pieces) in [(PIECE_BYTES - 1, 1), (PIECE_BYTES, 1), (PIECE_BYTES + 1, 2), (2 * PIECE_BYTES + 1, 3)] {
        for budget in [0, usize::MAX] {
            let counted = count(&["x".repeat(length), "y".to_owned()], budget);
            assert_eq!(counted.total, pieces + 1, "{length} {budget}");
            let bytes: u64 = counted.iter().map(|(word, count)| word.len() as u64 * count).sum();
            assert_eq!(bytes, length as u64 + 1);
        }
    }
}

#[test]
fn the_limit_keeps_the_most_frequent_words_and_of_equal_ones_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut counts = WordCounts::new(folder.path(), usize::MAX);
    let mut counter = Counter::default();
    counter.count("c b a d d d a");
    counts.absorb(&mut counter).unwrap();
    // Words: "c" 1, " b" 1, " a" 2, " d" 3.
    let kept = counts.finish(6).unwrap();
    assert_eq!(kept.iter().map(|(word, _)| word).collect::<Vec<_>>(), [&b" a"[..], b" b", b" d"]);
    assert_eq!((kept.distinct, kept.total), (4, 7));
}

#[test]
fn counts_past_32_bits_do_not_overflow() {
    let mut counted = CountedWords::default();
    counted.push(b"ab", 3 << 32);
    counted.push(b"cd", (3 << 32) + 1);
    let learned = ours(&counted, 258, 0);
    assert_eq!(learned.tokens, [b"cd".to_vec(), b"ab".to_vec()]);
    assert_eq!(learned.uses.iter().sum::<u64>(), (6 << 32) + 1);
}

#[test]
fn ties_go_to_the_smaller_ids() {
    let mut counted = CountedWords::default();
    counted.push(b"ba", 1);
    counted.push(b"bc", 1);
    counted.push(b"zz", 1);
    assert_eq!(ours(&counted, 259, 0).tokens, [b"ba".to_vec(), b"bc".to_vec(), b"zz".to_vec()]);
}

#[test]
fn a_pair_below_the_minimum_frequency_is_not_merged() {
    let mut counted = CountedWords::default();
    counted.push(b"ab", 5);
    counted.push(b"cd", 4);
    assert_eq!(ours(&counted, 1000, 5).tokens, [b"ab".to_vec()]);
}

#[test]
fn overlapping_pairs_are_merged_from_the_left() {
    let mut counted = CountedWords::default();
    counted.push(b"aaaaa", 1);
    let learned = ours(&counted, 1000, 0);
    assert_eq!(learned.tokens, [b"aa".to_vec(), b"aaa".to_vec(), b"aaaaa".to_vec()]);
}

/// One word of `length` equal letters.
fn a_long_word(length: usize) -> CountedWords {
    count(&["a".repeat(length)], usize::MAX)
}

#[test]
fn a_word_of_the_largest_size_teaches_tokens_up_to_the_bound() {
    for length in [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1] {
        let counted = a_long_word(length);
        assert_eq!(counted.len(), 1 + usize::from(length > PIECE_BYTES));
        for max_length in [255, 256, 257] {
            let learned = bounded(&counted, Goal { vocabulary: 32_768, min_frequency: 0, max_length });
            assert!(learned.met_max_length);
            let longest = learned.tokens.iter().map(Vec::len).max().unwrap();
            // Powers of two are learned first, then what is left over between them and the bound.
            assert!(longest <= max_length as usize && longest >= 128, "{longest} of {max_length}");
            assert_eq!(longest >= 256, max_length >= 256, "{longest} of {max_length}");
            let bytes: u64 = (0..).zip(&learned.uses).map(|(id, uses)| uses * size(&learned, id)).sum();
            assert_eq!(bytes, length as u64);
        }
    }
}

fn size(learned: &Learned, id: usize) -> u64 {
    id.checked_sub(256).map_or(1, |place| learned.tokens[place].len() as u64)
}

#[test]
fn a_word_up_to_the_bound_is_not_cut_short_by_it() {
    for (length, met) in [(255, false), (256, false), (257, true)] {
        let goal = Goal { vocabulary: 1000, min_frequency: 0, max_length: 256 };
        let learned = bounded(&a_long_word(length), goal);
        assert_eq!(learned.met_max_length, met, "{length}");
        let longest = learned.tokens.iter().map(Vec::len).max().unwrap();
        // 257 letters end as 128 and 129, which together are too long.
        assert_eq!(longest, if met { 129 } else { length }, "{length}");
    }
    let met = |length| {
        bounded(&a_long_word(length), Goal { vocabulary: 1000, min_frequency: 0, max_length: 1 }).met_max_length
    };
    assert_eq!([met(1), met(2)], [false, true]);
}

#[test]
fn a_real_export_gives_the_tokens_of_the_reference() {
    let Some(texts) = corpus::texts(1000) else { return };
    assert_eq!(tokens(&ours(&count(&texts, usize::MAX), 4000, 0)), theirs(&texts, 4000, 0, None));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Few letters and short words, so that ties and strings spelled twice are many. The reference visits the entries of
    /// a pair that was spelled twice in the order of its hash maps, so such cases are compared up to the first of them.
    #[test]
    fn the_tokens_are_those_of_the_reference(
        texts in prop::collection::vec("([a-d]{1,9} ?){0,20}", 1..6),
        vocabulary in 257usize..330,
        min_frequency in 0u64..4,
    ) {
        let learned = ours(&count(&texts, 500), vocabulary as u32, min_frequency);
        let reference = theirs(&texts, vocabulary, min_frequency, None);
        let twice = learned.merges.len() - learned.tokens.len();
        if twice == 0 {
            prop_assert_eq!(tokens(&learned), reference);
        } else {
            let both = tokens(&learned).iter().zip(&reference).take_while(|(ours, theirs)| ours == theirs).count();
            prop_assert!(both > 0);
        }
    }

    /// With strings spelled twice and pairs that are too long, in words that are longer than a block of places.
    #[test]
    fn the_merges_are_those_of_the_definition(
        texts in prop::collection::vec("([a-c]{1,40} ?){0,6}", 1..4),
        vocabulary in 257u32..300,
        min_frequency in 0u64..4,
        max_length in 1u32..12,
    ) {
        let goal = Goal { vocabulary, min_frequency, max_length };
        let counted = count(&texts, 500);
        let learned = bounded(&counted, goal);
        prop_assert_eq!((learned.merges, learned.tokens), by_the_book(&counted, goal));
    }

    #[test]
    fn the_bound_is_that_of_the_reference(
        texts in prop::collection::vec("([a-d]{1,9} ?){0,20}", 1..6),
        vocabulary in 257usize..330,
        max_length in 2usize..9,
    ) {
        let goal = Goal { vocabulary: vocabulary as u32, min_frequency: 0, max_length: max_length as u32 };
        let learned = bounded(&count(&texts, 500), goal);
        if learned.merges.len() == learned.tokens.len() {
            prop_assert_eq!(tokens(&learned), theirs(&texts, vocabulary, 0, Some(max_length)));
        }
    }
}
