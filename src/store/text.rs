//! Opening the store's own files and reading its text files. Whatever lies in a file's place is looked at before it is read,
//! and a file of gigabytes is none of ours.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// More than a tree of a million files takes.
pub(super) const LARGEST: u64 = 1 << 30;

/// Options that never wait, as a pipe in a file's place would be waited for without end, and follow no link: the store has none
/// in the place of a file.
pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW);
    options
}

/// Whether something could not be opened because it is a link, or a circle of links.
pub(super) fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::libc::ELOOP)
}

/// The text of a file.
///
/// # Errors
/// As those of reading a file; [`io::ErrorKind::InvalidData`] for what is no file, too large, or no text.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let opened = options().read(true).open(path);
    let mut file = opened.map_err(|error| if is_link(&error) { wrong("it is a link") } else { error })?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(wrong("it is not a regular file"));
    }
    if metadata.len() > LARGEST {
        return Err(wrong("it is too large"));
    }
    // In one call: thousands of these files are read in a run in which nothing changed.
    let mut bytes = vec![0; usize::try_from(metadata.len()).unwrap_or(0)];
    file.read_exact(&mut bytes)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
