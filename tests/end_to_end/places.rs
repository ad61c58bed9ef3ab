//! One store, from any working directory and for every command.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::bench::{Bench, DATA};

/// A folder with a manifest in `proj`, and nothing else.
fn project() -> Bench {
    let bench = Bench::new("");
    bench.write("proj/code.toml", DATA);
    bench
}

/// Whether each command on the project finds the runs of its store from this folder, which is `up` levels below the bench.
fn assert_found_from(bench: &Bench, folder: &str, more: &[&str]) {
    for command in [&["runs"][..], &["status", "--json"], &["logs", "license"], &["cache", "ls"], &["replay", "run"]] {
        let ran = bench.pipeline_in(folder, &[command, more].concat());
        assert_eq!(ran.code, 0, "{command:?} in {folder}: {}", ran.stderr);
        assert!(!ran.stderr.contains("note: the store"), "{command:?} in {folder}: {}", ran.stderr);
    }
    let runs = bench.pipeline_in(folder, &[&["runs"], more].concat()).stdout;
    assert!(runs.starts_with("run.1 "), "in {folder}: {runs}");
}

/// Whether the manifest's stages are all cached from this folder.
fn is_cached_from(bench: &Bench, folder: &str, manifest: &str) -> bool {
    let plan = bench.pipeline_in(folder, &["plan", manifest]);
    assert_eq!(plan.code, 0, "{}", plan.stderr);
    plan.stdout.ends_with("\n5 cached\n")
}

#[test]
fn a_project_has_one_store_from_any_working_directory() {
    let bench = project();
    let ran = bench.pipeline(&["run", "proj/code.toml"]);
    assert!(ran.code == 0 && ran.stderr.starts_with("note: new store proj/cache\n"), "{}", ran.stderr);
    assert!(bench.path().join("proj/cache/version").exists() && !bench.cache().exists());
    for (folder, manifest) in [("", "proj/code.toml"), ("proj", "code.toml"), ("proj/a/b", "../../code.toml")] {
        assert!(is_cached_from(&bench, folder, manifest), "from {folder}");
    }
    for folder in ["proj", "proj/a/b"] {
        assert_found_from(&bench, folder, &[]);
    }
    assert_found_from(&bench, "", &["--manifest", "proj/code.toml"]);
    // From outside the project only its manifest leads to the store.
    let outside = bench.pipeline(&["runs"]);
    assert!(outside.code == 2 && outside.stderr.contains("there is no store at cache\n"), "{}", outside.stderr);
    assert!(bench.pipeline(&["runs", "proj/code.toml"]).stdout.starts_with("run.1 "));
    assert!(bench.pipeline(&["logs", "proj/code.toml", "license"]).stdout.contains("started (license"));
}

#[test]
fn a_store_above_the_manifest_is_used_up_to_the_root_of_the_repository() {
    for mark in ["cache/README.md", ".git/HEAD"] {
        let bench = project();
        bench.write(mark, "");
        assert_eq!(bench.pipeline_in("proj", &["run", "code.toml", "--quiet"]).code, 0);
        assert!(bench.cache().join("version").exists() && !bench.path().join("proj/cache").exists(), "{mark}");
        assert_found_from(&bench, "", &[]);
        assert_found_from(&bench, "proj", &[]);
    }
    // A store beyond the root of the repository belongs to another project.
    let bench = project();
    assert_eq!(bench.pipeline(&["run", "proj/code.toml", "--quiet", "--cache", "cache"]).code, 0);
    assert!(is_cached_from(&bench, "proj", "code.toml"));
    bench.write("proj/.git", "");
    assert!(!is_cached_from(&bench, "proj", "code.toml"));
}

#[test]
fn a_store_in_a_folder_that_everybody_may_write_to_is_not_used_for_what_is_below() {
    let bench = project();
    assert_eq!(bench.pipeline(&["run", "proj/code.toml", "--quiet", "--cache", "cache"]).code, 0);
    assert!(is_cached_from(&bench, "proj", "code.toml"));
    fs::set_permissions(bench.path(), Permissions::from_mode(0o1777)).unwrap();
    assert!(!is_cached_from(&bench, "proj", "code.toml"));
    // Where one works one chose to be.
    assert_found_from(&bench, "", &[]);
}

#[test]
fn a_folder_of_other_things_called_cache_is_not_taken_for_a_store_and_one_of_a_newer_format_is() {
    let bench = project();
    bench.write("proj/cache/of-a-browser", "").write("cache/README.md", "");
    assert_eq!(bench.pipeline_in("proj", &["run", "code.toml", "--quiet"]).code, 0);
    assert!(bench.cache().join("version").exists());
    fs::remove_file(bench.path().join("proj/cache/of-a-browser")).unwrap();
    bench.write("proj/cache/version", "999\n");
    let newer = bench.pipeline_in("proj", &["run", "code.toml"]);
    assert!(newer.code == 4 && newer.stderr.contains("has store format 999"), "{}", newer.stderr);
}

#[test]
fn the_store_that_a_machine_file_names_is_that_of_every_command() {
    let bench = project();
    bench.write("proj/machine.toml", "[exec]\ncache = \"../elsewhere\"\n").write("proj/cache/README.md", "");
    assert_eq!(bench.pipeline(&["run", "proj/code.toml", "--quiet"]).code, 0);
    assert!(bench.path().join("elsewhere/version").exists());
    for folder in ["proj", "proj/a/b"] {
        assert_found_from(&bench, folder, &[]);
    }
    assert_found_from(&bench, "", &["--manifest", "proj/code.toml"]);
    // The same in the manifest that needs no name, and in one that it extends.
    let bench = project();
    bench.write("proj/base.toml", "[exec]\ncache = \"../elsewhere\"\n".to_owned() + DATA);
    bench.write("proj/pipeline.toml", "extends = \"base.toml\"\n");
    assert_eq!(bench.pipeline_in("proj", &["run", "--quiet"]).code, 0);
    assert_found_from(&bench, "proj/a", &[]);
    // What the command line or the environment names comes before and after it.
    let named = bench.pipeline_in("proj", &["runs", "--cache", "other"]);
    assert!(named.code == 2 && named.stderr.contains("there is no store at other\n"), "{}", named.stderr);
    let bench = project();
    let there = bench.path().join("there").display().to_string();
    assert_eq!(bench.pipeline_with(&[("PIPELINE_CACHE", &there)], &["run", "proj/code.toml", "--quiet"]).code, 0);
    assert!(bench.pipeline_with(&[("PIPELINE_CACHE", &there)], &["runs"]).stdout.starts_with("run.1 "));
}

#[test]
fn a_store_is_named_when_it_is_made_and_when_it_is_empty() {
    let bench = project();
    for looking in [&["plan", "proj/code.toml"][..], &["graph", "proj/code.toml"], &["sql", "proj/code.toml"]] {
        let ran = bench.pipeline(looking);
        assert_eq!(
            (ran.code, ran.stderr.as_str()),
            (0, "note: the store proj/cache does not exist yet\n"),
            "{looking:?}"
        );
    }
    let failed = bench.pipeline(&["run", "proj/code.toml", "--set", "stages.export.max_bad_rows=-1"]);
    assert!(failed.code == 2 && !failed.stderr.contains("note:"), "nothing was made: {}", failed.stderr);
    let made = bench.pipeline(&["run", "proj/code.toml", "--until", "sample"]);
    assert!(made.stderr.starts_with("note: new store proj/cache\n"), "{}", made.stderr);
    assert!(!bench.pipeline(&["plan", "proj/code.toml"]).stderr.contains("note:"));
    fs::remove_dir_all(bench.path().join("proj/cache/records")).unwrap();
    let empty = bench.pipeline(&["plan", "proj/code.toml"]);
    assert_eq!(empty.stderr, "note: the store proj/cache is empty\n");
    assert_eq!(bench.pipeline_in("proj", &["status"]).stderr, "note: the store cache is empty\n");
}
