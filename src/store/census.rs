//! What lies in a store: every record, tree and blob, and what holds what.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use contract::{Digest, Tree};
use serde::Serialize;

use super::error::{Damage, Object, Result, StoreError};
use super::lock::Held;
use super::names::names_if_folder;
use super::record::Record;
use super::{LastBuild, Store};

/// Everything in a store at one moment.
#[derive(Debug, Clone, Default)]
pub struct Census {
    /// Builds by key and number.
    pub builds: BTreeMap<(Digest, u32), Record>,
    /// The trees that are whole.
    pub trees: BTreeMap<Digest, Tree>,
    /// Bytes of each blob, as it lies there.
    pub blobs: BTreeMap<Digest, u64>,
    /// The trees that are shown by name.
    pub published: BTreeSet<Digest>,
    /// What the runs of each name gave last, by run and stage.
    pub runs: BTreeMap<String, BTreeMap<String, LastBuild>>,
    /// Bytes of each key's scratch, which a stage that was stopped goes on from; not that of a stage that is running.
    pub scratch: BTreeMap<Digest, u64>,
    /// Bytes of each set of derived files.
    pub derived: BTreeMap<String, u64>,
    /// What was moved aside as damaged, with its bytes.
    pub aside: Vec<(PathBuf, u64)>,
    /// Records and trees that cannot be read.
    pub damage: Vec<Damage>,
}

/// A census in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// How many there are.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Totals {
    /// Of these sizes.
    pub fn of(sizes: impl IntoIterator<Item = u64>) -> Self {
        sizes
            .into_iter()
            .fold(Self::default(), |Self { count, bytes }, size| Self { count: count + 1, bytes: bytes + size })
    }
}

impl Census {
    /// The blobs of these trees.
    pub fn blobs_of<'c>(&'c self, trees: impl IntoIterator<Item = &'c Digest>) -> BTreeSet<Digest> {
        let trees = trees.into_iter().filter_map(|tree| self.trees.get(tree));
        trees.flat_map(|tree| tree.entries().iter().map(|entry| entry.digest)).collect()
    }

    /// Records and trees that cannot be read, and trees that builds or runs name and that are gone.
    pub(super) fn all_damage(&self) -> Vec<Damage> {
        let is_torn = |tree: &Digest| self.damage.iter().any(|damage| damage.object == Object::Tree(*tree));
        let gone = self.lost_trees().into_iter().filter(|tree| !is_torn(tree));
        self.damage.iter().cloned().chain(gone.map(|tree| Object::Tree(tree).missing())).collect()
    }

    /// The trees that builds name, or that a run gave last, and that are torn or gone.
    pub(super) fn lost_trees(&self) -> BTreeSet<Digest> {
        let built = self.builds.values().flat_map(|record| record.outputs.values());
        let last = self.runs.values().flat_map(|stages| stages.values()).flat_map(|last| last.outputs.values());
        built.chain(last).filter(|tree| !self.trees.contains_key(tree)).copied().collect()
    }

    /// All blobs.
    pub fn all_blobs(&self) -> Totals {
        Totals::of(self.blobs.values().copied())
    }

    /// The scratch of all keys that nobody builds now.
    pub fn all_scratch(&self) -> Totals {
        Totals::of(self.scratch.values().copied())
    }

    /// All derived files.
    pub fn all_derived(&self) -> Totals {
        Totals::of(self.derived.values().copied())
    }

    /// All that was moved aside.
    pub fn all_aside(&self) -> Totals {
        Totals::of(self.aside.iter().map(|(_, bytes)| *bytes))
    }

    /// Bytes of these blobs.
    pub fn bytes_of<'c>(&self, blobs: impl IntoIterator<Item = &'c Digest>) -> u64 {
        blobs.into_iter().filter_map(|blob| self.blobs.get(blob)).sum()
    }
}

impl Store {
    /// Lists everything, reading records and trees but no blob.
    ///
    /// # Errors
    /// When a folder cannot be read. Damage is an answer, not an error.
    pub fn census(&self) -> Result<Census> {
        let mut census = Census::default();
        for key in self.keys()? {
            let builds = self.builds(key)?;
            census.builds.extend(builds.records.into_iter().map(|(number, record)| ((key, number), record)));
            census.damage.extend(builds.damage);
        }
        // What names comes before what is named, as runs go on meanwhile.
        for run in self.run_names()? {
            let stages = self.last_builds(&run)?;
            census.runs.insert(run, stages);
        }
        for (digest, _) in self.objects("trees")? {
            match self.listing(digest) {
                Ok(tree) => drop(census.trees.insert(digest, tree)),
                Err(StoreError::Damaged(damage)) => census.damage.push(damage),
                Err(error) => return Err(error),
            }
        }
        census.blobs = self.objects("blobs")?;
        census.published = self.objects("published")?.into_keys().collect();
        for name in names_if_folder(&self.layout().folder("work"))? {
            let Ok(key) = name.parse::<Digest>() else { continue };
            if self.held(key)? == Held::Free {
                census.scratch.insert(key, size_of(&self.layout().folder("work").join(&name)));
            }
        }
        census.derived = self.derived().entries().into_iter().map(|entry| (entry.name, entry.bytes)).collect();
        let aside = self.layout().folder("damaged");
        for name in names_if_folder(&aside)? {
            let path = aside.join(name);
            let size = size_of(&path);
            census.aside.push((path, size));
        }
        Ok(census)
    }

    /// Bytes that interrupted builds of this key left on the disk; of any key where it is not known.
    pub fn scratch_bytes(&self, key: Option<Digest>) -> u64 {
        size_of(&key.map_or_else(|| self.layout().folder("work"), |key| self.layout().work(key)))
    }

    /// The files of `blobs/` or `trees/` whose names are digests, with their bytes.
    fn objects(&self, folder: &str) -> Result<BTreeMap<Digest, u64>> {
        let folder = self.layout().folder(folder);
        let mut objects = BTreeMap::new();
        for shelf in names_if_folder(&folder)? {
            for name in names_if_folder(&folder.join(&shelf))? {
                let path = folder.join(&shelf).join(&name);
                let (Ok(digest), Ok(metadata)) = (name.parse::<Digest>(), path.symlink_metadata()) else { continue };
                objects.insert(digest, metadata.len());
            }
        }
        Ok(objects)
    }
}

/// Bytes of a file, or of all files below a folder; what cannot be read counts as nothing.
fn size_of(path: &Path) -> u64 {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => {
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size_of(&entry.path())).sum()
        }
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    }
}
