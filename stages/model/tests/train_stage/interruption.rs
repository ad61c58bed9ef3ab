//! A training that is stopped, killed or finds a damaged checkpoint ends with the bytes of one that nothing interrupts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use contract::harness::Harness;
use contract::{Kind, Note, StageError, Unit};
use model::train::Train;
use model::train::checkpoint::newest;
use model::train::order::Order;
use serde_json::{Value, json};
use tokens::packed::HEADER_SIZE;

use crate::{LENGTH, digests, harness, settings, tree, uninterrupted, with};

fn checkpoints(scratch: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(scratch.join("checkpoints")).into_iter().flatten().flatten();
    let mut folders: Vec<_> = entries.map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

#[test]
fn stopped_after_any_step_it_ends_with_the_same_bytes() {
    let expected = uninterrupted();
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    harness.scratch = Some(folder.path().join("scratch"));
    let whole = harness.inputs["train"].clone();
    for steps in [1, 4, 5] {
        // An id outside the vocabulary stops the run at the step that reads it.
        let sequence = Order::new(harness.seed, 40).sequence(steps * 6) as usize;
        let mut bytes = fs::read(&whole.files[0].location).unwrap();
        bytes[HEADER_SIZE + sequence * LENGTH * 2..][..2].copy_from_slice(&u16::MAX.to_le_bytes());
        harness.connect("train", &tree(folder.path(), "damaged", &[("tokens.bin", &bytes)]));
        let error = harness.run::<Train>(with(json!({ "checkpoint_every": 1 }))).unwrap_err().to_string();
        assert!(error.contains("contains id 65535"), "{error}");
        harness.progress = contract::Progress::default();
    }
    harness.connect("train", &whole);
    let outputs = harness.run::<Train>(settings()).unwrap();
    assert!(said(&harness, "resumed after step 5"));
    assert_eq!(digests(&outputs), expected);
}

#[test]
fn asked_to_stop_it_saves_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let scratch = folder.path().join("scratch");
    let mut harness = harness(folder.path());
    harness.scratch = Some(scratch.clone());
    let (cancel, progress) = (harness.cancel.clone(), harness.progress.clone());
    let watch = std::thread::spawn(move || {
        while progress.sample().done < 2 {
            std::thread::yield_now();
        }
        cancel.set();
    });
    let long = with(json!({ "steps": 1_000_000, "checkpoint_every": 1_000_000 }));
    assert!(matches!(harness.run::<Train>(long.clone()), Err(StageError::Interrupted)));
    watch.join().unwrap();
    let folders = checkpoints(&scratch);
    let step: u64 = folders[0].file_name().unwrap().to_str().unwrap().parse().unwrap();
    assert!(folders.len() == 1 && step >= 2);
    let settings = long.as_object().unwrap();
    let found = Kind::of::<Train>().parse(settings).unwrap().checkpoint(&scratch).unwrap();
    assert_eq!((found.done, found.total, found.unit), (step, 1_000_000, Unit::Steps));
    assert!(found.seconds > 0.0 && found.seconds_left().unwrap() > found.seconds, "{found:?}");
    // Asked again before it has done anything, it keeps what it has.
    assert!(matches!(harness.run::<Train>(long.clone()), Err(StageError::Interrupted)));
    assert!(said(&harness, &format!("resumed after step {step}")));
    assert_eq!(checkpoints(&scratch), folders);
    assert_eq!(harness.progress.earlier_seconds(), found.seconds, "its time is part of the build's");
    let again = Kind::of::<Train>().parse(settings).unwrap().checkpoint(&scratch).unwrap();
    assert!(again.seconds > found.seconds, "both runs count: {found:?}, then {again:?}");
}

#[test]
fn of_scratch_without_a_checkpoint_nothing_is_told() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(newest(&folder.path().join("absent")), None);
    let checkpoints = folder.path().join("checkpoints");
    fs::create_dir_all(checkpoints.join("unfinished")).unwrap();
    fs::create_dir_all(checkpoints.join("00000007")).unwrap();
    assert_eq!(newest(folder.path()), None, "one without a seal is none");
}

/// Returns whether a run reported exactly this note.
fn said(harness: &Harness, line: &str) -> bool {
    harness.progress.drain().iter().any(|note| matches!(note, Note::Info { text } if text == line))
}

/// Settings with everything that a checkpoint keeps.
fn with_best(more: Value) -> Value {
    let mut settings = with(json!({
        "keep_best": true, "validate_every": 2, "micro_batch": 2, "embedding_dropout": 0.1, "attention_dropout": 0.1,
        "residual_dropout": 0.1, "schedule": "warmup-stable-decay"
    }));
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

#[test]
fn a_damaged_checkpoint_is_left_out_and_the_one_before_is_used() {
    let settings = || with_best(json!({}));
    let folder = tempfile::tempdir().unwrap();
    let expected = digests(&harness(folder.path()).run::<Train>(settings()).unwrap());
    assert!(expected.iter().any(|(port, _)| port == "best"));
    let damages: [(&str, fn(&mut Vec<u8>)); 8] = [
        ("best.safetensors", |bytes| bytes.truncate(bytes.len() / 2)),
        ("best.safetensors", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("state.safetensors", |bytes| bytes.truncate(bytes.len() / 2)),
        ("state.safetensors", |bytes| bytes.clear()),
        ("state.safetensors", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("metrics.bin", |bytes| bytes.truncate(8)),
        ("seal.json", |bytes| bytes.truncate(10)),
        ("seal.json", |bytes| *bytes = bytes.iter().map(|byte| if *byte == b'a' { b'b' } else { *byte }).collect()),
    ];
    for (file, damage) in damages {
        let folder = tempfile::tempdir().unwrap();
        let scratch = folder.path().join("scratch");
        let mut harness = harness(folder.path());
        harness.scratch = Some(scratch.clone());
        harness.run::<Train>(settings()).unwrap();
        let folders = checkpoints(&scratch);
        assert_eq!(folders.len(), 2, "the last two are kept");
        let path = folders[1].join(file);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        // A new file: the best model may be one file in several checkpoints.
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        harness.progress = contract::Progress::default();
        assert_eq!(digests(&harness.run::<Train>(settings()).unwrap()), expected, "{file}");
        let notes = harness.progress.drain();
        assert!(
            notes
                .iter()
                .any(|note| matches!(note, Note::Warning { text } if text.contains("damaged checkpoint of step 9")))
        );
        assert!(notes.iter().any(|note| matches!(note, Note::Info { text } if text == "resumed after step 6")));
    }
}

#[test]
fn without_a_whole_checkpoint_it_starts_anew() {
    let folder = tempfile::tempdir().unwrap();
    let scratch = folder.path().join("scratch");
    let mut harness = harness(folder.path());
    harness.scratch = Some(scratch.clone());
    harness.run::<Train>(settings()).unwrap();
    for checkpoint in checkpoints(&scratch) {
        fs::remove_file(checkpoint.join("seal.json")).unwrap();
    }
    fs::create_dir_all(scratch.join("checkpoints/unfinished")).unwrap();
    fs::write(scratch.join("checkpoints/unfinished/state.safetensors"), b"half").unwrap();
    assert_eq!(digests(&harness.run::<Train>(settings()).unwrap()), uninterrupted());
}

/// The variable that turns [`the_process_that_is_killed`] into a training run below its value.
const CHILD: &str = "PIPELINE_TEST_TRAIN_CHILD";

/// The settings of the training that is killed.
const SETTINGS: &str = "PIPELINE_TEST_TRAIN_SETTINGS";

/// Long enough that no child ends before it is killed.
fn long(checkpoint_every: u64) -> Value {
    with_best(json!({ "steps": 300, "checkpoint_every": checkpoint_every, "validate_every": 50 }))
}

#[test]
fn the_process_that_is_killed() {
    let Some(folder) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let mut harness = harness(&folder);
    harness.scratch = Some(folder.join("scratch"));
    harness.run::<Train>(serde_json::from_str(&std::env::var(SETTINGS).unwrap()).unwrap()).unwrap();
}

/// Starts a training below a directory in a process of its own.
fn start(folder: &Path, settings: &Value) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "interruption::the_process_that_is_killed"]).env(CHILD, folder);
    command.env(SETTINGS, settings.to_string()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn killed_before_its_steps_are_up_it_progresses_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let scratch = folder.path().join("scratch");
    let rare =
        with(json!({ "steps": 4_000_000_000_u64, "checkpoint_every": 4_000_000_000_u64, "checkpoint_seconds": 1 }));
    let mut reached = 0;
    for _ in 0..3 {
        let mut child = start(folder.path(), &rare);
        let step = loop {
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
            match newest(&scratch) {
                Some((step, ..)) if step > reached => break step,
                _ => std::thread::yield_now(),
            }
        };
        child.kill().unwrap();
        child.wait().unwrap();
        reached = step;
    }
}

#[test]
fn as_many_checkpoints_are_kept_as_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let scratch = folder.path().join("scratch");
    let mut harness = harness(folder.path());
    harness.scratch = Some(scratch.clone());
    let settings = || with(json!({ "checkpoint_every": 1, "keep_last": 4 }));
    assert_eq!(digests(&harness.run::<Train>(settings()).unwrap()), uninterrupted());
    let names = |folders: Vec<PathBuf>| -> Vec<_> {
        folders.iter().map(|folder| folder.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(checkpoints(&scratch)), ["00000008", "00000009", "00000010", "00000011"]);
    // Three of them are damaged, each in another way.
    fs::remove_file(scratch.join("checkpoints/00000011/seal.json")).unwrap();
    fs::write(scratch.join("checkpoints/00000010/state.safetensors"), b"half").unwrap();
    fs::write(scratch.join("checkpoints/00000009/metrics.bin"), b"").unwrap();
    harness.progress = contract::Progress::default();
    assert_eq!(digests(&harness.run::<Train>(settings()).unwrap()), uninterrupted());
    let notes = harness.progress.drain();
    let warnings = notes.iter().filter(|note| matches!(note, Note::Warning { .. })).count();
    assert!(warnings == 3 && notes.contains(&Note::Info { text: "resumed after step 8".to_owned() }), "{notes:?}");
}

#[test]
fn killed_at_any_moment_it_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let scratch = folder.path().join("scratch");
    let half_written = scratch.join("checkpoints/unfinished/state.safetensors");
    let mut newest = None;
    let draw = contract::Draw::new(3, "moments of kills");
    for round in 0..12u8 {
        let mut child = start(folder.path(), &long(1));
        let before = newest.clone();
        // Every other time it is killed while it writes a checkpoint, else some time after one: between two passes of an update, or
        // during a validation.
        while newest == before || (round % 2 == 1 && !half_written.exists()) {
            newest = checkpoints(&scratch).into_iter().rfind(|folder| !folder.ends_with("unfinished")).or(newest);
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
            std::thread::yield_now();
        }
        if round % 2 == 0 {
            let (start, wait) = (Instant::now(), draw.unit(&[round]) * 0.02);
            while start.elapsed().as_secs_f64() < wait {
                std::thread::yield_now();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut harness = harness(folder.path());
    harness.scratch = Some(scratch);
    let resumed = digests(&harness.run::<Train>(long(1000)).unwrap());
    assert!(
        harness.progress.drain().iter().any(|note| matches!(note, Note::Info { text } if text.contains("resumed")))
    );
    harness.scratch = None;
    assert_eq!(resumed, digests(&harness.run::<Train>(long(1000)).unwrap()));
}
