//! Finding what a key gave at the price of a few `stat`s, where nothing is out of the ordinary.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use contract::{Digest, Tree};

use super::lookup::{Builds, FIRST, Hit};
use super::record::Record;
use super::signature::Signature;
use super::{Store, checked, lock_mutex, text};

impl Store {
    /// What the key gave, where its records, its trees and the seals of its blobs are all as they should be. Nothing is
    /// changed, no blob is read, and it never waits; `None` says only that [`Store::lookup`] has to look.
    pub fn lookup_sealed(&self, key: Digest) -> Option<Hit> {
        let mut builds = self.only_build(key).or_else(|| self.sound_builds(key))?;
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

    /// The build of a key that was built once, as most are: its folder, which costs more to list than a file to read, is not
    /// listed. The numbers of builds have no gap but where a record was moved, and then the key has a place in the ledger.
    fn only_build(&self, key: Digest) -> Option<Builds> {
        let record = sound_record(key, &self.layout().record(key, FIRST))?;
        let further = [self.layout().record(key, FIRST + 1), self.layout().ledger(key)];
        let is_absent =
            |path: &PathBuf| fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        let records = BTreeMap::from([(FIRST, record)]);
        further.iter().all(is_absent).then(|| Builds { records, past: BTreeMap::new(), damage: Vec::new() })
    }

    /// All builds of a key, where the record of each is as it should be.
    fn sound_builds(&self, key: Digest) -> Option<Builds> {
        let read = |(number, path): (u32, PathBuf)| Some((number, sound_record(key, &path)?));
        let records = self.record_files(key).ok()?.into_iter().map(read).collect::<Option<_>>()?;
        let past = self.past_files(key).ok()?.into_iter().map(read).collect::<Option<_>>()?;
        Some(Builds { records, past, damage: Vec::new() })
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

fn sound_record(key: Digest, path: &Path) -> Option<Record> {
    let record = checked::decode::<Record>(&text::read(path).ok()?).ok()?;
    (record.key == key).then_some(record)
}
