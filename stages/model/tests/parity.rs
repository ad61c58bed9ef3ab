//! The model and its optimiser against Hugging Face transformers on PyTorch, where the recorded runs are at hand
//! (`PIPELINE_SHARED`, else `../shared` beside the repository).

#[path = "../../../benches/gpu/parity.rs"]
mod parity;

use std::path::{Path, PathBuf};

use burn::tensor::Device;

fn recorded(name: &str) -> Option<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("PIPELINE_SHARED").map_or_else(|| repository.join("../shared"), PathBuf::from);
    let folder = shared.join("parity").join(name);
    if !folder.is_dir() {
        eprintln!("skipped: no recorded run at {}", folder.display());
        return None;
    }
    Some(folder)
}

fn matches(name: &str) {
    let Some(folder) = recorded(name) else { return };
    let differences = parity::differences(&folder, &Device::flex()).unwrap();
    println!("{name}: {differences:?}");
    assert!(differences.are_small(), "{name}: {differences:?}");
}

#[test]
fn a_recorded_run_of_transformers_is_matched() {
    matches("tiny");
}

#[test]
fn a_recorded_run_with_accumulation_and_clipping_is_matched() {
    matches("accumulate");
}

#[test]
fn a_recorded_run_of_a_wider_model_is_matched() {
    matches("wide");
}
