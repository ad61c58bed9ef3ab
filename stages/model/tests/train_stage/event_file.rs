//! The TensorBoard event file, read back by the definition of its format.

use model::train::Train;

use crate::bench::{harness, lines, read, settings};

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
