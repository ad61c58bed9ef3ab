//! Which kept documents belong to one cluster although neither removed the other: both are near a removed document.
//!
//! A union-find that holds linked documents only, so that its size is that of the links and not of the table.

use std::collections::HashMap;

/// Sets of ranks; a rank that was never joined is alone.
#[derive(Debug, Default)]
pub struct Links(HashMap<u32, u32>);

impl Links {
    /// The first document of the set of `rank`.
    pub fn root(&self, rank: u32) -> u32 {
        let mut root = rank;
        while let Some(&parent) = self.0.get(&root) {
            root = parent;
        }
        root
    }

    /// Makes the sets of `a` and `b` one.
    pub fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.shorten(a), self.shorten(b));
        if a != b {
            self.0.insert(a.max(b), a.min(b));
        }
    }

    /// The root, to which the whole way is then linked directly.
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
        let mut links = Links::default();
        links.join(5, 9);
        links.join(7, 3);
        links.join(9, 7);
        assert_eq!([3, 5, 7, 9].map(|rank| links.root(rank)), [3; 4]);
        assert_eq!(links.root(4), 4);
        links.join(3, 3);
        assert_eq!(links.root(3), 3);
    }
}
