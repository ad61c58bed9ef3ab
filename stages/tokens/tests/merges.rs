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
use tokens::word_counts::{CountedWords, Counter, WordCounts};

/// Without special tokens: the bytes take the first 256 ids.
fn ours(counted: &CountedWords, vocabulary: u32, min_frequency: u64) -> Learned {
    let mut ids = [0; 256];
    for (id, byte) in (0..).zip(alphabet::bytes()) {
        ids[usize::from(*byte)] = id;
    }
    learn(counted, &ids, 256, Goal { vocabulary, min_frequency }, &Progress::default(), &Cancel::default()).unwrap()
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

/// The learned tokens in order of ids, by the reference's trainer.
fn theirs(texts: &[String], vocabulary: usize, min_frequency: u64) -> Vec<String> {
    let mut trainer = BpeTrainer::builder()
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

#[test]
fn a_real_export_gives_the_tokens_of_the_reference() {
    let Some(texts) = corpus::texts(1000) else { return };
    assert_eq!(tokens(&ours(&count(&texts, usize::MAX), 4000, 0)), theirs(&texts, 4000, 0));
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
        let reference = theirs(&texts, vocabulary, min_frequency);
        let twice = learned.merges.len() - learned.tokens.len();
        if twice == 0 {
            prop_assert_eq!(tokens(&learned), reference);
        } else {
            let both = tokens(&learned).iter().zip(&reference).take_while(|(ours, theirs)| ours == theirs).count();
            prop_assert!(both > 0);
        }
    }
}
