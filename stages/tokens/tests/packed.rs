//! The file of packed tokens: written, read back, and given hostile bytes.

mod corpus;

use contract::InputTree;
use proptest::prelude::*;
use tokens::index::{DocumentIndex, Entry, IndexWriter};
use tokens::packed::{FILE, HEADER_SIZE, Header, PackedTokens, PackedWriter};
use tokens::permutation::Permutation;

fn header(vocabulary: u32, sequence_length: u64, sequences: u64) -> Header {
    Header { vocabulary, end_of_text: 0, sequence_length, sequences, documents: 3, text_bytes: 77 }
}

fn write(header: Header, ids: &[u32]) -> Vec<u8> {
    let mut writer = PackedWriter::new(Vec::new(), header).unwrap();
    // Split over calls where it does not suit the sequences.
    ids.chunks(5).for_each(|ids| writer.push(ids).unwrap());
    writer.finish().unwrap()
}

fn open(folder: &std::path::Path, bytes: &[u8]) -> contract::Result<PackedTokens> {
    let tree: InputTree = corpus::tree_of(folder, FILE, bytes);
    PackedTokens::open(&tree)
}

#[test]
fn ids_of_two_and_of_four_bytes_read_back() {
    let folder = tempfile::tempdir().unwrap();
    for (vocabulary, width) in [(65_536, 2), (65_537, 4)] {
        let ids: Vec<u32> = (0..24).map(|n| if n % 2 == 0 { vocabulary - 1 - n } else { n }).collect();
        let bytes = write(header(vocabulary, 8, 3), &ids);
        assert_eq!(bytes.len(), HEADER_SIZE + 24 * width);
        let packed = open(folder.path(), &bytes).unwrap();
        assert_eq!((packed.sequences(), packed.sequence_length(), packed.vocabulary()), (3, 8, vocabulary));
        assert_eq!((packed.text_bytes(), packed.end_of_text(), packed.header().documents), (77, 0, 3));
        let mut read = vec![9];
        (0..3).for_each(|sequence| packed.read(sequence, &mut read).unwrap());
        assert_eq!(read[1..], ids);
    }
}

#[test]
fn the_bytes_are_those_that_the_docs_say() {
    let bytes = write(header(300, 2, 1), &[1, 299]);
    let mut expected = b"plTokens\x01\0\0\0\x02\0\0\0\x2c\x01\0\0\0\0\0\0".to_vec();
    for number in [2u64, 1, 3, 77, 0] {
        expected.extend(number.to_le_bytes());
    }
    expected.extend([1, 0, 0x2b, 1]);
    assert_eq!(bytes, expected);
}

#[test]
fn a_sequence_out_of_range_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let packed = open(folder.path(), &write(header(300, 2, 1), &[1, 2])).unwrap();
    let mut ids = vec![7];
    for sequence in [1, usize::MAX] {
        assert!(packed.read(sequence, &mut ids).is_err());
    }
    assert_eq!(ids, [7]);
}

#[test]
fn no_sequences_are_a_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let packed = open(folder.path(), &write(header(300, 1024, 0), &[])).unwrap();
    assert_eq!(packed.sequences(), 0);
}

#[test]
fn an_id_outside_the_vocabulary_is_an_error_of_the_read_that_meets_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = write(header(300, 2, 2), &[1, 2, 3, 4]);
    let last = bytes.len() - 2;
    bytes[last..].copy_from_slice(&300u16.to_le_bytes());
    let packed = open(folder.path(), &bytes).unwrap();
    let mut ids = Vec::new();
    packed.read(0, &mut ids).unwrap();
    let error = packed.read(1, &mut ids).unwrap_err().to_string();
    assert!(error.contains("sequence 1 contains id 300"), "{error}");
    assert_eq!(ids, [1, 2]);
}

#[test]
fn wrong_counts_do_not_write() {
    let mut writer = PackedWriter::new(Vec::new(), header(300, 2, 1)).unwrap();
    assert!(writer.push(&[300]).is_err());
    assert!(writer.push(&[1, 2, 3]).is_err());
    writer = PackedWriter::new(Vec::new(), header(300, 2, 1)).unwrap();
    writer.push(&[1]).unwrap();
    assert!(writer.finish().is_err());
    assert!(PackedWriter::new(Vec::new(), header(300, u64::MAX, 3)).is_err());
    assert!(PackedWriter::new(Vec::new(), header(0, 2, 1)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Truncated, extended, or with a changed byte in the header: refused, or the same counts; never a panic.
    #[test]
    fn hostile_files_do_not_open(cut in 0usize..80, at in 0usize..HEADER_SIZE, value: u8, more in 1usize..9) {
        let folder = tempfile::tempdir().unwrap();
        let bytes = write(header(300, 2, 4), &[1; 8]);
        prop_assume!(cut < bytes.len());
        prop_assert!(open(folder.path(), &bytes[..cut]).is_err());
        prop_assert!(open(folder.path(), &[&bytes[..], &vec![0; more]].concat()).is_err());
        let mut changed = bytes.clone();
        changed[at] = value;
        if let Ok(packed) = open(folder.path(), &changed) {
            // Other sequence counts of the same size read back; nothing reads outside.
            let mut ids = Vec::new();
            for sequence in 0..packed.sequences() + 2 {
                prop_assert_eq!(packed.read(sequence, &mut ids).is_ok(), sequence < packed.sequences());
            }
        }
    }

    #[test]
    fn a_permutation_hits_each_place_once(key: u64, count in 1u64..3000) {
        let order = Permutation::new(key, count);
        let mut hit = vec![false; count as usize];
        for index in 0..count {
            prop_assert!(!std::mem::replace(&mut hit[order.apply(index) as usize], true));
        }
    }
}

#[test]
fn the_index_reads_back_and_refuses_other_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let head = tokens::index::Header { documents: 2, sequences: 5, permutation: Some(7) };
    let entry = |n: u64| Entry { id: contract::Digest::of(&[n as u8]), start: n * 10, tokens: 10 };
    let mut writer = IndexWriter::new(Vec::new(), head).unwrap();
    (0..2).for_each(|n| writer.push(entry(n)).unwrap());
    let bytes = writer.finish().unwrap();
    let index = DocumentIndex::open(&corpus::tree_of(folder.path(), tokens::index::FILE, &bytes)).unwrap();
    assert_eq!(index.documents(), 2);
    assert_eq!([index.get(0), index.get(1), index.get(2)], [Some(entry(0)), Some(entry(1)), None]);
    for bad in [&bytes[..bytes.len() - 1], &bytes[..10], b""] {
        assert!(DocumentIndex::open(&corpus::tree_of(folder.path(), tokens::index::FILE, bad)).is_err());
    }
}

#[test]
fn a_token_belongs_to_the_document_that_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    // The second document is empty but for its end-of-text token.
    let lengths = [5, 1, 3];
    let head = tokens::index::Header { documents: 3, sequences: 4, permutation: None };
    let mut writer = IndexWriter::new(Vec::new(), head).unwrap();
    let mut start = 0;
    for (number, tokens) in lengths.into_iter().enumerate() {
        writer.push(Entry { id: contract::Digest::of(&[number as u8]), start, tokens }).unwrap();
        start += tokens;
    }
    let bytes = writer.finish().unwrap();
    let index = DocumentIndex::open(&corpus::tree_of(folder.path(), tokens::index::FILE, &bytes)).unwrap();
    let found: Vec<_> = (0..10).map(|token| index.at(token).map(|(document, _)| document)).collect();
    let expected = [0, 0, 0, 0, 0, 1, 2, 2, 2].map(Some);
    assert_eq!(found[..9], expected);
    assert_eq!((found[9], index.sequences()), (None, 4));
    assert_eq!(index.at(7).unwrap().1, index.get(2).unwrap());

    let head = tokens::index::Header { documents: 0, sequences: 0, permutation: None };
    let bytes = IndexWriter::new(Vec::new(), head).unwrap().finish().unwrap();
    let index = DocumentIndex::open(&corpus::tree_of(folder.path(), tokens::index::FILE, &bytes)).unwrap();
    assert_eq!(index.at(0), None);
}
