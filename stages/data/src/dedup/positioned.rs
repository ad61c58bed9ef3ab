//! Reads and writes at a position of a scratch file, from any thread: the file's cursor is not used.
//!
//! Scratch files are read this way and not through memory maps, so that the memory of a stage is only what it
//! allocates, and the rest is the system's page cache.

use std::fs::File;
use std::io;

/// Fills `buffer` from the bytes at `offset`.
///
/// # Errors
/// Returns an error if the file ends too early or cannot be read.
#[cfg(unix)]
pub fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Writes all of `buffer` at `offset`.
///
/// # Errors
/// Returns an error if the file cannot be written.
#[cfg(unix)]
pub fn write_at(file: &File, buffer: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, buffer, offset)
}

/// Fills `buffer` from the bytes at `offset`.
///
/// # Errors
/// Returns an error if the file ends too early or cannot be read.
#[cfg(windows)]
pub fn read_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, buffer, offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer = &mut buffer[read..];
        offset += read as u64;
    }
    Ok(())
}

/// Writes all of `buffer` at `offset`.
///
/// # Errors
/// Returns an error if the file cannot be written.
#[cfg(windows)]
pub fn write_at(file: &File, mut buffer: &[u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, buffer, offset)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        buffer = &buffer[written..];
        offset += written as u64;
    }
    Ok(())
}
