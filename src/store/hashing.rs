//! The digest of a file on disk, read in pieces: a memory map would kill the process when another one truncates the
//! file meanwhile.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use contract::Digest;

const PIECE: usize = 4 << 20;

/// The digest of the content. `piece` is told the bytes of each piece, and stops the reading by returning false, which
/// gives `None`.
pub(super) fn digest_of(path: &Path, mut piece: impl FnMut(u64) -> bool) -> io::Result<Option<Digest>> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(PIECE);
    let mut buffer = vec![0; PIECE.min(length + 1)];
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
            return Ok(Some(Digest::from_bytes(*hasher.finalize().as_bytes())));
        }
        hasher.update_rayon(&buffer[..filled]);
        if !piece(filled as u64) {
            return Ok(None);
        }
    }
}
