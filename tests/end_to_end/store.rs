//! Damage, and a store that cannot be used.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::{Signal, kill};

use crate::bench::{Bench, DATA, DATA_STAGES, pid, told};

#[test]
fn a_flipped_byte_is_found_before_it_is_used_and_rebuilt() {
    let bench = Bench::new(DATA);
    bench.run();
    let before = bench.digests(&DATA_STAGES);
    for blob in bench.blobs() {
        let mut bytes = fs::read(&blob).unwrap();
        let Some(last) = bytes.last_mut() else { continue };
        *last ^= 1;
        fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&blob, bytes).unwrap();
    }
    let plan = bench.pipeline(&["plan", "run.toml"]);
    assert!(plan.stdout.contains("damaged"), "{}", plan.stdout);
    assert_eq!(bench.run(), ["export", "license", "quality", "sample", "split"]);
    assert_eq!(bench.digests(&DATA_STAGES), before);
}

#[test]
fn a_lost_blob_is_rebuilt_and_nothing_else() {
    let bench = Bench::new(DATA);
    bench.run();
    let report = bench.cache().join("runs/run/latest/license/report/report.json");
    fs::remove_file(fs::canonicalize(report).unwrap()).unwrap();
    assert_eq!(bench.run(), ["license"]);
}

#[test]
fn blobs_are_read_only_and_outputs_are_found_by_name() {
    let bench = Bench::new(DATA);
    bench.run();
    assert!(bench.blobs().iter().all(|blob| blob.metadata().unwrap().permissions().mode() & 0o222 == 0));
    assert!(bench.cache().join("CACHEDIR.TAG").exists());
    assert!(bench.cache().join("runs/run/latest/license/documents/rows").is_dir());
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
    // `writer` leaves a process that changes its output after the store has taken it.
    let manifest = r#"
[stages.writer]
kind = "command"
program = "/bin/sh"
arguments = ["-c", "echo first > {output:files}/a"]
[stages.spoiler]
kind = "command"
inputs = { files = "writer" }
program = "/bin/sh"
arguments = ["-c", "f=$(readlink -f {input:files}/a); chmod +w $f; echo spoilt > $f; touch {output:files}/b"]
[stages.reader]
kind = "command"
inputs = { files = "writer", after = "spoiler" }
program = "/bin/sh"
arguments = ["-c", "cat {input:files}/a > {output:files}/c"]
"#;
    let bench = Bench::new(manifest);
    let ran = bench.pipeline(&["run", "run.toml"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("changed"), "{}", ran.stderr);
    assert_ne!(bench.plan()["reader"], "cached");
}

#[test]
fn a_training_goes_on_from_no_checkpoint_whose_tokens_were_changed() {
    let long = ["--set", "stages.train.steps=400", "--set", "stages.train.checkpoint_every=20"];
    let run = [&["run", "run.toml", "--json"], &long[..]].concat();
    let bench = Bench::small();
    let mut child = bench.start(&run);
    assert!(told(&mut child).any(|line| line.contains("\"note\":\"metric\"") && line.contains("\"step\":100")));
    kill(pid(&child), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    let work = fs::read_dir(bench.cache().join("work")).unwrap().map(|work| work.unwrap().path().join("scratch"));
    let left: usize = work.map(|scratch| fs::read_dir(scratch).unwrap().count()).sum();
    assert!(left > 0, "there is a checkpoint");
    let tokens = fs::canonicalize(bench.cache().join("runs/run/1/pack/train")).unwrap();
    let tokens = fs::read_dir(tokens).unwrap().map(|file| fs::canonicalize(file.unwrap().path()).unwrap());
    let largest = tokens.max_by_key(|file| file.metadata().unwrap().len()).unwrap();
    let before = fs::read(&largest).unwrap();
    fs::set_permissions(&largest, Permissions::from_mode(0o644)).unwrap();
    fs::write(&largest, vec![0; before.len()]).unwrap();
    let again = bench.pipeline(&run);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(again.stages("stage-finished"), ["completions", "loss", "pack", "train"]);
    assert!(!again.stdout.contains("resumed after step"), "{}", again.stdout);
    assert!(again.stdout.contains("checkpoint discarded: its inputs changed"), "{}", again.stdout);
    assert_eq!(fs::read(&largest).unwrap(), before);
}
