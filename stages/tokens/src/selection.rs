//! A sample of documents that depends only on the seed and the documents: those with the smallest draws.
//!
//! So it is the same for any order of the parts, and a new shard replaces only as many documents as it contributes.

use contract::{Context, Draw, Result};
use tables::{Table, each_part};

use crate::documents;

/// A sample of documents.
#[derive(Debug, Clone)]
pub struct Selection {
    draw: Draw,
    bound: u64,
}

impl Selection {
    /// Returns whether the sample contains the document with this id. Rows with equal ids are either all in the sample
    /// or all not.
    pub fn takes(&self, id: &str) -> bool {
        self.draw.bits(id.as_bytes()) <= self.bound
    }
}

/// Draws a sample of each of these sizes; all documents if there are fewer. A smaller sample is part of a larger one.
/// Reads only the ids; memory: 8 bytes for each document of the largest sample, in each thread.
///
/// # Errors
/// Returns an error if the table cannot be read, or an error if the stage was asked to stop.
pub fn select(context: &Context, table: &Table, purpose: &str, sizes: &[u64]) -> Result<Vec<Selection>> {
    let draw = Draw::new(context.seed, purpose);
    let largest = usize::try_from(sizes.iter().copied().max().unwrap_or(0)).unwrap_or(usize::MAX);
    let smallest = std::sync::Mutex::new(Vec::new());
    each_part(context, table.parts(), |part| {
        let mut draws = Vec::new();
        for ids in documents::ids(part)? {
            draws.extend(ids?.iter().map(|id| draw.bits(id.as_bytes())));
            context.cancel.check()?;
        }
        let mut all = smallest.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.append(&mut draws);
        keep_smallest(&mut all, largest);
        Ok(())
    })?;
    let mut draws = smallest.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    draws.sort_unstable();
    let bound = |size: &u64| match usize::try_from(*size) {
        Ok(0) => 0,
        Ok(size) if (size as u64) < table.rows() => draws.get(size - 1).copied().unwrap_or(u64::MAX),
        _ => u64::MAX,
    };
    Ok(sizes.iter().map(|size| Selection { draw: draw.clone(), bound: bound(size) }).collect())
}

fn keep_smallest(draws: &mut Vec<u64>, count: usize) {
    if count > 0 && draws.len() > count {
        draws.select_nth_unstable(count - 1);
        draws.truncate(count);
    }
}
