//! The stage kind `train`, run through the harness.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use burn::tensor::{Device, Int, Tensor, TensorData};
use contract::context::{InputFile, InputTree};
use contract::harness::Harness;
use contract::{Digest, Note, StageError, Tree, TreeEntry};
use model::folder::ModelFolder;
use model::parameters::host_values;
use model::train::Train;
use model::train::order::Order;
use serde_json::{Value, json};
use tokens::packed::{HEADER_SIZE, Header, PackedWriter};

const VOCABULARY: u32 = 61;
const LENGTH: usize = 16;

/// Sequences that count upwards modulo the vocabulary from a start of their own: easy to learn.
fn tokens(folder: &Path, name: &str, vocabulary: u32, sequences: usize) -> InputTree {
    let header = Header {
        vocabulary,
        end_of_text: 0,
        sequence_length: LENGTH as u64,
        sequences: sequences as u64,
        documents: 1,
        text_bytes: 1,
    };
    let mut writer = PackedWriter::new(Vec::new(), header).unwrap();
    for sequence in 0..sequences {
        let ids: Vec<_> = (0..LENGTH).map(|at| ((sequence * 7 + at * 3) % vocabulary as usize) as u32).collect();
        writer.push(&ids).unwrap();
    }
    tree(folder, name, &[("tokens.bin", &writer.finish().unwrap())])
}

fn tree(folder: &Path, name: &str, files: &[(&str, &[u8])]) -> InputTree {
    let file = |(path, content): &(&str, &[u8])| {
        let location = folder.join(format!("{name}-{path}"));
        fs::write(&location, content).unwrap();
        InputFile { path: path.parse().unwrap(), location, digest: Digest::of(content), size: content.len() as u64 }
    };
    let files: Vec<_> = files.iter().map(file).collect();
    let entry = |file: &InputFile| TreeEntry { path: file.path.clone(), digest: file.digest, size: file.size };
    let digest = Tree::new(files.iter().map(entry).collect()).unwrap().digest();
    InputTree { digest, files }
}

fn settings() -> Value {
    json!({
        "layers": 2, "width": 32, "heads": 4, "batch": 3, "accumulation": 2, "steps": 12, "warmup": 2,
        "learning_rate": 0.01, "validate_every": 5, "validate_sequences": 7, "checkpoint_every": 3, "log_every": 4
    })
}

fn with(more: Value) -> Value {
    let mut settings = settings();
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

fn harness(folder: &Path) -> Harness {
    let mut harness = Harness::new(folder);
    harness.connect("train", &tokens(folder, "train", VOCABULARY, 40));
    harness.connect("valid", &tokens(folder, "valid", VOCABULARY, 9));
    harness
}

type Outputs = BTreeMap<String, InputTree>;

fn digests(outputs: &Outputs) -> Vec<(String, Digest)> {
    outputs.iter().map(|(port, tree)| (port.clone(), tree.digest)).collect()
}

fn read(outputs: &Outputs, port: &str, path: &str) -> Vec<u8> {
    fs::read(&outputs[port].required(path).unwrap().location).unwrap()
}

fn lines(outputs: &Outputs) -> Vec<Value> {
    let text = String::from_utf8(read(outputs, "metrics", "metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The digests of a run that nothing interrupts.
fn uninterrupted() -> Vec<(String, Digest)> {
    let folder = tempfile::tempdir().unwrap();
    digests(&harness(folder.path()).run::<Train>(settings()).unwrap())
}

fn checkpoints(scratch: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(scratch.join("checkpoints")).into_iter().flatten().flatten();
    let mut folders: Vec<_> = entries.map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

#[test]
fn training_learns_what_can_be_learned() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    let outputs = harness.run::<Train>(with(json!({ "steps": 60, "min_learning_rate": 0.001 }))).unwrap();
    let lines = lines(&outputs);
    let updates: Vec<_> = lines.iter().filter(|line| line.get("loss").is_some()).collect();
    let validations: Vec<_> = lines.iter().filter(|line| line.get("validation_loss").is_some()).collect();
    assert_eq!((updates.len(), validations.len()), (60, 12));
    assert_eq!(updates[0]["learning_rate"], json!(0.0));
    assert_eq!(updates[59]["tokens"], json!(60 * 6 * LENGTH));
    let first = updates[0]["loss"].as_f64().unwrap();
    assert!((first - f64::from(VOCABULARY).ln()).abs() < 0.1, "an untrained model guesses evenly: {first}");
    let last = validations[11]["validation_loss"].as_f64().unwrap();
    assert!(last < 1.0, "{last}");
    let report: Value = serde_json::from_slice(&read(&outputs, "metrics", "report.json")).unwrap();
    assert_eq!(report["validation_loss"].as_f64(), Some(last));
    assert_eq!(report["epochs"], json!(9.0));
    let notes = harness.progress.drain();
    assert!(notes.iter().any(|note| matches!(note, Note::Metric { name, step: 60, .. } if name == "loss/train")));
    assert!(notes.iter().any(|note| matches!(note, Note::Info { text } if text.contains("60 steps"))));
}

#[test]
fn the_model_is_written_with_its_tokenizer_and_loads() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    let files: [(&str, &[u8]); 3] =
        [("tokenizer.json", b"{}"), ("tokenizer_config.json", b"{}"), ("report.json", b"{}")];
    harness.connect("tokenizer", &tree(folder.path(), "tokenizer", &files));
    let outputs = harness.run::<Train>(settings()).unwrap();
    let paths: Vec<_> = outputs["model"].files.iter().map(|file| file.path.as_str().to_owned()).collect();
    let expected =
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(paths, expected);
    let (config, model) = ModelFolder::of(&outputs["model"]).unwrap().load(&Device::flex()).unwrap();
    assert_eq!((config.vocabulary, config.positions, config.end_of_text), (VOCABULARY as usize, LENGTH, Some(0)));
    let ids = Tensor::<2, Int>::from_data(TensorData::new(vec![0i32, 3, 6, 9], [1, 4]), &Device::flex());
    assert!(host_values(model.loss(ids)).unwrap()[0].is_finite());
}

#[test]
fn outputs_are_equal_for_any_number_of_threads() {
    let run = |threads| {
        let folder = tempfile::tempdir().unwrap();
        let mut harness = harness(folder.path());
        harness.resources.threads = threads;
        digests(&harness.run::<Train>(settings()).unwrap())
    };
    let one = run(1);
    assert_eq!(run(2), one);
    assert_eq!(run(3), one);
}

#[test]
fn a_wider_model_is_equal_for_any_number_of_threads() {
    // Wide enough that the matrix products and reductions are cut into tasks.
    let run = |threads| {
        let folder = tempfile::tempdir().unwrap();
        let mut harness = harness(folder.path());
        harness.resources.threads = threads;
        harness.connect("train", &tokens(folder.path(), "wide", 5000, 64));
        harness.inputs.remove("valid");
        let more = json!({ "width": 256, "heads": 4, "batch": 16, "accumulation": 1, "steps": 3 });
        digests(&harness.run::<Train>(with(more)).unwrap())
    };
    let one = run(1);
    assert_eq!(run(2), one);
    assert_eq!(run(3), one);
}

#[test]
fn another_seed_gives_another_model() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    let one = digests(&harness.run::<Train>(settings()).unwrap());
    harness.seed = 2;
    assert_ne!(digests(&harness.run::<Train>(settings()).unwrap()), one);
}

#[test]
fn cadences_of_logs_and_checkpoints_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let more = json!({ "checkpoint_every": 1, "log_every": 1 });
    assert_eq!(digests(&harness(folder.path()).run::<Train>(with(more)).unwrap()), uninterrupted());
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
        assert!(error.contains("holds id 65535"), "{error}");
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
    // Asked again before it has done anything, it keeps what it has.
    assert!(matches!(harness.run::<Train>(long), Err(StageError::Interrupted)));
    assert!(said(&harness, &format!("resumed after step {step}")));
    assert_eq!(checkpoints(&scratch), folders);
}

/// Whether a run told this, word by word.
fn said(harness: &Harness, line: &str) -> bool {
    harness.progress.drain().iter().any(|note| matches!(note, Note::Info { text } if text == line))
}

#[test]
fn a_damaged_checkpoint_is_left_out_and_the_one_before_is_used() {
    let expected = uninterrupted();
    let damages: [(&str, fn(&mut Vec<u8>)); 6] = [
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
        fs::write(&path, bytes).unwrap();
        harness.progress = contract::Progress::default();
        assert_eq!(digests(&harness.run::<Train>(settings()).unwrap()), expected, "{file}");
        let notes = harness.progress.drain();
        assert!(notes.iter().any(|note| matches!(note, Note::Warning { text } if text.contains("step 9 is damaged"))));
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

/// Long enough that no child ends before it is killed.
fn long(checkpoint_every: u64) -> Value {
    with(json!({ "steps": 300, "checkpoint_every": checkpoint_every, "validate_every": 100 }))
}

#[test]
fn the_process_that_is_killed() {
    let Some(folder) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let mut harness = harness(&folder);
    harness.scratch = Some(folder.join("scratch"));
    harness.run::<Train>(long(1)).unwrap();
}

#[test]
fn killed_at_any_moment_it_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let scratch = folder.path().join("scratch");
    let half_written = scratch.join("checkpoints/unfinished/state.safetensors");
    let mut newest = None;
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_process_that_is_killed"])
            .env(CHILD, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let before = newest.clone();
        // Every other time it is killed while it writes a checkpoint.
        while newest == before || (round % 2 == 1 && !half_written.exists()) {
            newest = checkpoints(&scratch).into_iter().rfind(|folder| !folder.ends_with("unfinished")).or(newest);
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
            std::thread::yield_now();
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

#[test]
fn accumulation_gives_the_step_of_one_large_batch() {
    let run = |batch: u64, accumulation: u64| {
        let folder = tempfile::tempdir().unwrap();
        let more = json!({ "batch": batch, "accumulation": accumulation, "steps": 8 });
        lines(&harness(folder.path()).run::<Train>(with(more)).unwrap())
    };
    for (one, other) in run(6, 1).iter().zip(run(2, 3)) {
        let key = if one.get("loss").is_some() { "loss" } else { "validation_loss" };
        let (one, other) = (one[key].as_f64().unwrap(), other[key].as_f64().unwrap());
        assert!((one - other).abs() < 1e-4, "{one} {other}");
    }
}

#[test]
fn training_goes_on_from_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    let first = harness.run::<Train>(with(json!({ "steps": 60 }))).unwrap();
    harness.connect("init", &first["model"]);
    let settings = json!({ "batch": 6, "steps": 1, "learning_rate": 0.001 });
    let more = harness.run::<Train>(settings.clone()).unwrap();
    let end = |outputs: &Outputs| lines(outputs).last().unwrap()["validation_loss"].as_f64().unwrap();
    assert!((end(&more) - end(&first)).abs() < 0.2, "{} {}", end(&more), end(&first));
    harness
        .connect("train", &tokens(folder.path(), "other", 99, 40))
        .connect("valid", &tokens(folder.path(), "o", 99, 4));
    let error = harness.run::<Train>(settings).unwrap_err();
    assert_eq!(error.to_string(), "the model of 'init' has a vocabulary of 61, the tokens one of 99");
}

#[test]
fn a_loss_that_is_no_number_is_an_error_with_its_step() {
    let folder = tempfile::tempdir().unwrap();
    let error = harness(folder.path()).run::<Train>(with(json!({ "learning_rate": 1e35, "warmup": 0 }))).unwrap_err();
    let StageError::Failed(failure) = error else { panic!("{error}") };
    assert!(failure.message.starts_with("step ") && failure.message.contains("the loss is"), "{}", failure.message);
    assert_eq!(failure.hint.as_deref(), Some("lower learning_rate, or raise warmup"));
}

#[test]
fn tokens_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    harness.connect("valid", &tokens(folder.path(), "small", 7, 9));
    let error = harness.run::<Train>(settings()).unwrap_err().to_string();
    assert!(error.starts_with("the validation tokens (vocabulary 7"), "{error}");
    harness.connect("train", &tokens(folder.path(), "none", VOCABULARY, 0));
    let error = harness.run::<Train>(settings()).unwrap_err().to_string();
    assert_eq!(error, "the training tokens hold no sequence");
}

#[test]
fn without_validation_sequences_the_error_says_how_to_train_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness = harness(folder.path());
    harness.connect("valid", &tokens(folder.path(), "none", VOCABULARY, 0));
    let StageError::Failed(failure) = harness.run::<Train>(settings()).unwrap_err() else { panic!("no failure") };
    assert_eq!(failure.message, "the validation tokens hold no sequence");
    let hint = failure.hint.unwrap();
    assert!(hint.contains("leave the input 'valid' out") && hint.contains("raise fraction"), "{hint}");
    harness.inputs.remove("valid");
    harness.run::<Train>(settings()).unwrap();
}

#[test]
fn settings_that_make_no_sense_are_problems() {
    let folder = tempfile::tempdir().unwrap();
    let problem = |more| harness(folder.path()).run::<Train>(with(more)).unwrap_err().to_string();
    assert_eq!(problem(json!({ "width": 33 })), "width: must be a multiple of heads (4), not 33");
    assert_eq!(
        problem(json!({ "batch": 0, "clip": 0.0 })),
        "batch: must be between 1 and 1048576, not 0; clip: must be greater than 0, not 0"
    );
    assert!(problem(json!({ "preset": "gpt2" })).starts_with("layers: preset gives the sizes already"));
    assert_eq!(problem(json!({ "layers": null })), ": layers is missing: layers, width and heads go together");
    let none = problem(json!({ "layers": null, "width": null, "heads": null }));
    assert_eq!(none, "the model has no sizes");
    assert_eq!(problem(json!({ "warmup": 13 })), "warmup: must be at most steps (12), not 13");
    for (setting, expected) in [
        (json!({ "steps": 1u64 << 40 }), "steps: must be between 1 and 4294967296, not 1099511627776"),
        (json!({ "steps": 0, "warmup": 2 }), "steps: must be between 1 and 4294967296, not 0"),
        (json!({ "learning_rate": -0.5 }), "learning_rate: must be greater than 0, not -0.5"),
        (json!({ "min_learning_rate": 0.5 }), "min_learning_rate: must be between 0 and learning_rate (0.01), not 0.5"),
        (json!({ "epsilon": 0.0 }), "epsilon: must be greater than 0, not 0"),
        (json!({ "beta1": 1.0 }), "beta1: must be at least 0 and less than 1, not 1"),
        (json!({ "weight_decay": -1.0 }), "weight_decay: must be at least 0, not -1"),
        (json!({ "log_every": 0 }), "log_every: must be at least 1, not 0"),
        (json!({ "layers": 65_536 }), "layers: must be between 1 and 65535, not 65536"),
    ] {
        assert_eq!(problem(setting), expected);
    }
}

#[test]
fn the_event_file_holds_every_value_of_the_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let outputs = harness(folder.path()).run::<Train>(settings()).unwrap();
    let bytes = read(&outputs, "metrics", "events.out.tfevents.0.pipeline");
    let mut scalars = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((length, after)) = rest.split_first_chunk::<8>() {
        let (crc, after) = after.split_first_chunk::<4>().unwrap();
        assert_eq!(u32::from_le_bytes(*crc), masked_crc(length));
        let (event, after) = after.split_at(u64::from_le_bytes(*length) as usize);
        let (crc, after) = after.split_first_chunk::<4>().unwrap();
        assert_eq!(u32::from_le_bytes(*crc), masked_crc(event));
        scalars.extend(scalar(event));
        rest = after;
    }
    let expected: Vec<_> = lines(&outputs)
        .iter()
        .flat_map(|line| {
            let step = line["step"].as_u64().unwrap();
            let names = [
                ("loss", "loss/train"),
                ("learning_rate", "learning_rate"),
                ("gradient_norm", "gradient_norm"),
                ("validation_loss", "loss/validation"),
                ("validation_perplexity", "perplexity/validation"),
            ];
            let value = move |(key, name): (&str, &str)| Some((step, name.to_owned(), line[key].as_f64()? as f32));
            names.into_iter().filter_map(value).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(scalars, expected);
}

/// crc32c by its definition, bit by bit, then masked.
fn masked_crc(bytes: &[u8]) -> u32 {
    let crc = !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    });
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The fields of a protocol-buffer message: number and payload.
fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(message: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = message[0];
            *message = &message[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let length = match key & 7 {
            0 => {
                fields.push((key >> 3, varint(&mut message).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            5 => 4,
            _ => varint(&mut message) as usize,
        };
        let (payload, rest) = message.split_at(length);
        fields.push((key >> 3, payload.to_vec()));
        message = rest;
    }
    fields
}

/// Step, tag and value of an event, where it holds one.
fn scalar(event: &[u8]) -> Option<(u64, String, f32)> {
    let field =
        |fields: &[(u64, Vec<u8>)], number| fields.iter().find(|(n, _)| *n == number).map(|(_, bytes)| bytes.clone());
    let event = fields(event);
    let step = u64::from_le_bytes(field(&event, 2)?.try_into().unwrap());
    let value = fields(&field(&fields(&field(&event, 5)?), 1)?);
    let tag = String::from_utf8(field(&value, 1)?).unwrap();
    Some((step, tag, f32::from_le_bytes(field(&value, 2)?.try_into().unwrap())))
}
