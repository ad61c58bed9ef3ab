//! Finding what a key gave at the price of a few `stat`s, where nothing is out of the ordinary.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use contract::{Digest, Tree};

use super::lookup::{Builds, Hit};
use super::record::Record;
use super::signature::Signature;
use super::{Store, checked, lock_mutex, text};

impl Store {
    /// What the key gave, where its records, its trees and the seals of its blobs are all as they should be. Nothing is
    /// changed, no blob is read, and it never waits; `None` says only that [`Store::lookup`] has to look.
    pub fn lookup_sealed(&self, key: Digest) -> Option<Hit> {
        let read = |(number, path): (u32, PathBuf)| {
            let record = checked::decode::<Record>(&text::read(&path).ok()?).ok()?;
            Some((number, Some(record).filter(|record| record.key == key)?))
        };
        let records = self.record_files(key).ok()?.into_iter().map(read).collect::<Option<_>>()?;
        let past = self.past_files(key).ok()?.into_iter().map(read).collect::<Option<_>>()?;
        let mut builds = Builds { records, past, damage: Vec::new() };
        let (count, distinct) = (builds.count(), builds.distinct());
        let (build, record) = builds.records.pop_first()?;
        let mut trees = BTreeMap::new();
        for (port, digest) in &record.outputs {
            let text = text::read(&self.layout().tree(*digest)).ok()?;
            let tree = Tree::decode(&text).ok().filter(|tree| tree.digest() == *digest)?;
            tree.entries().iter().all(|entry| self.is_sealed(entry.digest, entry.size)).then_some(())?;
            trees.insert(port.clone(), tree);
        }
        Some(Hit { record, trees, build, builds: count, distinct, damage: Vec::new() })
    }

    fn is_sealed(&self, digest: Digest, size: u64) -> bool {
        let metadata = fs::symlink_metadata(self.layout().blob(digest));
        metadata.is_ok_and(|metadata| {
            metadata.is_file()
                && metadata.len() == size
                && lock_mutex(&self.inner.seals).holds(digest, Signature::of(&metadata))
        })
    }
}
