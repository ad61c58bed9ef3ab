//! The same work on many items, on a few threads.

use std::panic::resume_unwind;
use std::thread;

/// Below so many items a second thread costs more than it saves.
const MANY: usize = 32;
/// More threads than that wait for each other in the file system.
const THREADS: usize = 4;

/// What `work` gives of each item, in their order. A panic in it goes on here.
pub fn map<T: Sync, U: Send>(items: &[T], work: impl Fn(&T) -> U + Sync) -> Vec<U> {
    let cores = thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let share = items.len().div_ceil(cores.min(items.len() / MANY + 1)).max(1);
    let all = |items: &[T]| items.iter().map(&work).collect::<Vec<_>>();
    let (first, rest) = items.split_at(share.min(items.len()));
    thread::scope(|scope| {
        let shares: Vec<_> = rest.chunks(share).map(|share| scope.spawn(|| all(share))).collect();
        let mut done = all(first);
        for share in shares {
            done.extend(share.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_item_has_its_answer_in_its_place() {
        for length in [0, 1, 2, 31, 32, 33, 63, 64, 65, 100, 1000] {
            let items: Vec<usize> = (0..length).collect();
            assert_eq!(super::map(&items, |item| item * 2), (0..length).map(|item| item * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    #[should_panic(expected = "number 999")]
    fn a_panic_is_not_lost() {
        let items: Vec<usize> = (0..1000).collect();
        super::map(&items, |item| assert!(*item < 999, "number {item}"));
    }
}
