//! An append-only text file that remembers digests by signature, for two users: blobs ([`super::seals`]) and external
//! files ([`super::sources`]).
//!
//! A line is `<digest> <device> <inode> <size> <modified> <changed> <mode> <check>`, where the check is the first 8
//! hexadecimal digits of the hash of what is before it. A line that does not parse or check (torn by a crash, joined to
//! another, edited) is passed over: an index only saves work, so a lost line costs one hash of one file. Each batch is
//! one write in append mode, so two processes cannot mix their lines; what another process added since is read on
//! demand ([`Index::news`]).

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use contract::Digest;

use super::signature::Signature;
use super::{failpoint, text};
use crate::parallel;

/// One remembered file.
pub(super) type Entry = (Digest, Signature);

/// The file, and how far it was read.
#[derive(Debug)]
pub(super) struct Index {
    path: PathBuf,
    read: u64,
    /// How long the file was when it was looked at last: what has not grown has no news.
    length: u64,
}

impl Index {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, read: 0, length: 0 }
    }

    /// All entries so far, in pieces that are read beside each other: for a caller that holds no lock.
    pub(super) fn all(&mut self) -> Vec<Vec<Entry>> {
        /// Lines of a piece.
        const LINES: usize = 256;
        let bytes = self.added();
        let lines: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
        let pieces: Vec<_> = lines.chunks(LINES).collect();
        parallel::map(&pieces, |lines| lines.iter().filter_map(|line| parse(line)).collect())
    }

    /// The entries added since the last call, by anyone.
    pub(super) fn news(&mut self) -> Vec<Entry> {
        self.added().split(|byte| *byte == b'\n').filter_map(parse).collect()
    }

    /// The whole lines added since the last call. An index that cannot be read has none.
    fn added(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = text::options().read(true).open(&self.path).and_then(|mut file| {
            let metadata = file.metadata()?;
            let length = metadata.len();
            // Gigabytes are none of ours.
            if !metadata.is_file() || length > text::LARGEST {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if length == self.length {
                return Ok(0);
            }
            // A shorter file is a new one, compacted by another process.
            if length < self.read {
                self.read = 0;
            }
            self.length = length;
            file.seek(SeekFrom::Start(self.read))?;
            file.read_to_end(&mut bytes)
        });
        if read.is_err() {
            return Vec::new();
        }
        // A last line without its end may still be in writing: it is left for the next call.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        bytes.truncate(whole);
        bytes
    }

    /// Adds entries. An index that cannot be written remembers nothing, and nothing else goes wrong.
    pub(super) fn append(&self, entries: &[Entry]) {
        // A batch starts on a line of its own even after a torn one.
        let text = entries.iter().fold("\n".to_owned(), |text, entry| text + &line(entry));
        let written = text::options().append(true).create(true).open(&self.path).and_then(|mut file| {
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

    /// Replaces the file by these entries where it has grown to several times their size.
    pub(super) fn compact(&mut self, temporary: &Path, entries: impl ExactSizeIterator<Item = Entry>) {
        /// Bytes of most lines.
        const LINE: u64 = 170;
        let enough = (1 << 16) + 4 * LINE * entries.len() as u64;
        if !fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() > enough) {
            return;
        }
        let text = entries.fold(String::new(), |text, entry| text + &line(&entry));
        if super::write::replace(temporary, &self.path, text.as_bytes(), 0o644).is_ok() {
            (self.read, self.length) = (text.len() as u64, text.len() as u64);
        }
    }
}

fn line((digest, signature): &Entry) -> String {
    let Signature { device, inode, size, modified, changed, mode } = signature;
    let body = format!("{digest} {device} {inode} {size} {modified} {changed} {mode}");
    format!("{body} {:08x}\n", check(&body))
}

/// The first four bytes of the hash.
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
    fn what_has_not_grown_is_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let mut index = Index::new(path.clone());
        let entry = (Digest::of(b"content"), Signature::default());
        // As a power cut leaves it: no line, and no end of one.
        fs::write(&path, vec![0; line(&entry).len()]).unwrap();
        assert_eq!(index.news(), []);
        fs::write(&path, line(&entry)).unwrap();
        assert_eq!(index.news(), []);
        index.append(&[entry]);
        assert_eq!(index.news(), [entry, entry]);
        fs::File::create(&path).unwrap().set_len(text::LARGEST + 1).unwrap();
        assert_eq!(index.news(), []);
        assert_eq!(Index::new(path).all().concat(), []);
    }

    #[test]
    fn a_line_is_read_back_and_one_with_a_time_beyond_64_bits_is_passed_over() {
        let entry = (Digest::of(b"content"), Signature { modified: -1, changed: i64::MAX, ..Signature::default() });
        let text = line(&entry);
        assert_eq!(parse(text.trim_end().as_bytes()), Some(entry));
        let (body, _) = text.rsplit_once(' ').unwrap();
        let later = body.replace(&i64::MAX.to_string(), "9223372036854775808");
        assert_eq!(parse(format!("{later} {:08x}", check(&later)).as_bytes()), None);
    }
}
