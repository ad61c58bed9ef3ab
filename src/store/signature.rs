//! What the file system says of a file without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Equal signatures of a path mean an untouched file; times are nanoseconds since 1970, as far as 64 bits reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Signature {
    /// The device that holds it.
    pub device: u64,
    /// Its number on the device: another one when the file was replaced.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// When its content was last written.
    pub modified: i64,
    /// When its content or its metadata last changed, which no program can set.
    pub changed: i64,
    /// Type and permissions.
    pub mode: u32,
}

impl Signature {
    /// Of a file's metadata.
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
