//! Content digests: blake3, 32 bytes, written as 64 lowercase hexadecimal digits.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The blake3 hash of some content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Creates a digest from 32 hash bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Hashes `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }

    /// Hashes `content` in its own domain: equal bytes of two domains never share a digest
    /// (blake3's `derive_key`; `domain` is a constant that names the record type and its version).
    pub fn of_record(domain: &str, content: &[u8]) -> Self {
        Self(blake3::derive_key(domain, content))
    }

    /// Hashes a file's content ([`Digest::of_file_in_pieces`]).
    ///
    /// # Errors
    /// Returns any error of opening or reading the file.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        Self::of_file_in_pieces(path, |_| true)?.ok_or_else(|| io::ErrorKind::Interrupted.into())
    }

    /// Hashes a file's content, read in pieces (with a memory map, the process would be killed if another one truncates
    /// the file), on all of blake3's threads. `piece` is called with the number of bytes of each piece; if it returns
    /// false, reading stops and the result is `None`.
    ///
    /// # Errors
    /// Returns any error of opening or reading the file.
    pub fn of_file_in_pieces(path: &Path, mut piece: impl FnMut(u64) -> bool) -> io::Result<Option<Self>> {
        const PIECE: usize = 4 << 20;
        let mut file = File::open(path)?;
        let mut hasher = blake3::Hasher::new();
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(PIECE);
        let mut buffer = vec![0; PIECE.min(length.saturating_add(1))];
        loop {
            let mut filled = 0;
            while filled < buffer.len() {
                match file.read(&mut buffer[filled..]) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            if filled == 0 {
                return Ok(Some(Self(*hasher.finalize().as_bytes())));
            }
            hasher.update_rayon(&buffer[..filled]);
            if !piece(filled as u64) {
                return Ok(None);
            }
        }
    }

    /// Returns the 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the first 12 hexadecimal digits, for display.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (digits, byte) in text.chunks_exact_mut(2).zip(self.0) {
            digits.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        f.pad(str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// The error for a string that is not 64 lowercase hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a digest (64 lowercase hexadecimal digits)")]
pub struct NotADigest(pub String);

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let digits = text.as_bytes();
        let not_a_digest = || NotADigest(text.to_owned());
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(not_a_digest()),
        };
        if digits.len() != 64 {
            return Err(not_a_digest());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A writer that hashes and counts what it writes to `inner`.
#[derive(Debug)]
pub struct HashingWriter<W> {
    inner: W,
    hasher: blake3::Hasher,
    size: u64,
}

impl<W: Write> HashingWriter<W> {
    /// Creates a writer that has written nothing.
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: blake3::Hasher::new(), size: 0 }
    }

    /// Returns the inner writer, the digest and the number of bytes written.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, Digest(*self.hasher.finalize().as_bytes()), self.size)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
