//! Looking at everything again: each blob is hashed, whatever its seal says.

use std::collections::{BTreeMap, BTreeSet};

use contract::Digest;

use super::Store;
use super::census::Census;
use super::error::{Damage, Fault, Object, Result, StoreError};

/// What [`Store::verify_all`] found.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// The store as it was listed.
    pub census: Census,
    /// Blobs hashed.
    pub blobs: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Everything that is damaged or missing, each once.
    pub damage: Vec<Damage>,
    /// The builds that are not whole for it, by key and number.
    pub builds: BTreeSet<(Digest, u32)>,
}

impl Store {
    /// Hashes every blob, reads every tree and record, and looks for what they name. A store that is open for writing
    /// moves what is damaged aside, so that the next run rebuilds it; one for reading only tells. `piece` is told the
    /// bytes of each piece that was read, and stops the work by returning false.
    ///
    /// # Errors
    /// When the store cannot be read; [`StoreError::Interrupted`] when `piece` returned false.
    pub fn verify_all(&self, mut piece: impl FnMut(u64) -> bool) -> Result<Verdict> {
        let census = self.census()?;
        let mut verdict = Verdict { damage: census.damage.clone(), ..Verdict::default() };
        let mut broken: BTreeMap<Digest, Damage> = BTreeMap::new();
        // As long as a tree says that it is; what no tree names may have any length.
        let entries = census.trees.values().flat_map(|tree| tree.entries());
        let lengths: BTreeMap<Digest, u64> = entries.map(|entry| (entry.digest, entry.size)).collect();
        for (digest, size) in &census.blobs {
            let expected = lengths.get(digest).unwrap_or(size);
            match self.rehash_blob_told(*digest, *expected, &mut piece) {
                Ok(()) => {}
                Err(StoreError::Damaged(damage)) => drop(broken.insert(*digest, damage)),
                Err(error) => return Err(error),
            }
            verdict.blobs += 1;
            verdict.bytes += size;
        }
        verdict.damage.extend(broken.values().cloned());
        let mut missing = BTreeSet::new();
        for (build, record) in &census.builds {
            let mut whole = true;
            for tree in record.outputs.values() {
                let Some(listed) = census.trees.get(tree) else {
                    whole = false;
                    // A tree that is there and cannot be read was told with the census.
                    if !census.damage.iter().any(|damage| damage.object == Object::Tree(*tree)) {
                        missing.insert(Missing::Tree(*tree));
                    }
                    continue;
                };
                for entry in listed.entries() {
                    match census.blobs.get(&entry.digest) {
                        None => {
                            whole = false;
                            missing.insert(Missing::Blob(entry.digest));
                        }
                        Some(_) => whole &= !broken.contains_key(&entry.digest),
                    }
                }
            }
            if !whole {
                verdict.builds.insert(*build);
            }
        }
        verdict.damage.extend(missing.into_iter().map(Missing::damage));
        verdict.census = census;
        Ok(verdict)
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Missing {
    Blob(Digest),
    Tree(Digest),
}

impl Missing {
    fn damage(self) -> Damage {
        let object = match self {
            Self::Blob(digest) => Object::Blob(digest),
            Self::Tree(digest) => Object::Tree(digest),
        };
        Damage { object, fault: Fault::Missing, aside: None }
    }
}
