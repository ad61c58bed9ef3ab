//! A cache of the token sets that were compared recently.
//!
//! Similar files that are not near-duplicates (migrations, generated clients) are compared with the same kept documents
//! again and again. The cache avoids reading those from the scratch directory each time.

use std::io;

use super::ranked::Ranked;
use super::record::SetPlace;

/// The assumed size of a set in bytes, for choosing the number of slots.
const SET_BYTES: usize = 2048;

/// Locations and sets by rank. Each rank has one slot; a new entry replaces the old one.
#[derive(Debug)]
pub struct SetCache {
    places: Vec<Option<(u32, SetPlace)>>,
    sets: Vec<Option<(u32, Vec<u64>)>>,
    /// The size of the sets in bytes, and the limit above which all are dropped.
    bytes: usize,
    limit: usize,
    buffer: Vec<u8>,
}

impl SetCache {
    /// Creates a cache of about `memory` bytes; it contains at least one set, whatever its size.
    pub fn new(memory: u64) -> Self {
        let memory = usize::try_from(memory).unwrap_or(usize::MAX);
        let slots = |bytes: usize, each: usize| (bytes / each).clamp(1, 1 << 20);
        Self {
            places: vec![None; slots(memory / 4, size_of::<Option<(u32, SetPlace)>>())],
            sets: vec![None; slots(memory / 2, SET_BYTES)],
            bytes: 0,
            limit: memory / 2,
            buffer: Vec::new(),
        }
    }

    /// Returns the location of the token set of the document of this rank.
    ///
    /// # Errors
    /// Returns an error if the scratch directory cannot be read.
    pub fn place(&mut self, ranked: &Ranked, rank: u32) -> io::Result<SetPlace> {
        let slots = self.places.len();
        let slot = &mut self.places[rank as usize % slots];
        match *slot {
            Some((cached, place)) if cached == rank => Ok(place),
            _ => {
                let place = ranked.document(rank)?.set;
                *slot = Some((rank, place));
                Ok(place)
            }
        }
    }

    /// Returns the token set of the document of this rank, whose location is `place`.
    ///
    /// # Errors
    /// Returns an error if the scratch directory cannot be read.
    pub fn set(&mut self, ranked: &Ranked, rank: u32, place: SetPlace) -> io::Result<&[u64]> {
        let slot = rank as usize % self.sets.len();
        if !matches!(&self.sets[slot], Some((cached, _)) if *cached == rank) {
            if self.bytes > self.limit {
                self.sets.fill(None);
                self.bytes = 0;
            }
            let mut set = self.sets[slot].take().map(|(_, set)| set).unwrap_or_default();
            self.bytes -= 8 * set.capacity();
            ranked.set(place, &mut set, &mut self.buffer)?;
            self.bytes += 8 * set.capacity();
            self.sets[slot] = Some((rank, set));
        }
        Ok(self.sets[slot].as_ref().map_or(&[], |(_, set)| set))
    }
}
