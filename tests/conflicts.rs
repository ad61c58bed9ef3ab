//! Conflicting settings of two stages are reported before anything runs, with the lines of both: with the real kinds.
//!
//! Each `tests/manifests/conflicts/*.toml` gives exactly the text of the `.stderr` beside it; `UPDATE_GOLDEN=1` writes it anew.

#[path = "manifests/golden.rs"]
mod golden;

use std::fs;
use std::path::{Path, PathBuf};

use golden::assert_golden;
use pipeline::kinds::kinds;
use pipeline::manifest::Overrides;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_conflict_is_reported_at_both_lines() {
    let folder = root().join("tests/manifests/conflicts");
    let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    assert!(paths.len() >= 5);
    assert_golden(&folder, &paths, |path| pipeline::manifest::load(path, &Overrides::default(), &kinds()));
}

#[test]
fn the_cost_of_a_training_is_known_before_it_starts() {
    let path = root().join("manifests/codeparrot-small.toml");
    let load = |path: &Path| pipeline::manifest::load(path, &Overrides::default(), &kinds()).unwrap();
    let manifest = load(&path);
    let train = manifest.stages.values().find(|stage| stage.kind.name == "train").unwrap();
    // 150,000 steps of 192 sequences of 1,024 tokens.
    assert_eq!((train.cost.tokens, train.cost.updates), (Some(150_000 * 192 * 1024), Some(150_000)));
    // 6 operations a parameter (111.0M) and 12 · 12 · 768 · 1,024 of attention, for each token.
    let a_token = train.cost.flops.unwrap() / (150_000.0 * 192.0 * 1024.0);
    assert!((a_token - (6.0 * 111.0e6 + 12.0 * 12.0 * 768.0 * 1024.0)).abs() / a_token < 0.001, "{a_token}");
    assert!(train.cost.memory.unwrap() > 16 * 111_000_000);
}
