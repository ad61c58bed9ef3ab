//! An array of `u32`, initially zero: in memory if it fits its budget, otherwise in a scratch file.

use std::fs::File;
use std::io;

use super::positioned::{read_at, write_at};

/// An array of `u32` in memory or in a file.
#[derive(Debug)]
pub enum U32Array {
    /// An array in memory.
    Memory(Vec<u32>),
    /// An array in a file, little-endian.
    File(File),
}

impl U32Array {
    /// Creates an array of `length` values, in the file that `create` returns if they need more than `memory` bytes.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created.
    pub fn new(length: u64, memory: u64, create: impl FnOnce() -> io::Result<File>) -> io::Result<Self> {
        match usize::try_from(length) {
            Ok(length) if 4 * length as u64 <= memory => Ok(Self::Memory(vec![0; length])),
            _ => {
                let file = create()?;
                file.set_len(4 * length)?;
                Ok(Self::File(file))
            }
        }
    }

    /// Returns the value at `at`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    pub fn get(&self, at: u64) -> io::Result<u32> {
        match self {
            Self::Memory(array) => Ok(array[at as usize]),
            Self::File(file) => {
                let mut bytes = [0; 4];
                read_at(file, &mut bytes, 4 * at)?;
                Ok(u32::from_le_bytes(bytes))
            }
        }
    }

    /// Appends the elements `[at, at + count)` to `values`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    pub fn read(&self, at: u64, count: u32, values: &mut Vec<u32>) -> io::Result<()> {
        match self {
            Self::Memory(array) => values.extend_from_slice(&array[at as usize..][..count as usize]),
            Self::File(file) => {
                let mut bytes = vec![0; 4 * count as usize];
                read_at(file, &mut bytes, 4 * at)?;
                values.extend(bytes.as_chunks::<4>().0.iter().map(|&value| u32::from_le_bytes(value)));
            }
        }
        Ok(())
    }

    /// Sets the value at `at`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn set(&mut self, at: u64, value: u32) -> io::Result<()> {
        match self {
            Self::Memory(array) => array[at as usize] = value,
            Self::File(file) => write_at(file, &value.to_le_bytes(), 4 * at)?,
        }
        Ok(())
    }
}
