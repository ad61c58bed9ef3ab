//! Looking at everything again: each blob is hashed, whatever its seal says. In a store that is open for writing this is
//! also its repair: what is damaged is moved aside, trees that somebody else wrote down are restored, and builds that are
//! not whole for it are taken off the record, so that the next look finds nothing wrong. Damaged derived files are removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use contract::{Digest, Tree};

use super::census::Census;
use super::error::{Damage, Fault, Object, Result, StoreError};
use super::{Store, failpoint, write};

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
    /// Trees among it that were restored.
    pub restored: BTreeSet<Digest>,
    /// The builds that are not whole for it, by key and number.
    pub builds: BTreeSet<(Digest, u32)>,
}

impl Store {
    /// Hashes every blob, reads every tree and record, and looks for what they name. A store that is open for reading only
    /// tells. One that is open for writing moves what is damaged aside, restores trees that are in `known`, and takes builds
    /// that are not whole off the record, so that the next run builds what it needs of them. `piece` is told the bytes of
    /// each piece that was read, and stops the work by returning false.
    ///
    /// # Errors
    /// When the store cannot be read; [`StoreError::Interrupted`] when `piece` returned false.
    pub fn verify_all(&self, known: &BTreeMap<Digest, Tree>, mut piece: impl FnMut(u64) -> bool) -> Result<Verdict> {
        // Nothing is removed meanwhile, so what is missing is missing.
        let _gate = if self.is_writable() { Some(self.gate()?) } else { self.reading() };
        let mut census = self.census()?;
        let lost = census.lost_trees();
        let mut verdict = Verdict { damage: census.all_damage(), ..Verdict::default() };
        if self.is_writable() {
            for listing in lost.iter().filter_map(|tree| known.get(tree)) {
                failpoint::pass("repair-before-restore");
                let tree = self.write_tree(listing)?;
                census.trees.insert(tree, listing.clone());
                verdict.restored.insert(tree);
            }
        }
        let mut broken: BTreeMap<Digest, Damage> = BTreeMap::new();
        // As long as a tree says that it is; what no tree names may have any length.
        let entries = census.trees.values().flat_map(|tree| tree.entries());
        let lengths: BTreeMap<Digest, u64> = entries.map(|entry| (entry.digest, entry.size)).collect();
        for (digest, size) in &census.blobs {
            let expected = lengths.get(digest).unwrap_or(size);
            match self.rehash_blob(*digest, *expected, &mut piece) {
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
                    continue;
                };
                for entry in listed.entries() {
                    match census.blobs.get(&entry.digest) {
                        None => {
                            whole = false;
                            missing.insert(entry.digest);
                        }
                        Some(_) => whole &= !broken.contains_key(&entry.digest),
                    }
                }
            }
            if !whole {
                verdict.builds.insert(*build);
            }
        }
        for (name, bytes) in &census.derived {
            let derived = self.derived();
            let damaged = derived.damaged(name, &mut piece);
            let path = self.layout().folder("derived").join(name);
            let damaged = damaged.map_err(StoreError::io("read", &path))?;
            let damaged = damaged.ok_or(StoreError::Interrupted)?;
            verdict.bytes += bytes;
            if self.is_writable() && !damaged.is_empty() {
                derived.remove(name).map_err(StoreError::io("remove", &path))?;
            }
            verdict.damage.extend(damaged.into_iter().map(|(path, found)| {
                let fault = found.map_or(Fault::Missing, |found| Fault::Content { found });
                Damage { object: Object::File(path), fault, aside: None }
            }));
        }
        verdict.damage.extend(missing.into_iter().map(|blob| Object::Blob(blob).missing()));
        if self.is_writable() {
            self.take_off_the_record(&census, &mut verdict)?;
        }
        verdict.census = census;
        Ok(verdict)
    }

    /// Writes builds off that are not whole: what they gave stays in the ledger. What runs remember of trees that are gone is
    /// moved aside.
    fn take_off_the_record(&self, census: &Census, verdict: &mut Verdict) -> Result<()> {
        let aside = |path: &Path| match write::move_aside(path, &self.layout().folder("damaged")) {
            // Another process is repairing too.
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
            moved => moved.map(drop),
        };
        for (key, number) in std::mem::take(&mut verdict.builds) {
            // A run may have built it again since it was listed.
            if self.trees_of(&census.builds[&(key, number)])?.1.is_empty() {
                continue;
            }
            failpoint::pass("repair-before-record");
            self.write_off(key, number)?;
            // Other builds of the key keep the folder.
            let _ = fs::remove_dir(self.layout().records(key));
            verdict.builds.insert((key, number));
        }
        for (run, stages) in &census.runs {
            for (stage, last) in stages {
                // A run may have given something else since.
                let is_same = self.last_build(run, stage)?.as_ref() == Some(last);
                if is_same
                    && last
                        .outputs
                        .values()
                        .any(|tree| !census.trees.contains_key(tree) && self.listing(*tree).is_err())
                {
                    failpoint::pass("repair-before-last-build");
                    aside(&self.last_build_path(run, stage)?)?;
                }
            }
        }
        Ok(())
    }
}
