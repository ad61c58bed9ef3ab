//! A disjoint-set forest (union-find) of the kept documents that belong to one cluster because they are near the same removed document.
//!
//! It contains only joined documents, so its size depends on the number of joins and not on the size of the table.

use std::collections::HashMap;

/// Disjoint sets of ranks. A rank that was never joined is a set of its own.
#[derive(Debug, Default)]
pub struct DisjointSet(HashMap<u32, u32>);

impl DisjointSet {
    /// Returns the smallest rank of the set of `rank`.
    pub fn root(&self, rank: u32) -> u32 {
        let mut root = rank;
        while let Some(&parent) = self.0.get(&root) {
            root = parent;
        }
        root
    }

    /// Merges the sets of `a` and `b`.
    pub fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.shorten(a), self.shorten(b));
        if a != b {
            self.0.insert(a.max(b), a.min(b));
        }
    }

    /// Returns the root and compresses the path to it.
    fn shorten(&mut self, rank: u32) -> u32 {
        let root = self.root(rank);
        let mut at = rank;
        while at != root {
            match self.0.insert(at, root) {
                Some(parent) => at = parent,
                None => break,
            }
        }
        root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_sets_share_their_first() {
        let mut sets = DisjointSet::default();
        sets.join(5, 9);
        sets.join(7, 3);
        sets.join(9, 7);
        assert_eq!([3, 5, 7, 9].map(|rank| sets.root(rank)), [3; 4]);
        assert_eq!(sets.root(4), 4);
        sets.join(3, 3);
        assert_eq!(sets.root(3), 3);
    }
}
