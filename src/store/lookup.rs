//! Finding what a key gave.
//!
//! All builds of a key are kept. The one that is used is the first recorded whose trees and blobs are whole: later ones
//! neither replace it nor vanish, so that a kind that gives other bytes for an equal key is seen
//! ([`Hit::distinct`] above 1), and what read the first build stays consistent with it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use contract::{Digest, Tree};

use super::error::{Damage, Fault, Object, Result, StoreError};
use super::names::names_if_folder;
use super::record::Record;
use super::{Store, checked, text, write};

/// The answer to [`Store::lookup`].
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// Built before, and whole.
    Hit(Box<Hit>),
    /// Never built.
    Miss,
    /// Built before, but no build is whole any more. What is damaged was moved aside.
    Damaged(Vec<Damage>),
}

impl Lookup {
    /// The tree of each port, of a hit.
    pub const fn outputs(&self) -> Option<&BTreeMap<String, Digest>> {
        match self {
            Self::Hit(hit) => Some(&hit.record.outputs),
            Self::Miss | Self::Damaged(_) => None,
        }
    }
}

/// A build that is whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// What it gave.
    pub record: Record,
    /// The files of each port.
    pub trees: BTreeMap<String, Tree>,
    /// Its number: 1 is the first build of the key.
    pub build: u32,
    /// How many builds of the key are on record.
    pub builds: usize,
    /// How many different outputs they gave: the determinism ledger.
    pub distinct: usize,
    /// Why earlier builds could not be used.
    pub damage: Vec<Damage>,
}

/// All builds of a key with what they gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Builds {
    /// By number, from the first.
    pub records: BTreeMap<u32, Record>,
    /// Those whose bytes went to make room or were damaged.
    pub past: BTreeMap<u32, Record>,
    /// Records that cannot be read; they were moved aside.
    pub damage: Vec<Damage>,
}

impl Builds {
    /// Every build, whether its bytes are there or not.
    pub fn all(&self) -> impl Iterator<Item = &Record> {
        self.records.values().chain(self.past.values())
    }

    /// The first of all.
    pub fn first(&self) -> Option<&Record> {
        let numbered = self.records.iter().chain(&self.past);
        numbered.min_by_key(|(number, _)| **number).map(|(_, record)| record)
    }

    /// How many builds there are in all.
    pub fn count(&self) -> usize {
        self.records.len() + self.past.len()
    }

    /// How many different outputs they gave.
    pub fn distinct(&self) -> usize {
        self.all().map(|record| &record.outputs).collect::<BTreeSet<_>>().len()
    }
}

impl Store {
    /// What the key gave. Reads the key's records and trees, and a `stat` of each blob; a blob whose seal does not hold
    /// is hashed.
    ///
    /// # Errors
    /// When the store cannot be read. Damage is an answer, not an error.
    pub fn lookup(&self, key: Digest) -> Result<Lookup> {
        let builds = self.builds(key)?;
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

    /// Every build of the key.
    ///
    /// # Errors
    /// When the folder of records cannot be read.
    pub fn builds(&self, key: Digest) -> Result<Builds> {
        let mut damage = Vec::new();
        let records = self.read_records(key, self.record_files(key)?, &mut damage)?;
        let past = self.read_records(key, self.past_files(key)?, &mut damage)?;
        Ok(Builds { records, past, damage })
    }

    fn read_records(
        &self,
        key: Digest,
        files: BTreeMap<u32, PathBuf>,
        damage: &mut Vec<Damage>,
    ) -> Result<BTreeMap<u32, Record>> {
        let mut records = BTreeMap::new();
        for (number, path) in files {
            let text = match text::read(&path) {
                // Gone since its name was read.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) if error.kind() != ErrorKind::InvalidData => {
                    return Err(StoreError::io("read", &path)(error));
                }
                text => text.map_err(|error| error.to_string()),
            };
            let record = text.and_then(|text| checked::decode::<Record>(&text));
            match record {
                Ok(record) if record.key == key => drop(records.insert(number, record)),
                Ok(_) => damage.push(self.damaged_record(&path, "it is of another key".to_owned())?),
                Err(problem) => damage.push(self.damaged_record(&path, problem)?),
            }
        }
        Ok(records)
    }

    /// Writes down what a build gave: the last step of a build. The number of the build.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record(&self, record: &Record) -> Result<u32> {
        self.writable()?;
        let folder = self.layout().records(record.key);
        write::make_folder(&folder)?;
        let text =
            checked::encode(record).map_err(|error| StoreError::io("write", &folder)(std::io::Error::other(error)))?;
        let files = [self.record_files(record.key)?, self.past_files(record.key)?];
        let mut number = files.iter().filter_map(BTreeMap::last_key_value).map(|(last, _)| last + 1).max().unwrap_or(1);
        let temporary = self.layout().folder("tmp");
        while !write::create(&temporary, &self.layout().record(record.key, number), text.as_bytes(), 0o644)? {
            number += 1;
        }
        Ok(number)
    }

    pub(super) fn record_files(&self, key: Digest) -> Result<BTreeMap<u32, PathBuf>> {
        numbered(self.layout().records(key))
    }

    pub(super) fn past_files(&self, key: Digest) -> Result<BTreeMap<u32, PathBuf>> {
        numbered(self.layout().ledger(key))
    }

    /// The files of each port of a build, and what is not whole of them.
    pub(super) fn trees_of(&self, record: &Record) -> Result<(BTreeMap<String, Tree>, Vec<Damage>)> {
        let (mut trees, mut damage) = (BTreeMap::new(), Vec::new());
        for (port, digest) in &record.outputs {
            match self.listing(*digest) {
                Ok(tree) => {
                    damage.extend(self.damages(tree.entries())?);
                    trees.insert(port.clone(), tree);
                }
                Err(StoreError::Damaged(found)) => damage.push(found),
                Err(error) => return Err(error),
            }
        }
        Ok((trees, damage))
    }

    fn damaged_record(&self, path: &Path, problem: String) -> Result<Damage> {
        self.damaged(Object::Record(path.to_owned()), Fault::Format(problem), path)
    }
}

/// The records in a folder, by number.
fn numbered(folder: PathBuf) -> Result<BTreeMap<u32, PathBuf>> {
    let number = |name: &str| name.strip_suffix(".json")?.parse().ok();
    let files = names_if_folder(&folder)?.into_iter().filter_map(|name| Some((number(&name)?, folder.join(name))));
    Ok(files.collect())
}
