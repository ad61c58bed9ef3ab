//! A TensorBoard event file of scalars (sources: tensorflow's `event.proto`, `summary.proto` and `record_writer.cc`).
//!
//! Each record is framed `u64 length · masked crc32c of it · bytes · masked crc32c of them`, little-endian; its bytes are one protocol-buffer
//! message `Event { 1: double wall_time; 2: int64 step; 3: string file_version | 5: Summary { 1: Value { 1: string tag;
//! 2: float simple_value } } }`. In the file among the outputs, the wall time of an event is its step in seconds, so that equal runs
//! write equal bytes: in TensorBoard, select the axis "step" instead of "relative" or "wall". The file in scratch has real times.

use std::io::{self, Write};

/// The name of the file; TensorBoard only reads files whose name contains `tfevents`.
pub const NAME: &str = "events.out.tfevents.0.pipeline";

/// A file being written.
#[derive(Debug)]
pub struct EventFile<W>(W);

impl<W: Write> EventFile<W> {
    /// Writes the first event, which names the version.
    ///
    /// # Errors
    /// Returns an error if `writer` fails.
    pub fn start(writer: W) -> io::Result<Self> {
        Self::start_at(writer, 0.0)
    }

    /// Does the same as [`EventFile::start`] at a wall time, in seconds since 1970.
    ///
    /// # Errors
    /// Returns an error if `writer` fails.
    pub fn start_at(writer: W, wall_time: f64) -> io::Result<Self> {
        let mut file = Self(writer);
        file.event(0, wall_time, 3, b"brain.Event:2")?;
        Ok(file)
    }

    /// Writes one value of the series `tag`.
    ///
    /// # Errors
    /// Returns an error if the writer fails.
    pub fn scalar(&mut self, step: u64, tag: &str, value: f32) -> io::Result<()> {
        self.scalar_at(step, tag, value, step as f64)
    }

    /// Writes one value with its wall time, in seconds since 1970.
    ///
    /// # Errors
    /// Returns an error if the writer fails.
    pub fn scalar_at(&mut self, step: u64, tag: &str, value: f32, wall_time: f64) -> io::Result<()> {
        let mut scalar = Vec::new();
        put_bytes(&mut scalar, 1, tag.as_bytes());
        put_key(&mut scalar, 2, Wire::Fixed32);
        scalar.extend(value.to_le_bytes());
        let mut summary = Vec::new();
        put_bytes(&mut summary, 1, &scalar);
        self.event(step, wall_time, 5, &summary)
    }

    /// Flushes the writer, so that a reader sees all values.
    ///
    /// # Errors
    /// Returns an error if the writer fails.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    fn event(&mut self, step: u64, wall_time: f64, field: u64, content: &[u8]) -> io::Result<()> {
        let mut event = Vec::new();
        put_key(&mut event, 1, Wire::Fixed64);
        event.extend(wall_time.to_le_bytes());
        put_key(&mut event, 2, Wire::Varint);
        put_varint(&mut event, step);
        put_bytes(&mut event, field, content);
        let length = (event.len() as u64).to_le_bytes();
        self.0.write_all(&length)?;
        self.0.write_all(&masked_crc(&length).to_le_bytes())?;
        self.0.write_all(&event)?;
        self.0.write_all(&masked_crc(&event).to_le_bytes())
    }
}

/// Wire types of the protocol-buffer encoding.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

fn put_key(message: &mut Vec<u8>, field: u64, wire: Wire) {
    put_varint(message, field << 3 | wire as u64);
}

fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

fn put_bytes(message: &mut Vec<u8>, field: u64, content: &[u8]) {
    put_key(message, field, Wire::Bytes);
    put_varint(message, content.len() as u64);
    message.extend(content);
}

/// Returns the checksum of a record: crc32c, rotated right by 15 and shifted by a constant.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}
