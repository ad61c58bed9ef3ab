//! An append-only text file of digests by signature, of blobs ([`crate::store::objects`]) or of external files
//! ([`super::sources`]).
//!
//! A line is `<digest> <device> <inode> <size> <modified> <changed> <mode> <check>`, where the check is the first 8
//! hexadecimal digits of the hash of what precedes it. A line that does not parse or check (torn by a crash, edited) is
//! skipped: a lost line costs one hash of one file. Each batch is one write in append mode, so that lines of two processes
//! do not mix; lines that another process added are read on demand ([`Index::news`]).

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use contract::Digest;

use super::Signature;
use crate::parallel;
use crate::store::{failpoint, files};

/// One remembered file.
pub(crate) type Entry = (Digest, Signature);

/// The file, and how far it was read.
#[derive(Debug)]
pub(crate) struct Index {
    path: PathBuf,
    read: u64,
    /// Length of the file when it was last read: a file that has not grown has no news.
    length: u64,
}

impl Index {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path, read: 0, length: 0 }
    }

    /// Returns all entries, parsed in parallel: call it without a lock held.
    pub(crate) fn all(&mut self) -> Vec<Entry> {
        /// Lines that one thread parses at a time.
        const LINES: usize = 256;
        let bytes = self.added();
        let lines: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
        let pieces: Vec<_> = lines.chunks(LINES).collect();
        parallel::map(&pieces, |lines| lines.iter().filter_map(|line| parse(line)).collect::<Vec<_>>()).concat()
    }

    /// Returns the entries that any process added since the last call.
    pub(crate) fn news(&mut self) -> Vec<Entry> {
        self.added().split(|byte| *byte == b'\n').filter_map(parse).collect()
    }

    /// Reads the complete lines added since the last call; none if the index cannot be read.
    fn added(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Ok(mut file) = files::options().read(true).open(&self.path) else { return bytes };
        let Ok(metadata) = file.metadata() else { return bytes };
        let length = metadata.len();
        if !metadata.is_file() || length > files::LARGEST || length == self.length {
            return bytes;
        }
        // A shorter file is a new one, compacted by another process.
        if length < self.read {
            self.read = 0;
        }
        self.length = length;
        if file.seek(SeekFrom::Start(self.read)).and_then(|_| file.read_to_end(&mut bytes)).is_err() {
            return Vec::new();
        }
        // A last line without its end may still be in writing: it is left for the next call.
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.read += complete as u64;
        bytes.truncate(complete);
        bytes
    }

    /// Adds entries. An index that cannot be written costs time only.
    pub(crate) fn append(&self, entries: &[Entry]) {
        // A batch starts on a line of its own, also after a torn one.
        let text = entries.iter().fold("\n".to_owned(), |text, entry| text + &line(entry));
        let written = files::options().append(true).create(true).open(&self.path).and_then(|mut file| {
            if failpoint::is_due("index-torn-line") {
                file.write_all(&text.as_bytes()[..text.len() / 2])?;
                failpoint::die();
            }
            file.write_all(text.as_bytes())
        });
        if let Err(error) = written {
            tracing::debug!(path = %self.path.display(), %error, "cannot append to a stat index");
        }
    }

    /// Rewrites the file with these entries if it has grown to several times their size.
    pub(crate) fn compact(&mut self, temporary: &Path, entries: impl ExactSizeIterator<Item = Entry>) {
        /// Bytes of a typical line.
        const LINE: u64 = 170;
        let enough = (1 << 16) + 4 * LINE * entries.len() as u64;
        if !fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() > enough) {
            return;
        }
        let text = entries.fold(String::new(), |text, entry| text + &line(&entry));
        if files::replace(temporary, &self.path, text.as_bytes()).is_ok() {
            (self.read, self.length) = (text.len() as u64, text.len() as u64);
        }
    }
}

fn line((digest, signature): &Entry) -> String {
    let Signature { device, inode, size, modified, changed, mode } = signature;
    let body = format!("{digest} {device} {inode} {size} {modified} {changed} {mode}");
    format!("{body} {:08x}\n", check(&body))
}

/// Returns the first four bytes of the hash.
fn check(body: &str) -> u32 {
    let [a, b, c, d, ..] = *Digest::of(body.as_bytes()).as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

fn parse(line: &[u8]) -> Option<Entry> {
    let (body, checked) = std::str::from_utf8(line).ok()?.rsplit_once(' ')?;
    if checked.len() != 8 || u32::from_str_radix(checked, 16) != Ok(check(body)) {
        return None;
    }
    let mut fields = body.split(' ');
    let digest = fields.next()?.parse().ok()?;
    fn next<T: FromStr>(fields: &mut std::str::Split<'_, char>) -> Option<T> {
        fields.next()?.parse().ok()
    }
    let signature = Signature {
        device: next(&mut fields)?,
        inode: next(&mut fields)?,
        size: next(&mut fields)?,
        modified: next(&mut fields)?,
        changed: next(&mut fields)?,
        mode: next(&mut fields)?,
    };
    fields.next().is_none().then_some((digest, signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_has_not_grown_is_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let mut index = Index::new(path.clone());
        let entry = (Digest::of(b"content"), Signature::default());
        // As a power cut leaves it: zeros.
        fs::write(&path, vec![0; line(&entry).len()]).unwrap();
        assert_eq!(index.news(), []);
        fs::write(&path, line(&entry)).unwrap();
        assert_eq!(index.news(), []);
        index.append(&[entry]);
        assert_eq!(index.news(), [entry, entry]);
        fs::File::create(&path).unwrap().set_len(files::LARGEST + 1).unwrap();
        assert_eq!(index.news(), []);
        assert_eq!(Index::new(path).all(), []);
    }

    #[test]
    fn a_line_is_read_back_and_one_with_a_time_beyond_64_bits_is_skipped() {
        let entry = (Digest::of(b"content"), Signature { modified: -1, changed: i64::MAX, ..Signature::default() });
        let text = line(&entry);
        assert_eq!(parse(text.trim_end().as_bytes()), Some(entry));
        let (body, _) = text.rsplit_once(' ').unwrap();
        let later = body.replace(&i64::MAX.to_string(), "9223372036854775808");
        assert_eq!(parse(format!("{later} {:08x}", check(&later)).as_bytes()), None);
    }
}
