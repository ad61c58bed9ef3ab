//! A cache of the results of programs by digest, in a directory, so that no program runs twice under the same conditions.
//!
//! One file of JSON lines, `programs.jsonl`, to which one line is added for each program that ended, in the order in which they end:
//!
//! ```json
//! {"check": "<64 hex digits>", "program": "<64 hex digits>", "failure": "assertion", "detail": "AssertionError"}
//! ```
//!
//! | event | result |
//! |---|---|
//! | `kill -9` | each line is written at once: the programs that were running are lost, one for each worker, and one whose line was being written |
//! | the machine stops | lines since the last sync are lost: at most [`SYNC_EVERY`] |
//! | a torn last line | it is removed when the file is opened |
//! | a damaged line | its check, the digest of the other fields, does not match: it is skipped, and its program runs again |
//! | a second process opens the directory | an error: the file is locked |

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use contract::{Digest, Result, StageError};
use serde::{Deserialize, Serialize};

use crate::program_result::ProgramResult;

/// The number of lines between two syncs to disk.
pub const SYNC_EVERY: usize = 256;
const FILE: &str = "programs.jsonl";

/// The cached results in a directory.
#[derive(Debug, Default)]
pub struct Cache {
    results: HashMap<Digest, ProgramResult>,
    /// `None` if results are kept in memory only.
    file: Option<File>,
    unsynced: usize,
}

#[derive(Serialize, Deserialize)]
struct Line {
    program: Digest,
    #[serde(flatten)]
    result: ProgramResult,
}

/// A line with the digest of its JSON.
#[derive(Serialize, Deserialize)]
struct CheckedLine {
    check: Digest,
    #[serde(flatten)]
    line: Line,
}

impl Line {
    fn check(&self) -> serde_json::Result<Digest> {
        Ok(Digest::of(&serde_json::to_vec(self)?))
    }

    fn encode(self) -> serde_json::Result<Vec<u8>> {
        let mut text = serde_json::to_vec(&CheckedLine { check: self.check()?, line: self })?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads an undamaged line.
    fn decode(text: &[u8]) -> Option<Self> {
        let CheckedLine { check, line } = serde_json::from_slice(text).ok()?;
        (line.check().ok()? == check).then_some(line)
    }
}

/// Returns the file of the cache in a directory.
pub fn file(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

impl Cache {
    /// Creates a cache in memory only.
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// Opens the cache in a directory, which is created if it is missing.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or written, or another process has it open.
    pub fn open(directory: &Path) -> Result<Self> {
        let failed = |error: &std::io::Error| StageError::io("open the results of programs", error).in_file(directory);
        fs::create_dir_all(directory).map_err(|error| failed(&error))?;
        let options = OpenOptions::new().create(true).read(true).append(true).open(file(directory));
        let mut file = options.map_err(|error| failed(&error))?;
        // Reading a FIFO would block. Opening it for both reading and writing does not.
        if !file.metadata().map_err(|error| failed(&error))?.is_file() {
            return Err(StageError::new(format!("'{FILE}' is not a regular file"))
                .in_file(directory)
                .hint("remove it, or use another directory"));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StageError::new("another process is scoring with this directory")
                    .in_file(directory)
                    .hint("wait for it, or use another directory"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(&error)),
        }
        let results = read(&mut file).map_err(|error| failed(&error))?;
        Ok(Self { results, file: Some(file), unsynced: 0 })
    }

    /// Returns the result of a program, if it is known.
    pub fn get(&self, program: &Digest) -> Option<&ProgramResult> {
        self.results.get(program)
    }

    /// Adds a result.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub fn add(&mut self, program: Digest, result: ProgramResult) -> Result<()> {
        if let Some(file) = &mut self.file {
            let line = Line { program, result: result.clone() };
            file.write_all(&line.encode().map_err(|error| StageError::new(error.to_string()))?)?;
            self.unsynced += 1;
            if self.unsynced == SYNC_EVERY {
                self.sync()?;
            }
        }
        self.results.insert(program, result);
        Ok(())
    }

    /// Syncs all lines to disk.
    ///
    /// # Errors
    /// Returns an error if the disk fails.
    pub fn sync(&mut self) -> Result<()> {
        if let Some(file) = &self.file {
            file.sync_data()?;
        }
        self.unsynced = 0;
        Ok(())
    }
}

/// Reads the undamaged lines of a file, one at a time, and removes a torn last line.
fn read(file: &mut File) -> io::Result<HashMap<Digest, ProgramResult>> {
    let mut results = HashMap::new();
    let (mut line, mut whole) = (Vec::new(), 0);
    let mut reader = BufReader::new(&*file);
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            break;
        }
        whole += length as u64;
        results.extend(Line::decode(&line).map(|line| (line.program, line.result)));
    }
    drop(reader);
    if !line.is_empty() {
        file.set_len(whole)?;
    }
    file.seek(SeekFrom::End(0))?;
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program_result::FailureKind;
    use proptest::prelude::*;

    fn digest(number: usize) -> Digest {
        Digest::of(&number.to_le_bytes())
    }

    fn result(number: usize) -> ProgramResult {
        ProgramResult {
            failure: number.is_multiple_of(2).then_some(FailureKind::Name),
            detail: format!("é {number}\n"),
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_fifo_is_refused_instead_of_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("mkfifo").arg(folder.path().join(FILE)).status().unwrap();
        assert!(made.success());
        let error = Cache::open(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("'programs.jsonl' is not a regular file"), "{error}");
    }

    fn filled(folder: &Path, count: usize) -> Vec<u8> {
        let mut cache = Cache::open(folder).unwrap();
        (0..count).for_each(|number| cache.add(digest(number), result(number)).unwrap());
        drop(cache);
        fs::read(folder.join(FILE)).unwrap()
    }

    #[test]
    fn results_are_there_when_the_directory_is_opened_again() {
        for count in [0, 1, SYNC_EVERY - 1, SYNC_EVERY, SYNC_EVERY + 1] {
            let folder = tempfile::tempdir().unwrap();
            filled(folder.path(), count);
            let cache = Cache::open(folder.path()).unwrap();
            assert_eq!(cache.results.len(), count);
            assert!((0..count).all(|number| cache.get(&digest(number)) == Some(&result(number))));
        }
    }

    #[test]
    fn a_second_process_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = Cache::open(folder.path()).unwrap();
        assert!(Cache::open(folder.path()).unwrap_err().to_string().contains("another process is scoring"));
        drop(first);
        Cache::open(folder.path()).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_file_torn_anywhere_loses_its_last_line_at_most_and_takes_new_ones(torn in 0usize..700, count in 1usize..6) {
            let folder = tempfile::tempdir().unwrap();
            let content = filled(folder.path(), count);
            let kept = torn.min(content.len());
            fs::write(folder.path().join(FILE), &content[..kept]).unwrap();
            let whole = content[..kept].iter().filter(|byte| **byte == b'\n').count();
            let mut cache = Cache::open(folder.path()).unwrap();
            prop_assert_eq!(cache.results.len(), whole);
            cache.add(digest(99), result(99)).unwrap();
            drop(cache);
            let cache = Cache::open(folder.path()).unwrap();
            prop_assert_eq!(cache.get(&digest(99)), Some(&result(99)));
            prop_assert_eq!(cache.results.len(), whole + 1);
        }

        #[test]
        fn damaged_lines_are_skipped(place in 0usize..400, byte: u8) {
            let folder = tempfile::tempdir().unwrap();
            let mut content = filled(folder.path(), 4);
            let place = place.min(content.len() - 1);
            content[place] = byte;
            fs::write(folder.path().join(FILE), &content).unwrap();
            let cache = Cache::open(folder.path()).unwrap();
            // A damaged line, or two that became one.
            prop_assert!(cache.results.len() >= 2);
            for number in 0..4 {
                let found = cache.get(&digest(number));
                prop_assert!(found.is_none_or(|found| *found == result(number)), "{found:?}");
            }
            prop_assert!(cache.results.keys().all(|program| (0..4).any(|number| digest(number) == *program)));
        }
    }
}
