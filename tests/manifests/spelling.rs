//! What is the same however it is written.

use std::path::PathBuf;

use pipeline::manifest::Manifest;

use super::folder::{Folder, base, folder, load, manifests, spec};

/// What a loaded manifest says: enough to see whether two are the same.
fn outline(manifest: &Manifest) -> String {
    let head = format!("{} {} {:?}\n", manifest.name, manifest.seed, manifest.exec);
    let stages = manifest.stages.values().map(|stage| {
        let inputs = stage.inputs.iter().map(|(port, edge)| format!(" {port}<{}.{}", edge.stage, edge.output));
        let (sources, settings) = (stage.stage.sources(), stage.stage.spec());
        format!("{} {} {settings:?} {sources:?}{}\n", stage.name, stage.kind.name, inputs.collect::<String>())
    });
    head + &stages.collect::<String>()
}

#[test]
fn every_spelling_of_a_manifest_means_the_same() {
    let plain = outline(&load(&folder("valid/spelling-plain.toml"), &[]).unwrap());
    let spelled = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("spelling-");
    for path in manifests("valid").into_iter().filter(spelled) {
        let manifest = load(&path, &[]).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
        assert_eq!(outline(&manifest), plain, "{}", path.display());
    }
}

#[test]
fn comments_and_key_order_change_nothing() {
    let text = base();
    let commented: String = text
        .lines()
        .map(|line| if line.contains('"') { format!("{line}\n") } else { format!("{line} # word\n\n") })
        .collect();
    let folder = Folder::new(&text);
    let plain = outline(&folder.load(&[]).unwrap());
    assert_eq!(outline(&folder.file("m.toml", commented).load(&[]).unwrap()), plain);
}

#[test]
fn an_integer_is_a_number_and_spelling_makes_no_difference() {
    let folder = Folder::new(base());
    let rates = ["1", "1.0", "1e0", "0x1", "1_0e-1"].map(|rate| {
        let manifest = folder.load(&[&format!("stages.train.learning_rate={rate}")]).unwrap();
        spec(&manifest, "train", "learning_rate").clone()
    });
    assert!(rates.iter().all(|rate| *rate == 1.0), "{rates:?}");
}
