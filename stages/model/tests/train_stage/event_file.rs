//! The TensorBoard event files, read by a reader of their own.

use std::collections::BTreeMap;
use std::fs;
use std::time::SystemTime;

use contract::Note;
use model::train::Train;
use model::train::speed::LIVE;
use serde_json::json;

use crate::{harness, lines, read, settings, with};

#[test]
fn the_event_file_holds_every_value_of_the_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let outputs = harness(folder.path()).run::<Train>(settings()).unwrap();
    let bytes = read(&outputs, "metrics", "events.out.tfevents.0.pipeline");
    let events = events(&bytes);
    assert!(events.iter().all(|event| wall_time(event) == step(event) as f64), "equal runs write equal bytes");
    let scalars: Vec<_> = events.iter().filter_map(|event| scalar(event)).collect();
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

#[test]
fn a_training_is_followed_with_real_times_and_its_speed_which_no_output_has() {
    let folder = tempfile::tempdir().unwrap();
    let scratch = folder.path().join("scratch");
    let mut harness = harness(folder.path());
    harness.scratch = Some(scratch.clone());
    let seconds = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let start = seconds();
    let outputs = harness.run::<Train>(with(json!({ "log_every": 4 }))).unwrap();
    let live: Vec<_> = fs::read_dir(scratch.join(LIVE)).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(live.len() == 1 && live[0].to_str().unwrap().contains("tfevents"), "{live:?}");
    let events = events(&fs::read(&live[0]).unwrap());
    let times: Vec<_> = events.iter().map(|event| wall_time(event)).collect();
    assert!(times.is_sorted() && times[0] >= start && *times.last().unwrap() <= seconds(), "{times:?}");
    let mut series: BTreeMap<String, Vec<(u64, f32)>> = BTreeMap::new();
    for (step, name, value) in events.iter().filter_map(|event| scalar(event)) {
        series.entry(name).or_default().push((step, value));
    }
    assert_eq!(series["loss/train"].len(), 12, "every update");
    let steps = |name: &str| series[name].iter().map(|(step, _)| *step).collect::<Vec<_>>();
    for (name, most) in [("speed/tokens_per_second", 1e9), ("speed/mfu", 2.0), ("memory/peak_gib", 1e4)] {
        assert_eq!(steps(name), [1, 4, 8, 12]);
        assert!(series[name].iter().all(|(_, value)| *value > 0.0 && *value < most), "{name}: {:?}", series[name]);
    }
    assert!(series["speed/data_stall"].iter().all(|(_, share)| (0.0..=1.0).contains(share)));
    // The engine shows them, and records what a reproduction has too.
    let notes = harness.progress.drain();
    assert!(notes.iter().any(|note| matches!(note, Note::Metric { name, .. } if name == "speed/mfu")));
    let recorded: Vec<_> = harness.progress.metrics().into_keys().collect();
    assert_eq!(recorded, ["gradient_norm", "learning_rate", "loss/train", "loss/validation", "perplexity/validation"]);
    let text = String::from_utf8(read(&outputs, "metrics", "metrics.jsonl")).unwrap();
    assert!(!text.contains("speed") && !text.contains("memory"), "{text}");
}

/// The events of a file, whose checksums are right.
fn events(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut events = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<8>() {
        let (crc, after) = after.split_first_chunk::<4>().unwrap();
        assert_eq!(u32::from_le_bytes(*crc), masked_crc(length));
        let (event, after) = after.split_at(u64::from_le_bytes(*length) as usize);
        let (crc, after) = after.split_first_chunk::<4>().unwrap();
        assert_eq!(u32::from_le_bytes(*crc), masked_crc(event));
        events.push(event.to_vec());
        rest = after;
    }
    assert!(rest.is_empty());
    events
}

fn field(event: &[u8], number: u64) -> Option<[u8; 8]> {
    fields(event).iter().find(|(n, _)| *n == number).map(|(_, bytes)| bytes.as_slice().try_into().unwrap())
}

fn wall_time(event: &[u8]) -> f64 {
    f64::from_le_bytes(field(event, 1).unwrap())
}

fn step(event: &[u8]) -> u64 {
    u64::from_le_bytes(field(event, 2).unwrap())
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
