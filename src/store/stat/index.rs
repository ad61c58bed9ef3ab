//! The stored digests of files by their signatures, of blobs ([`crate::store::objects`]) or of external files ([`super::sources`]), in an
//! append-only text file.
//!
//! A line is `<digest> <device> <inode> <size> <modified> <changed> <mode> <check>`, where the check is the first 8 hexadecimal digits of
//! the hash of what precedes it. A line that is invalid or does not match its check (torn by a crash, edited) is skipped: a lost line means
//! that one file is hashed again. Each batch is one write in append mode, so that lines of two processes do not mix; lines that another
//! process added are read on demand.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use contract::Digest;

use super::Signature;
use crate::parallel;
use crate::store::{failpoint, files};

/// A stored digest with its signature.
type Entry = (Signature, Digest);

/// The stored digests, and the position up to which their file was read.
#[derive(Debug)]
pub(in crate::store) struct Index {
    path: PathBuf,
    digests: HashMap<Signature, Digest>,
    read: u64,
    /// The length of the file when it was last read: a file that has not grown has no new lines.
    length: u64,
}

impl Index {
    /// Reads a file; the index is empty if it does not exist.
    pub(in crate::store) fn load(path: PathBuf) -> Self {
        /// The number of lines that one thread parses at a time.
        const LINES: usize = 256;
        let mut index = Self { path, digests: HashMap::new(), read: 0, length: 0 };
        let bytes = index.added();
        let lines: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
        let pieces: Vec<_> = lines.chunks(LINES).collect();
        let entries = parallel::map(&pieces, |lines| lines.iter().filter_map(|line| parse(line)).collect::<Vec<_>>());
        index.digests = entries.into_iter().flatten().collect();
        index
    }

    /// Returns the digest of a file with this signature, if this or another process stored it.
    pub(in crate::store) fn digest(&mut self, signature: Signature) -> Option<Digest> {
        if !self.digests.contains_key(&signature) {
            let added = self.added();
            self.digests.extend(added.split(|byte| *byte == b'\n').filter_map(parse));
        }
        self.digests.get(&signature).copied()
    }

    /// Stores digests; if `writes`, also for other processes.
    pub(in crate::store) fn remember(&mut self, entries: &[Entry], writes: bool) {
        if writes && !entries.is_empty() {
            self.append(entries);
        }
        self.digests.extend(entries.iter().copied());
    }

    /// Reads the complete lines added since the last call; returns nothing if the index cannot be read.
    fn added(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Ok(mut file) = files::options().read(true).open(&self.path) else { return bytes };
        let Ok(metadata) = file.metadata() else { return bytes };
        let length = metadata.len();
        if !metadata.is_file() || length > files::LARGEST || length == self.length {
            return bytes;
        }
        // A shorter file is a new file, compacted by another process.
        if length < self.read {
            self.read = 0;
        }
        self.length = length;
        if file.seek(SeekFrom::Start(self.read)).and_then(|_| file.read_to_end(&mut bytes)).is_err() {
            return Vec::new();
        }
        // A last line without a line end may still be being written: it is left for the next call.
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.read += complete as u64;
        bytes.truncate(complete);
        bytes
    }

    /// Adds entries. If the index cannot be written, files are only hashed again.
    fn append(&self, entries: &[Entry]) {
        // A batch starts on a new line, even after a torn one.
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

    /// Rewrites the file if it has grown to several times the size of its valid content.
    pub(in crate::store) fn compact(&mut self, temporary: &Path) {
        /// The size of a typical line, in bytes.
        const LINE: u64 = 170;
        let enough = (1 << 16) + 4 * LINE * self.digests.len() as u64;
        if !fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() > enough) {
            return;
        }
        let entries = self.digests.iter().map(|(signature, digest)| (*signature, *digest));
        let text = entries.fold(String::new(), |text, entry| text + &line(&entry));
        if files::replace(temporary, &self.path, text.as_bytes()).is_ok() {
            (self.read, self.length) = (text.len() as u64, text.len() as u64);
        }
    }
}

fn line((signature, digest): &Entry) -> String {
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
    fields.next().is_none().then_some((signature, digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_has_not_grown_is_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let mut index = Index::load(path.clone());
        let (signature, digest) = (Signature::default(), Digest::of(b"content"));
        let entry = (signature, digest);
        // As a power cut leaves it: zeros.
        fs::write(&path, vec![0; line(&entry).len()]).unwrap();
        assert_eq!(index.digest(signature), None);
        fs::write(&path, line(&entry)).unwrap();
        assert_eq!(index.digest(signature), None);
        Index::load(folder.path().join("index")).remember(&[entry], true);
        assert_eq!(index.digest(signature), Some(digest));
        fs::File::create(&path).unwrap().set_len(files::LARGEST + 1).unwrap();
        assert_eq!(Index::load(path).digest(signature), None);
    }

    #[test]
    fn a_line_is_read_back_and_one_with_a_time_beyond_64_bits_is_skipped() {
        let entry = (Signature { modified: -1, changed: i64::MAX, ..Signature::default() }, Digest::of(b"content"));
        let text = line(&entry);
        assert_eq!(parse(text.trim_end().as_bytes()), Some(entry));
        let (body, _) = text.rsplit_once(' ').unwrap();
        let later = body.replace(&i64::MAX.to_string(), "9223372036854775808");
        assert_eq!(parse(format!("{later} {:08x}", check(&later)).as_bytes()), None);
    }
}
