//! Damage, and a store that cannot be used.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::bench::{Bench, shell};

const DATA: &str = r#"
[run]
name = "run"
[stages.sample]
kind = "sample"
repositories = 3
[stages.export]
kind = "import"
input = "sample"
[stages.license]
kind = "license"
input = "export"
allow = ["mit", "apache-2.0"]
"#;

fn blobs(bench: &Bench) -> Vec<PathBuf> {
    let folders = fs::read_dir(bench.cache().join("blobs")).unwrap();
    let mut blobs: Vec<_> = folders
        .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    blobs.sort();
    blobs
}

#[test]
fn a_flipped_byte_is_found_before_it_is_used_and_rebuilt() {
    let bench = Bench::new(DATA);
    bench.run();
    let before = bench.digests(&["sample", "export", "license"]);
    for blob in blobs(&bench) {
        let mut bytes = fs::read(&blob).unwrap();
        let Some(last) = bytes.last_mut() else { continue };
        *last ^= 1;
        fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&blob, bytes).unwrap();
    }
    let plan = bench.pipeline(&["plan", "run.toml"]);
    assert!(plan.stdout.contains("damaged"), "{}", plan.stdout);
    assert_eq!(bench.run(), ["export", "license", "sample"]);
    assert_eq!(bench.digests(&["sample", "export", "license"]), before);
}

#[test]
fn a_lost_blob_is_rebuilt_and_nothing_else() {
    let bench = Bench::new(DATA);
    bench.run();
    let report = bench.cache().join("runs/run/license/report/report.json");
    fs::remove_file(fs::canonicalize(report).unwrap()).unwrap();
    assert_eq!(bench.run(), ["license"]);
}

#[test]
fn blobs_are_read_only_and_outputs_are_found_by_name() {
    let bench = Bench::new(DATA);
    bench.run();
    assert!(blobs(&bench).iter().all(|blob| blob.metadata().unwrap().permissions().mode() & 0o222 == 0));
    assert!(bench.cache().join("CACHEDIR.TAG").exists());
    assert!(bench.cache().join("runs/run/license/documents/rows").is_dir());
    let work = fs::read_dir(bench.cache().join("work")).unwrap().count();
    assert_eq!(work, 0, "no scratch is left after a whole run");
}

#[test]
fn a_store_that_is_a_file_or_somebody_elses_folder_is_refused() {
    let bench = Bench::new(DATA);
    bench.write("file", "");
    bench.write("folder/precious.txt", "");
    for cache in ["file", "folder"] {
        let ran = bench.pipeline(&["run", "run.toml", "--cache", cache]);
        assert_eq!(ran.code, 4, "{}", ran.stderr);
        assert!(ran.stderr.contains("hint: "), "{}", ran.stderr);
    }
}

#[test]
fn an_input_that_is_changed_in_the_store_during_a_run_reaches_no_output() {
    let spoil = "f=$(readlink -f {input:files}/a); chmod +w $f; echo spoilt > $f; touch {output:files}/b";
    let manifest = [
        shell("writer", "echo first > {output:files}/a", ""),
        shell("spoiler", spoil, "inputs = { files = \"writer\" }"),
        shell(
            "reader",
            "cat {input:files}/a > {output:files}/c",
            "inputs = { files = \"writer\", after = \"spoiler\" }",
        ),
    ];
    let bench = Bench::new(&manifest.concat());
    let ran = bench.pipeline(&["run", "run.toml"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("changed"), "{}", ran.stderr);
    assert_ne!(bench.plan()["reader"], "cached");
}
