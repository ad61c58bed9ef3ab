//! An array of 32-bit cells, zero at first: in memory where it fits its budget, in a scratch file where it does not.

use std::fs::File;
use std::io;

use super::positioned::{read_at, write_at};

/// The array.
#[derive(Debug)]
pub enum Cells {
    /// In memory.
    Memory(Vec<u32>),
    /// Little-endian in a file.
    File(File),
}

impl Cells {
    /// `length` cells; they lie in the file that `create` makes if they need more than `memory` bytes.
    ///
    /// # Errors
    /// When the file cannot be made.
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

    /// One cell.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get(&self, at: u64) -> io::Result<u32> {
        match self {
            Self::Memory(cells) => Ok(cells[at as usize]),
            Self::File(file) => {
                let mut bytes = [0; 4];
                read_at(file, &mut bytes, 4 * at)?;
                Ok(u32::from_le_bytes(bytes))
            }
        }
    }

    /// Appends the cells `[at, at + count)` to `values`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self, at: u64, count: u32, values: &mut Vec<u32>) -> io::Result<()> {
        match self {
            Self::Memory(cells) => values.extend_from_slice(&cells[at as usize..][..count as usize]),
            Self::File(file) => {
                let mut bytes = vec![0; 4 * count as usize];
                read_at(file, &mut bytes, 4 * at)?;
                values.extend(bytes.as_chunks::<4>().0.iter().map(|&cell| u32::from_le_bytes(cell)));
            }
        }
        Ok(())
    }

    /// Sets one cell.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set(&mut self, at: u64, value: u32) -> io::Result<()> {
        match self {
            Self::Memory(cells) => cells[at as usize] = value,
            Self::File(file) => write_at(file, &value.to_le_bytes(), 4 * at)?,
        }
        Ok(())
    }
}
