//! The bytes of the outputs depend on the documents alone, and are those of the revision.

use std::collections::BTreeSet;

use contract::InputTree;
use contract::harness::Harness;
use data::dedup::Dedup;
use serde_json::json;
use tables::Document;

use crate::{document, kept, run, table, words};

#[test]
fn what_a_killed_run_left_in_the_scratch_makes_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (words("a", 0..20), words("a", 0..21));
    let shard = vec![document("r", "1", "mit", &a), document("r", "2", "mit", &b)];
    let input = table(&folder.path().join("in"), &[shard]);
    let fresh = run(folder.path(), &input, json!({}));
    let mut harness = Harness::new(&folder.path().join("again"));
    let scratch = folder.path().join("scratch");
    std::fs::create_dir_all(scratch.join("dedup")).unwrap();
    for name in ["sets", "ranked", "outcomes", "documents.0.run"] {
        std::fs::write(scratch.join("dedup").join(name), "half of something").unwrap();
    }
    harness.scratch = Some(scratch.clone());
    let again = harness.connect("documents", &input).run::<Dedup>(json!({})).unwrap();
    for (port, tree) in &fresh {
        assert_eq!(again[port].digest, tree.digest, "{port}");
    }
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0, "nothing is left behind");
}

/// Synthetic files: families of near-duplicates, exact duplicates in other layouts, short ones; fixed by number.
fn corpus() -> Vec<(String, String, i64, Option<&'static str>, String)> {
    let licenses = [Some("mit"), Some("gpl-3.0"), None, Some("apache-2.0"), Some("lgpl-3.0")];
    (0..3000usize)
        .map(|number| {
            let mixed = number.wrapping_mul(2_654_435_761) >> 7;
            let family = mixed % 200;
            let size = 20 + family % 60;
            let changed = mixed / 200 % 6;
            let mut tokens: Vec<String> = (0..size).map(|word| format!("f{family}_{word}")).collect();
            (0..changed).for_each(|change| tokens[change * 3] = format!("x{}", mixed / 1200 % 4 + change));
            let content = tokens.join([" ", "\n", "\n    "][mixed / 7 % 3]);
            (
                format!("r{}", number % 90),
                format!("{}/f{family}.py", mixed % 3),
                (mixed % 4) as i64,
                licenses[mixed % 5],
                content,
            )
        })
        .collect()
}

#[test]
fn the_bytes_depend_on_the_rows_alone() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = corpus();
    let documents: Vec<Document<'_>> = corpus
        .iter()
        .map(|(repo_name, path, copies, license, content)| Document {
            repo_name,
            path,
            copies: *copies,
            size: content.len() as i64,
            license: *license,
            content,
        })
        .collect();
    let shards: Vec<Vec<Document<'_>>> = documents.chunks(700).map(<[_]>::to_vec).collect();
    let input = table(&folder.path().join("in"), &shards);
    let digests = |name: &str, input: &InputTree, threads: usize, memory: u64| {
        let mut harness = Harness::new(&folder.path().join(name));
        (harness.resources.threads, harness.resources.memory) = (threads, memory);
        let trees = harness.connect("documents", input).run::<Dedup>(json!({})).unwrap();
        trees.into_iter().map(|(port, tree)| (port, tree.digest)).collect::<Vec<_>>()
    };
    let one = digests("one", &input, 1, 512 << 20);
    assert_eq!(digests("two", &input, 2, 512 << 20), one);
    assert_eq!(digests("three", &input, 3, 512 << 20), one);
    assert_eq!(digests("little memory", &input, 2, 1 << 10), one);
    let mut turned = shards.clone();
    turned.reverse();
    assert_eq!(digests("other order", &table(&folder.path().join("turned"), &turned), 2, 512 << 20), one);

    // What is kept does not depend on how the rows lie in shards either.
    let kept_ids = |input: &InputTree, name: &str| -> BTreeSet<_> {
        kept(&run(&folder.path().join(name), input, json!({}))).into_iter().collect()
    };
    let mut shuffled = documents.clone();
    shuffled.sort_by_key(|document| tables::document_id(document.path, document.repo_name, document.content));
    let shuffled: Vec<Vec<Document<'_>>> = shuffled.chunks(1100).map(<[_]>::to_vec).collect();
    let lies_elsewhere = table(&folder.path().join("shuffled"), &shuffled);
    assert_eq!(kept_ids(&lies_elsewhere, "k1"), kept_ids(&input, "k2"));
}

/// The bytes of each output for a fixed input: if this fails, what the stage writes has changed for equal input, and
/// its REVISION must be bumped together with these digests.
#[test]
fn outputs_keep_their_bytes_or_the_revision_is_bumped() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = corpus();
    let shard = corpus.iter().take(500).map(|(repo_name, path, copies, license, content)| Document {
        repo_name,
        path,
        copies: *copies,
        size: content.len() as i64,
        license: *license,
        content,
    });
    let trees = run(folder.path(), &table(&folder.path().join("in"), &[shard.collect()]), json!({}));
    let short: Vec<_> = trees.iter().map(|(port, tree)| (port.as_str(), tree.digest.short())).collect();
    let golden = [("documents", "0ed7855ef0e7"), ("dropped", "b980ad081159"), ("report", "86326e562550")]
        .map(|(port, digest)| (port, digest.to_owned()));
    assert_eq!(short, golden, "bump the REVISION of dedup");
}
