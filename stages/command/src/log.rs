//! The last lines of a program's output.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// The number of lines that a failure shows.
pub const SHOWN: usize = 20;
/// The number of lines that the events of a run contain.
pub const KEPT: usize = 500;
/// The maximum number of characters of a line.
const CHARACTERS: usize = 400;
/// The number of bytes that are read from the end of the log.
const BYTES: u64 = 64 << 10;

/// Returns up to this many of the last lines of a log, each truncated to 400 characters, with control characters escaped.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub fn last_lines(path: &Path, most: usize) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(BYTES)))?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(most)..].iter().map(|line| shown(line)).collect())
}

/// Escapes a line for a terminal and truncates it if it is long.
fn shown(line: &str) -> String {
    match line.char_indices().nth(CHARACTERS) {
        Some((end, _)) => contract::printable(&line[..end], &['\t']) + "…",
        None => contract::printable(line, &['\t']),
    }
}
