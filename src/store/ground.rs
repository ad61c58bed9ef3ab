//! What a stage reads, as the file system has it: scratch that a stage left is good for as long as this is untouched.

use std::collections::BTreeMap;
use std::fs;

use contract::Digest;

use super::error::{Result, StoreError};
use super::signature::Signature;
use super::{SourceSnapshot, Store};

impl Store {
    /// A digest over the signatures of all files of these trees, by port, and of these files outside the store. A file that
    /// was written to or replaced since gives another one, whatever it holds by now. The number of the disk is left out: it
    /// changes where nothing else does.
    ///
    /// # Errors
    /// When a tree or a blob cannot be read.
    pub fn ground(&self, trees: &BTreeMap<String, Digest>, sources: &SourceSnapshot) -> Result<Digest> {
        let mut text = String::new();
        let mut add = |name: &str, signature: Signature| {
            let Signature { inode, size, modified, changed, mode, .. } = signature;
            text += &format!("{name} {inode} {size} {modified} {changed} {mode}\n");
        };
        for digest in trees.values() {
            for entry in self.listing(*digest)?.entries() {
                let path = self.layout().blob(entry.digest);
                let metadata = fs::symlink_metadata(&path).map_err(StoreError::io("read", &path))?;
                add(&entry.digest.to_string(), Signature::of(&metadata));
            }
        }
        sources.signatures().for_each(|(digest, signature)| add(&digest.to_string(), signature));
        Ok(Digest::of_record("pipeline 2026 ground v1", text.as_bytes()))
    }
}
