//! Which processor each slot runs on.
//!
//! The processes of a program wait for each other most of the time, so they lose nothing on one processor, and none of them has to be
//! woken on another one. The slots of a sandbox are spread evenly over the processors that this process may use.

use std::sync::{Arc, Mutex, PoisonError};

use nix::{
    sched::{CpuSet, sched_getaffinity},
    unistd::Pid,
};

/// The number of slots on each processor that may be used.
#[derive(Clone)]
pub(super) struct Processors(Arc<Mutex<Vec<(usize, usize)>>>);

/// A slot's place on a processor; it is free again when this is dropped.
pub(super) struct Place {
    processors: Processors,
    /// The number of the processor; `None` if the kernel does not say which may be used.
    pub processor: Option<usize>,
}

impl Processors {
    /// The processors of this process. Which comes first differs between processes, so that those with one slot each are spread, too.
    pub fn of_this_process() -> Self {
        let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        let mut numbers: Vec<_> = (0..CpuSet::count())
            .filter(|number| allowed.is_set(*number).unwrap_or(false))
            .map(|number| (number, 0))
            .collect();
        let first = std::process::id() as usize % numbers.len().max(1);
        numbers.rotate_left(first);
        Self(Arc::new(Mutex::new(numbers)))
    }

    /// Takes a place on the processor with the fewest slots.
    pub fn place(&self) -> Place {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fewest = slots.iter_mut().min_by_key(|(_, slots)| *slots);
        let processor = fewest.map(|(number, slots)| {
            *slots += 1;
            *number
        });
        Place { processors: self.clone(), processor }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut slots = self.processors.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, slots)) = slots.iter_mut().find(|(number, _)| Some(*number) == self.processor) {
            *slots -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_spread_evenly_and_their_places_used_again() {
        let processors = Processors(Arc::new(Mutex::new(vec![(3, 0), (5, 0)])));
        let mut places: Vec<_> = (0..5).map(|_| processors.place()).collect();
        let numbers: Vec<_> = places.iter().filter_map(|place| place.processor).collect();
        assert_eq!(numbers, [3, 5, 3, 5, 3]);
        drop(places.remove(1));
        drop(places.remove(2));
        assert_eq!([processors.place().processor, processors.place().processor], [Some(5), Some(5)]);
        assert_eq!(Processors(Arc::new(Mutex::new(Vec::new()))).place().processor, None);
    }

    #[test]
    fn this_process_has_a_processor() {
        assert!(Processors::of_this_process().place().processor.is_some());
    }
}
