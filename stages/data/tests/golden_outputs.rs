//! The bytes of each kind's outputs for a fixed input.
//!
//! A digest that changes means that equal inputs and settings no longer give equal bytes: bump the kind's `REVISION`,
//! so that its outputs are made anew, and write down the new digest. (An upgrade of the Parquet or zstd crates can do it.)
#![allow(clippy::unwrap_used)]

mod support;

use contract::harness::Harness;
use data::import::Import;
use data::license::License;
use data::quality::QualityStage;
use data::sample::Sample;
use data::split::Split;
use serde_json::json;
use support::digests;

#[test]
fn outputs_have_the_bytes_that_their_revision_had() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(folder.path());
    let sample = harness
        .run::<Sample>(json!({"repositories": 10, "files_per_repository": 10, "shards": 2, "bad_rows": 4}))
        .unwrap();
    harness.connect("export", &sample["export"]);
    let import = harness.run::<Import>(json!({"max_bad_rows": 4})).unwrap();
    harness.connect("documents", &import["documents"]);
    let license = harness.run::<License>(json!({"allow": ["mit", "apache-2.0", "bsd-3-clause"]})).unwrap();
    harness.connect("documents", &license["documents"]);
    let quality = harness.run::<QualityStage>(json!({})).unwrap();
    harness.connect("documents", &quality["documents"]);
    let split = harness.run::<Split>(json!({"fraction": 0.2})).unwrap();
    let mut found = String::new();
    for (kind, trees) in
        [("sample", sample), ("import", import), ("license", license), ("quality", quality), ("split", split)]
    {
        for (port, digest) in digests(&trees) {
            found += &format!("{kind}.{port} {}\n", &digest[..16]);
        }
    }
    let golden = include_str!("golden_outputs.txt");
    assert_eq!(found, golden, "bump the kind's REVISION, then write the left side to golden_outputs.txt");
}
