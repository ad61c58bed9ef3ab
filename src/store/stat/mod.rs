//! File signatures: the `stat` data of a file whose digest is known, so that an untouched file is not read again.

mod index;
mod sources;

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

pub(super) use index::Index;
pub use sources::{SourceSnapshot, Sources};

/// The `stat` data of a file. Equal signatures of a path mean that the file was not touched. Times are nanoseconds since 1970, clamped to
/// 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Signature {
    /// The device number.
    pub device: u64,
    /// The inode number, which changes if the file is replaced.
    pub inode: u64,
    /// The size in bytes.
    pub size: u64,
    /// The modification time.
    pub modified: i64,
    /// The time of the last change of content or metadata, which no program can set.
    pub changed: i64,
    /// The type and permissions.
    pub mode: u32,
}

impl Signature {
    /// Returns the signature of a file with this metadata.
    pub fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            mode: metadata.mode(),
        }
    }
}
