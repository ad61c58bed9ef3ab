//! Builds: the records of each key, and the last build of each stage of a run.
//!
//! All builds of a key are kept. The build that is used is the first recorded one whose trees and blobs are undamaged. Later builds do not
//! replace it: so stages that read the first build stay consistent with it, and a kind that produces different bytes for an equal key is
//! detected ([`Hit::distinct`] above 1).
//!
//! When the bytes of a build are evicted, or a repair finds them damaged, its record moves from `records/` to `ledger/`. So the determinism
//! ledger keeps the digests of all outputs.

mod checked;
mod last_build;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use contract::{Digest, Tree};
use serde::Serialize;

use super::{Damage, Fault, Object, Objects, Result, Root, StoreError, files};
pub use last_build::LastBuild;
pub(super) use last_build::STAGES;
pub use record::{Machine, Record, milliseconds};

/// The records of a store.
#[derive(Debug, Clone)]
pub struct Builds {
    root: Root,
    objects: Objects,
}

/// The result of [`Builds::lookup`].
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// There is an undamaged build.
    Hit(Box<Hit>),
    /// There is no build.
    Miss,
    /// All builds are damaged. Damaged objects were moved aside.
    Damaged(Vec<Damage>),
}

impl Lookup {
    /// Returns the tree of each port of a hit.
    pub const fn outputs(&self) -> Option<&BTreeMap<String, Digest>> {
        match self {
            Self::Hit(hit) => Some(&hit.record.outputs),
            Self::Miss | Self::Damaged(_) => None,
        }
    }
}

/// An undamaged build.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// Its record.
    pub record: Record,
    /// The files of each port.
    pub trees: BTreeMap<String, Tree>,
    /// Its number: 1 is the first build of the key.
    pub build: u32,
    /// The number of builds of the key.
    pub builds: usize,
    /// The number of different outputs among the builds of the key.
    pub distinct: usize,
    /// The damage that prevented the use of earlier builds.
    pub damage: Vec<Damage>,
}

/// All builds of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyBuilds {
    /// The builds whose bytes are in the store, by number.
    pub records: BTreeMap<u32, Record>,
    /// The builds whose bytes were evicted or damaged.
    pub past: BTreeMap<u32, Record>,
    /// Unreadable records, which were moved aside.
    pub damage: Vec<Damage>,
}

impl KeyBuilds {
    /// Returns every build, whether its bytes are in the store or not.
    pub fn all(&self) -> impl Iterator<Item = &Record> {
        self.records.values().chain(self.past.values())
    }

    /// Returns the first build.
    pub fn first(&self) -> Option<&Record> {
        self.records.iter().chain(&self.past).min_by_key(|(number, _)| **number).map(|(_, record)| record)
    }

    /// Returns the number of builds.
    pub fn count(&self) -> usize {
        self.records.len() + self.past.len()
    }

    /// Returns the number of different outputs.
    pub fn distinct(&self) -> usize {
        self.all().map(|record| &record.outputs).collect::<BTreeSet<_>>().len()
    }
}

/// A key whose builds have different outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LedgerEntry {
    /// The key.
    pub key: Digest,
    /// The stage kind.
    pub kind: String,
    /// The run of the first build.
    pub run: String,
    /// The stage of the first build.
    pub stage: String,
    /// The number of builds.
    pub builds: usize,
    /// The number of different outputs.
    pub distinct: usize,
}

impl Builds {
    pub(super) fn new(root: Root, objects: Objects) -> Self {
        Self { root, objects }
    }

    /// Finds the first undamaged build of a key. Reads the key's records and trees, and calls `stat` on each blob; a blob whose seal is
    /// broken is hashed.
    pub fn lookup(&self, key: Digest) -> Result<Lookup> {
        let builds = self.of(key)?;
        let (count, distinct) = (builds.count(), builds.distinct());
        let mut damage = builds.damage;
        for (build, record) in builds.records {
            let (trees, found) = self.trees_of(&record)?;
            if found.is_empty() {
                return Ok(Lookup::Hit(Box::new(Hit { record, trees, build, builds: count, distinct, damage })));
            }
            damage.extend(found.into_iter().filter(|found| !damage.contains(found)).collect::<Vec<_>>());
        }
        Ok(if damage.is_empty() { Lookup::Miss } else { Lookup::Damaged(damage) })
    }

    /// Finds the first build of a key if all its records and trees are readable and all its blobs are sealed. It changes nothing, reads no
    /// blob and never waits; `None` means only that [`Builds::lookup`] must be called.
    pub fn lookup_sealed(&self, key: Digest) -> Option<Hit> {
        let reader = Self { root: self.root.as_reader(), objects: self.objects.as_reader() };
        let mut builds = reader.of(key).ok().filter(|builds| builds.damage.is_empty())?;
        let (count, distinct) = (builds.count(), builds.distinct());
        let (build, record) = builds.records.pop_first()?;
        let mut trees = BTreeMap::new();
        for (port, digest) in &record.outputs {
            let tree = reader.objects.tree(*digest).ok()?;
            tree.entries().iter().all(|entry| self.objects.is_sealed(entry.digest, entry.size)).then_some(())?;
            trees.insert(port.clone(), tree);
        }
        Some(Hit { record, trees, build, builds: count, distinct, damage: Vec::new() })
    }

    /// Reads every build of a key.
    pub fn of(&self, key: Digest) -> Result<KeyBuilds> {
        let mut damage = Vec::new();
        let records = self.read_records(key, self.record_files(key)?, &mut damage)?;
        let past = self.read_records(key, self.past_files(key)?, &mut damage)?;
        Ok(KeyBuilds { records, past, damage })
    }

    fn read_records(
        &self,
        key: Digest,
        files: BTreeMap<u32, PathBuf>,
        damage: &mut Vec<Damage>,
    ) -> Result<BTreeMap<u32, Record>> {
        let mut records = BTreeMap::new();
        for (number, path) in files {
            let record = match checked::read::<Record>(&path, checked::decode)? {
                // Removed after its name was read.
                None => continue,
                Some(Ok(record)) if record.key == key => Ok(record),
                Some(Ok(_)) => Err("it belongs to another key".to_owned()),
                Some(Err(problem)) => Err(problem),
            };
            match record {
                Ok(record) => drop(records.insert(number, record)),
                Err(problem) => {
                    let object = Object::Record(path.clone());
                    damage.push(self.root.damage(object, Fault::Format(problem), &path)?);
                }
            }
        }
        Ok(records)
    }

    /// Writes the record of a build, the last step of a build, and returns its number.
    pub fn record(&self, record: &Record) -> Result<u32> {
        self.root.check_writable()?;
        let dir = self.root.layout.records(record.key);
        files::make_dir(&dir)?;
        let text = checked::encode(record, &dir)?;
        let files = [self.record_files(record.key)?, self.past_files(record.key)?];
        let mut number = files.iter().filter_map(BTreeMap::last_key_value).map(|(last, _)| last + 1).max().unwrap_or(1);
        let tmp = self.root.layout.tmp();
        while !files::create(&tmp, &self.root.layout.record(record.key, number), text.as_bytes(), files::WRITABLE)? {
            number += 1;
        }
        Ok(number)
    }

    fn record_files(&self, key: Digest) -> Result<BTreeMap<u32, PathBuf>> {
        numbered(self.root.layout.records(key))
    }

    fn past_files(&self, key: Digest) -> Result<BTreeMap<u32, PathBuf>> {
        numbered(self.root.layout.ledger(key))
    }

    /// Reads the files of each port of a build, and checks their blobs.
    pub(super) fn trees_of(&self, record: &Record) -> Result<(BTreeMap<String, Tree>, Vec<Damage>)> {
        let (mut trees, mut damage) = (BTreeMap::new(), Vec::new());
        for (port, digest) in &record.outputs {
            match self.objects.tree(*digest) {
                Ok(tree) => {
                    damage.extend(self.objects.check_entries(tree.entries())?);
                    trees.insert(port.clone(), tree);
                }
                Err(StoreError::Damaged(found)) => damage.push(found),
                Err(error) => return Err(error),
            }
        }
        Ok((trees, damage))
    }

    /// Returns every key with a build whose bytes are in the store, sorted.
    pub fn keys(&self) -> Result<BTreeSet<Digest>> {
        self.keys_in("records")
    }

    /// Returns every key with a build, sorted, including those that only the ledger contains.
    pub fn all_keys(&self) -> Result<BTreeSet<Digest>> {
        let mut keys = self.keys_in("records")?;
        keys.extend(self.keys_in("ledger")?);
        Ok(keys)
    }

    fn keys_in(&self, dir: &str) -> Result<BTreeSet<Digest>> {
        let names = files::names(&self.root.layout.dir(dir))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Returns the determinism ledger: every key whose builds have different outputs.
    pub fn ledger(&self) -> Result<Vec<LedgerEntry>> {
        let mut ledger = Vec::new();
        for key in self.all_keys()? {
            // Most keys were built only once: their records need not be read.
            if self.record_files(key)?.len() + self.past_files(key)?.len() < 2 {
                continue;
            }
            let builds = self.of(key)?;
            let (distinct, count) = (builds.distinct(), builds.count());
            if let Some(Record { kind, run, stage, .. }) = builds.first().filter(|_| distinct > 1).cloned() {
                ledger.push(LedgerEntry { key, kind, run, stage, builds: count, distinct });
            }
        }
        Ok(ledger)
    }

    /// Moves the record of a build whose bytes are removed or damaged to the ledger.
    pub(super) fn move_to_ledger(&self, key: Digest, build: u32) -> Result<()> {
        let record = self.root.layout.record(key, build);
        let dir = self.root.layout.ledger(key);
        files::make_dir(&dir)?;
        let moved = fs::rename(&record, dir.join(record.file_name().unwrap_or_default()));
        files::ignore_missing(moved).map_err(StoreError::io("move", &record))?;
        // The directory stays if the key has other builds.
        let _ = fs::remove_dir(self.root.layout.records(key));
        Ok(())
    }
}

/// Returns the records in a directory, by number.
fn numbered(dir: PathBuf) -> Result<BTreeMap<u32, PathBuf>> {
    let number = |name: &str| name.strip_suffix(".json")?.parse().ok();
    let files = files::names(&dir)?.into_iter().filter_map(|name| Some((number(&name)?, dir.join(name))));
    Ok(files.collect())
}
