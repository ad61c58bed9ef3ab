//! Token sets that were lately compared.
//!
//! Files of one family (migrations, generated clients) that are like each other but not near-duplicates meet the same
//! kept documents again and again. What is kept here saves reading those from the scratch folder each time.

use std::io;

use super::ranked::Ranked;
use super::record::SetPlace;

/// A set of that many bytes is expected, where the number of slots is chosen.
const SET_BYTES: usize = 2048;

/// Places and sets by rank, each rank in one slot; a newcomer takes its slot.
#[derive(Debug)]
pub struct SetCache {
    places: Vec<Option<(u32, SetPlace)>>,
    sets: Vec<Option<(u32, Vec<u64>)>>,
    /// Bytes of the sets, and of how many there may be before all are let go.
    bytes: usize,
    limit: usize,
    buffer: Vec<u8>,
}

impl SetCache {
    /// Holds about `memory` bytes, and one set whatever its size.
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

    /// Where the set of the document of this rank lies.
    ///
    /// # Errors
    /// When the scratch folder cannot be read.
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

    /// The set of the document of this rank, which lies at `place`.
    ///
    /// # Errors
    /// When the scratch folder cannot be read.
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
