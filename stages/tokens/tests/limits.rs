//! Each internal size of the tokenizer and of pack, at it, one below and one above: every byte is counted and comes back.

mod corpus;

use std::collections::BTreeMap;

use contract::harness::Harness;
use serde_json::json;
use tokens::index::DocumentIndex;
use tokens::packed::{FILE, HEADER_SIZE, Header, PackedTokens, PackedWriter};
use tokens::text::TextTokenizer;
use tokens::word_counts::{Counter, PIECE_BYTES, WordCounts};
use tokens::{Pack, Tokenizer};

fn around(size: usize) -> [usize; 3] {
    [size - 1, size, size + 1]
}

#[test]
fn words_around_the_limit_of_64_kib_are_counted_whole_or_in_pieces() {
    assert_eq!(PIECE_BYTES, 65_536);
    for length in around(PIECE_BYTES).into_iter().chain(around(2 * PIECE_BYTES)) {
        // In memory, and through a run on disk, which holds the length of each word.
        for budget in [usize::MAX, 0] {
            let folder = tempfile::tempdir().unwrap();
            let mut counts = WordCounts::new(folder.path(), budget);
            let mut counter = Counter::default();
            counter.count(&"a".repeat(length));
            counts.absorb(&mut counter).unwrap();
            let found = counts.finish(u64::MAX).unwrap();
            let mut expected = BTreeMap::<usize, u64>::new();
            *expected.entry(PIECE_BYTES).or_default() += (length / PIECE_BYTES) as u64;
            *expected.entry(length % PIECE_BYTES).or_default() += 1;
            expected.retain(|length, count| *length > 0 && *count > 0);
            let found: BTreeMap<usize, u64> = found.iter().map(|(word, count)| (word.len(), count)).collect();
            assert_eq!(found, expected, "{length} bytes, budget {budget}");
        }
    }
}

#[test]
fn words_are_counted_exactly_around_the_runs_that_are_merged_at_once() {
    for runs in around(32).into_iter().chain(around(64)) {
        let folder = tempfile::tempdir().unwrap();
        let mut counts = WordCounts::new(folder.path(), 0);
        for run in 0..runs {
            let mut counter = Counter::default();
            counter.count(&format!("w{run} all"));
            counts.absorb(&mut counter).unwrap();
        }
        let found = counts.finish(u64::MAX).unwrap();
        assert_eq!((found.total, found.distinct), (3 * runs as u64, 2 + runs as u64), "{runs} runs");
        assert!(found.iter().any(|(word, count)| word == b" all" && count == runs as u64));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "runs are removed");
    }
}

#[test]
fn ids_take_two_bytes_up_to_a_vocabulary_of_65_536() {
    let folder = tempfile::tempdir().unwrap();
    for vocabulary in around(1 << 16).map(|size| size as u32) {
        let ids = [0, 1, vocabulary / 2, vocabulary - 2, vocabulary - 1, 255, 256, 65_534];
        let header = Header {
            vocabulary,
            end_of_text: vocabulary - 1,
            sequence_length: 4,
            sequences: 2,
            documents: 1,
            text_bytes: 1,
        };
        let mut writer = PackedWriter::new(Vec::new(), header).unwrap();
        writer.push(&ids).unwrap();
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes.len(), HEADER_SIZE + ids.len() * if vocabulary > 65_536 { 4 } else { 2 });
        let packed = PackedTokens::open(&corpus::tree_of(folder.path(), FILE, &bytes)).unwrap();
        let mut read = Vec::new();
        (0..2).for_each(|sequence| packed.read(sequence, &mut read).unwrap());
        assert_eq!(read, ids);
        let mut outside = PackedWriter::new(Vec::new(), header).unwrap();
        assert!(outside.push(&[vocabulary]).is_err());
    }
}

#[test]
fn texts_around_the_sizes_that_pack_treats_differently_come_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    // Up to 256 KiB a text may be encoded by the reference too; past 8 MiB it is encoded in pieces.
    let line = "value = self.items[12] + 7\n";
    let text = |bytes: usize| {
        let mut text = line.repeat(bytes / line.len() + 1);
        text.truncate(bytes);
        text
    };
    let mut texts = corpus::invented(50);
    texts.extend(around(256 << 10).into_iter().chain(around(8 << 20)).map(text));
    let mut harness = Harness::new(folder.path());
    let table = corpus::table(&folder.path().join("table"), &texts, &["a", "b"]);
    harness.connect("documents", &table);
    let tokenizer = harness.run::<Tokenizer>(json!({ "vocabulary": 450 })).unwrap().remove("tokenizer").unwrap();
    harness.inputs.clear();
    harness.connect("train", &table).connect("tokenizer", &tokenizer);
    let tokenizer = TextTokenizer::open(&tokenizer).unwrap();
    let outputs = harness.run::<Pack>(json!({ "sequence_length": 2 })).unwrap();
    let (index, packed) =
        (DocumentIndex::open(&outputs["train"]).unwrap(), PackedTokens::open(&outputs["train"]).unwrap());
    let mut stream = Vec::new();
    (0..packed.sequences()).for_each(|sequence| packed.read(sequence, &mut stream).unwrap());
    let mut expected: BTreeMap<String, &String> =
        texts.iter().enumerate().map(|(n, text)| (corpus::id(n, text).to_string(), text)).collect();
    for entry in (0..index.documents()).map(|document| index.get(document).unwrap()) {
        let text = expected.remove(&entry.id.to_string()).unwrap();
        let ids = &stream[entry.start as usize..(entry.start + entry.tokens - 1) as usize];
        assert!(tokenizer.decode_bytes(ids) == text.as_bytes(), "a text of {} bytes", text.len());
    }
    assert!(expected.is_empty());
}
