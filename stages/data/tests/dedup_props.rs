//! The algorithm of `dedup` against a plain one: random small corpora, all pairs of which can be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use contract::{Cancel, Progress};
use data::dedup::bands::Bands;
use data::dedup::collect::{Collector, SignatureSettings};
use data::dedup::decide::{BLOCK, decide};
use data::dedup::decision::{DocumentDecision, Rule};
use data::dedup::fingerprint::Exact;
use data::dedup::groups::Groups;
use data::dedup::jaccard::Overlap;
use data::dedup::license_key::LicenseKey;
use data::dedup::preference::{Preference, Traits};
use data::dedup::scratch::Scratch;
use data::dedup::signature::{PERMUTATIONS, signature};
use data::dedup::sort::Sorter;
use data::dedup::tokens::Tokens;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

const THRESHOLD: f64 = 0.85;
const LICENSES: [Option<&str>; 5] = [Some("mit"), Some("gpl-3.0"), Some("agpl-3.0"), Some("apache-2.0"), None];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Text {
    repo: String,
    path: String,
    license: Option<&'static str>,
    copies: u64,
    content: String,
}

impl Text {
    fn id(&self) -> [u8; 32] {
        *blake3::hash(format!("{}\0{}\0{}", self.repo, self.path, self.content).as_bytes()).as_bytes()
    }

    fn traits(&self) -> Traits<'_> {
        Traits {
            license: LicenseKey::of(self.license),
            copies: self.copies,
            size: self.content.len() as u64,
            path: &self.path,
        }
    }

    fn stripped(&self) -> String {
        self.content.chars().filter(|character| !character.is_whitespace()).collect()
    }

    fn tokens(&self) -> Vec<&str> {
        self.content
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .filter(|token| !token.is_empty())
            .collect()
    }
}

/// A file of one of three families: the family's words, some of them exchanged, in one of several layouts.
fn text() -> impl Strategy<Value = Text> {
    let changes = prop::collection::vec((0..24usize, 0..6u8), 0..5);
    (0..3usize, 4..24usize, changes, 0..4usize, 0..5usize, 0..3u64, 0..3usize).prop_map(
        |(family, words, changes, layout, license, copies, repo)| {
            let mut tokens: Vec<String> = (0..words).map(|word| format!("w{family}_{word}")).collect();
            for (place, change) in changes {
                if let Some(token) = tokens.get_mut(place) {
                    *token = format!("x{change}");
                }
            }
            let content = match layout {
                0 => tokens.join(" "),
                1 => tokens.join("\n  "),
                2 => tokens.join("\u{a0}"),
                // The same without white space, but one token: an exact duplicate whose token set is another.
                _ => tokens.concat(),
            };
            let path = "p".repeat(1 + words % 3);
            Text { repo: format!("r{repo}"), path, license: LICENSES[license], copies, content }
        },
    )
}

fn signature_settings(threshold: f64) -> SignatureSettings {
    SignatureSettings {
        exact: Exact::Whitespace,
        shingle: 1,
        min_tokens: 10,
        bands: Bands::choose(threshold, 0.999),
        prefer: vec![Preference::License, Preference::Copies, Preference::Larger, Preference::Path],
    }
}

fn scratch(folder: &Path, threads: usize, memory: u64) -> Scratch {
    Scratch {
        folder: folder.to_owned(),
        memory,
        pool: Arc::new(rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()),
        progress: Progress::default(),
        cancel: Cancel::default(),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Status {
    Kept,
    /// Rule, the number of the witness, both, either.
    Removed(Rule, u32, u32, u32),
}

/// What the stage's code decides, by number; candidates, comparisons, verified pairs.
fn decided(texts: &[Text], threads: usize, memory: u64) -> (Vec<Status>, [u64; 3]) {
    decided_in_blocks(texts, threads, memory, BLOCK)
}

fn decided_in_blocks(texts: &[Text], threads: usize, memory: u64, block: u32) -> (Vec<Status>, [u64; 3]) {
    decided_at(THRESHOLD, texts, threads, memory, block)
}

fn decided_at(threshold: f64, texts: &[Text], threads: usize, memory: u64, block: u32) -> (Vec<Status>, [u64; 3]) {
    let folder = tempfile::tempdir().unwrap();
    let (settings, scratch) = (signature_settings(threshold), scratch(folder.path(), threads, memory));
    let collector = Collector::new(&settings, &scratch).unwrap();
    std::thread::scope(|scope| {
        let chunk = texts.len().div_ceil(threads).max(1);
        for (index, chunk_texts) in texts.chunks(chunk).enumerate() {
            let collector = &collector;
            scope.spawn(move || {
                let mut reader = collector.reader();
                for (number, text) in ((index * chunk) as u32..).zip(chunk_texts) {
                    reader.add(number, text.id(), &text.traits(), &text.content).unwrap();
                }
                reader.flush().unwrap();
            });
        }
    });
    let ranked = collector.finish().unwrap();
    let mut groups = Groups::find(&ranked, &scratch).unwrap();
    let decisions = decide(&ranked, &mut groups, threshold, block, &scratch).unwrap();
    let by_rank = decisions.by_rank.read(0, ranked.length()).unwrap();
    let mut statuses = vec![Status::Kept; texts.len()];
    for (rank, decision) in (0..).zip(by_rank) {
        if let DocumentDecision::Removed { rule, witness, overlap } = decision {
            let number = |rank| ranked.document(rank).unwrap().number;
            statuses[number(rank) as usize] = Status::Removed(rule, number(witness), overlap.both, overlap.either);
        }
    }
    (statuses, [decisions.candidates, decisions.comparisons, decisions.verified])
}

/// The specification, word for word and without haste; the number of pairs of rule 4.
fn specified(texts: &[Text]) -> (Vec<Status>, u64) {
    let bands = signature_settings(THRESHOLD).bands;
    let sets: Vec<BTreeSet<&str>> = texts.iter().map(|text| text.tokens().into_iter().collect()).collect();
    let comparable: Vec<bool> = texts.iter().map(|text| text.tokens().len() >= 10).collect();
    let buckets: Vec<Vec<u64>> = texts
        .iter()
        .map(|text| {
            let mut tokens = Tokens::new(1);
            tokens.read(&text.content);
            bands.keys(&signature(tokens.set())).collect()
        })
        .collect();
    let overlap =
        |a: usize, b: usize| (sets[a].intersection(&sets[b]).count() as u32, sets[a].union(&sets[b]).count() as u32);
    let jaccard = |(both, either): (u32, u32)| if either == 0 { 1.0 } else { f64::from(both) / f64::from(either) };
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&number| {
        let text = &texts[number];
        let license = LicenseKey::of(text.license).rank();
        let size = std::cmp::Reverse(text.content.len());
        (license, std::cmp::Reverse(text.copies), size, text.path.len(), text.id(), number)
    });
    let mut statuses = vec![Status::Kept; texts.len()];
    let (mut kept, mut candidates): (Vec<usize>, _) = (Vec::new(), 0);
    let mut by_set: BTreeMap<&BTreeSet<&str>, (usize, (u32, u32))> = BTreeMap::new();
    for (rank, &number) in order.iter().enumerate() {
        let first = order[..rank].iter().find(|&&other| texts[other].stripped() == texts[number].stripped());
        if let Some(&first) = first {
            let witness = match statuses[first] {
                Status::Kept => first,
                Status::Removed(_, witness, ..) => witness as usize,
            };
            let (both, either) = overlap(number, witness);
            statuses[number] = Status::Removed(Rule::Exact, witness as u32, both, either);
            continue;
        }
        if comparable[number] {
            if let Some(&(witness, (both, either))) = by_set.get(&sets[number]) {
                statuses[number] = Status::Removed(Rule::Near, witness as u32, both, either);
                continue;
            }
            let shares = |other: usize| buckets[number].iter().zip(&buckets[other]).any(|(a, b)| a == b);
            let mut best: Option<(usize, (u32, u32))> = None;
            for &other in kept.iter().filter(|&&other| comparable[other] && shares(other)) {
                candidates += 1;
                let found = overlap(number, other);
                if jaccard(found) >= THRESHOLD && best.is_none_or(|(_, best)| jaccard(found) > jaccard(best)) {
                    best = Some((other, found));
                }
            }
            if let Some((witness, (both, either))) = best {
                statuses[number] = Status::Removed(Rule::Near, witness as u32, both, either);
                by_set.insert(&sets[number], (witness, (both, either)));
                continue;
            }
            by_set.insert(&sets[number], (number, (sets[number].len() as u32, sets[number].len() as u32)));
        }
        kept.push(number);
    }
    (statuses, candidates)
}

/// Fates with documents named by their content and place in the order, not by number.
fn by_identity(texts: &[Text], statuses: &[Status]) -> Vec<([u8; 32], Option<(Rule, [u8; 32], u32, u32)>)> {
    let mut named: Vec<_> = texts
        .iter()
        .zip(statuses)
        .map(|(text, status)| {
            let removed = match *status {
                Status::Kept => None,
                Status::Removed(rule, witness, both, either) => {
                    Some((rule, texts[witness as usize].id(), both, either))
                }
            };
            (text.id(), removed)
        })
        .collect();
    named.sort();
    named
}

/// Failures are kept beside this file, and tried first from then on.
fn config() -> ProptestConfig {
    let persistence = FileFailurePersistence::WithSource("regressions");
    ProptestConfig { cases: 64, failure_persistence: Some(Box::new(persistence)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn decisions_are_those_of_the_specification(texts in prop::collection::vec(text(), 0..60), block in 1u32..20) {
        let (statuses, candidates) = specified(&texts);
        prop_assert_eq!(&decided(&texts, 2, 1 << 20).0, &statuses);
        prop_assert_eq!(&decided_in_blocks(&texts, 2, 1 << 20, block).0, &statuses);
        // One at a time nothing is looked at ahead of its turn.
        let (one_by_one, counts) = decided_in_blocks(&texts, 2, 0, 1);
        prop_assert_eq!(&one_by_one, &statuses);
        prop_assert_eq!(counts[0], candidates);
    }

    #[test]
    fn every_removed_document_is_like_a_kept_one(texts in prop::collection::vec(text(), 0..60)) {
        let statuses = decided(&texts, 2, 1 << 20).0;
        for (text, status) in texts.iter().zip(&statuses) {
            let Status::Removed(rule, witness, both, either) = *status else { continue };
            prop_assert_eq!(&statuses[witness as usize], &Status::Kept);
            let witness = &texts[witness as usize];
            let (a, b): (BTreeSet<_>, BTreeSet<_>) = (text.tokens().into_iter().collect(), witness.tokens().into_iter().collect());
            prop_assert_eq!((both as usize, either as usize), (a.intersection(&b).count(), a.union(&b).count()));
            match rule {
                Rule::Exact => {
                    // Of the copies one is kept or near the witness.
                    let copies = texts.iter().zip(&statuses).filter(|(other, _)| other.stripped() == text.stripped());
                    let leaders = copies.filter(|(_, status)| !matches!(status, Status::Removed(Rule::Exact, ..)));
                    let leaders: Vec<_> = leaders.map(|(other, status)| match *status {
                        Status::Kept => other,
                        Status::Removed(_, witness, ..) => &texts[witness as usize],
                    }).collect();
                    prop_assert_eq!(leaders, vec![witness]);
                }
                Rule::Near => {
                    prop_assert!(f64::from(both) / f64::from(either) >= THRESHOLD);
                    prop_assert!(text.tokens().len() >= 10 && witness.tokens().len() >= 10);
                }
            }
        }
    }

    #[test]
    fn exact_duplicates_do_not_depend_on_the_threshold(texts in prop::collection::vec(text(), 0..60)) {
        let contents: BTreeSet<String> = texts.iter().map(Text::stripped).collect();
        let exact = |threshold: f64| -> Vec<bool> {
            let statuses = decided_at(threshold, &texts, 2, 1 << 20, BLOCK).0;
            statuses.iter().map(|status| matches!(status, Status::Removed(Rule::Exact, ..))).collect()
        };
        let expected = exact(1.0);
        prop_assert_eq!(expected.iter().filter(|exact| **exact).count(), texts.len() - contents.len());
        for threshold in [0.2, 0.5, 0.7, 0.85, 0.95] {
            prop_assert_eq!(&exact(threshold), &expected, "threshold {}", threshold);
        }
    }

    #[test]
    fn threads_and_memory_change_nothing(texts in prop::collection::vec(text(), 0..60)) {
        let one = decided(&texts, 1, 1 << 20);
        prop_assert_eq!(&decided(&texts, 2, 1 << 20), &one);
        // So little that every sort spills and every array of cells is a file.
        prop_assert_eq!(&decided(&texts, 3, 0), &one);
    }

    #[test]
    fn the_order_of_the_input_changes_nothing(
        (texts, shuffled) in prop::collection::vec(text(), 0..60).prop_flat_map(|texts| (Just(texts.clone()), Just(texts).prop_shuffle()))
    ) {
        let (a, b) = (decided(&texts, 2, 1 << 20).0, decided(&shuffled, 2, 1 << 20).0);
        prop_assert_eq!(by_identity(&texts, &a), by_identity(&shuffled, &b));
    }

    #[test]
    fn overlaps_are_those_of_sets(a in prop::collection::btree_set(0..60u64, 0..50), b in prop::collection::btree_set(0..60u64, 0..50), threshold in 0.05..=1.0f64) {
        let (x, y): (Vec<u64>, Vec<u64>) = (a.iter().copied().collect(), b.iter().copied().collect());
        let overlap = Overlap::of(&x, &y);
        prop_assert_eq!((overlap.both as usize, overlap.either as usize), (a.intersection(&b).count(), a.union(&b).count()));
        prop_assert_eq!(Overlap::reaching(threshold, &x, &y), (overlap.jaccard() >= threshold).then_some(overlap));
    }

    #[test]
    fn records_come_back_sorted(records in prop::collection::vec(prop::array::uniform11(0..4u8), 0..3000), memory in prop::sample::select(vec![0u64, 1 << 12, 1 << 20])) {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(&scratch(folder.path(), 2, memory), "records", 11, 1);
        sorter.push(records.concat().as_slice()).unwrap();
        let (mut sorted, mut found) = (sorter.finish().unwrap(), Vec::new());
        while let Some(record) = sorted.next().unwrap() {
            found.push(record.to_vec());
        }
        let mut expected: Vec<Vec<u8>> = records.iter().map(|record| record.to_vec()).collect();
        expected.sort();
        prop_assert_eq!(found, expected);
        drop(sorted);
        prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "runs are removed");
    }
}

#[test]
fn more_runs_than_can_be_merged_at_once_are_merged_in_turns() {
    let folder = tempfile::tempdir().unwrap();
    let mut sorter = Sorter::new(&scratch(folder.path(), 1, 0), "records", 4, 1);
    for number in (0..40_000u32).rev() {
        sorter.push(&number.to_be_bytes()).unwrap();
    }
    let mut sorted = sorter.finish().unwrap();
    for number in 0..40_000u32 {
        assert_eq!(sorted.next().unwrap(), Some(number.to_be_bytes().as_slice()));
    }
    assert_eq!(sorted.next().unwrap(), None);
}

#[test]
fn buckets_find_as_many_pairs_as_the_formula_says() {
    // Pairs of 100 elements in all, `both` of them in common; three standard errors of 400 draws.
    for (both, wide) in [(60u32, 0.1), (70, 0.1), (80, 0.05), (85, 0.01)] {
        let bands = Bands::choose(THRESHOLD, 0.999);
        let pairs = 400;
        let found = (0..pairs)
            .filter(|pair| {
                let set = |range: std::ops::Range<u32>| -> Vec<u64> {
                    range.map(|i| xxhash_rust::xxh3::xxh3_64(&(pair * 1000 + i).to_le_bytes())).collect()
                };
                let middle = (100 - both) / 2;
                let (a, b) = (set(0..both + middle), set(middle..100));
                bands.keys(&signature(&a)).zip(bands.keys(&signature(&b))).any(|(a, b)| a == b)
            })
            .count();
        let (measured, theory) = (found as f64 / f64::from(pairs), bands.recall(f64::from(both) / 100.0));
        assert!((measured - theory).abs() <= wide, "J = 0.{both}: {measured} for {theory}");
    }
}

#[test]
fn signatures_keep_their_values() {
    let tokens: Vec<u64> = (0..50u32).map(|i| xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes())).collect();
    let digest = blake3::hash(&signature(&tokens).map(u32::to_le_bytes).concat()).to_hex();
    assert_eq!(&digest[..16], "93480123e8f2bdc4", "signatures changed: bump the REVISION of dedup");
    assert_eq!(signature(&[]), [u32::MAX; PERMUTATIONS]);
}

#[test]
fn a_chain_keeps_its_middle_if_the_middle_is_preferred_and_its_ends_if_not() {
    // A and B differ in 8 of 100 words, B and C in 8 others: J(A, B) = J(B, C) = 92 / 108 = 0.852, J(A, C) = 84 / 116.
    let words = |skip: std::ops::Range<usize>, add: &str| {
        let kept = (0..100).filter(|word| !skip.contains(word)).map(|word| format!("w{word}"));
        kept.chain((0..8).map(|word| format!("{add}{word}"))).collect::<Vec<_>>().join(" ")
    };
    let base = (0..100).map(|word| format!("w{word}")).collect::<Vec<_>>().join(" ");
    let chain = |copies: [u64; 3]| -> Vec<Text> {
        let contents = [words(0..8, "a"), base.clone(), words(50..58, "c")];
        contents
            .into_iter()
            .zip(copies)
            .map(|(content, copies)| Text { repo: "r".into(), path: "p".into(), license: Some("mit"), copies, content })
            .collect()
    };
    let kept = |copies| -> Vec<bool> {
        decided(&chain(copies), 2, 1 << 20).0.iter().map(|status| *status == Status::Kept).collect()
    };
    assert_eq!(kept([1, 2, 1]), [false, true, false]);
    assert_eq!(kept([2, 1, 2]), [true, false, true]);
    assert_eq!(kept([3, 2, 1]), [true, false, true]);
    assert_eq!(decided(&chain([3, 2, 1]), 2, 1 << 20).0[1], Status::Removed(Rule::Near, 0, 92, 108));
}

#[test]
fn many_near_identical_files_cost_one_comparison_each() {
    let shared: String = (0..200).map(|word| format!("w{word} ")).collect();
    let texts: Vec<Text> = (0..5000)
        .map(|number| Text {
            repo: format!("r{number}"),
            path: "setup.py".into(),
            license: Some("mit"),
            copies: 1,
            content: format!("{shared} name{number}"),
        })
        .collect();
    let (statuses, [candidates, comparisons, _]) = decided(&texts, 2, 1 << 24);
    assert_eq!(statuses.iter().filter(|status| **status == Status::Kept).count(), 1);
    assert_eq!((candidates, comparisons), (4999, 4999));
}
