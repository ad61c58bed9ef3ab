//! The same work on many items, on a few threads.
//!
//! Whoever asks for it holds no lock that the work takes: it waits for threads that may wait for that lock. Those threads
//! serve one caller after another, so a second one waits as long as the first one's work takes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Items that a thread takes at a time, at least: to hand over fewer costs more than to do them.
const FEW: usize = 4;
/// Blocks for each thread, so that all end at about the same time.
const BLOCKS: usize = 8;
/// More threads than that wait for each other in the file system.
const THREADS: usize = 4;

/// Threads beside the caller's. They stay until the program ends, and so does the memory that they work in. None where there
/// is one processor, or where none can be had.
static OTHERS: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    let others = thread::available_parallelism().map_or(1, usize::from).min(THREADS) - 1;
    let build =
        || ThreadPoolBuilder::new().num_threads(others).thread_name(|number| format!("beside-{number}")).build();
    (others > 0).then(build)?.ok()
});

/// What `work` gives of each item, in their order. A panic in it goes on here.
pub fn map<T: Sync, U: Send>(items: &[T], work: impl Fn(&T) -> U + Sync) -> Vec<U> {
    // Work of these threads that asks for more of them does it alone.
    let are_free = |others: &&ThreadPool| items.len() > FEW && others.current_thread_index().is_none();
    let Some(others) = OTHERS.as_ref().filter(are_free) else {
        return items.iter().map(work).collect();
    };
    let threads = others.current_num_threads() + 1;
    let blocks: Vec<_> = items.chunks((items.len() / (BLOCKS * threads)).max(FEW)).collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(blocks.len())));
    let take_all = || loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(block) = blocks.get(index) else { break };
        let answers: Vec<_> = block.iter().map(&work).collect();
        done.lock().unwrap_or_else(PoisonError::into_inner).push((index, answers));
    };
    others.in_place_scope(|scope| {
        (1..threads).for_each(|_| scope.spawn(|_| take_all()));
        take_all();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().flat_map(|(_, answers)| answers).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_item_has_its_answer_in_its_place() {
        for length in [0, 1, 2, 3, 4, 5, 8, 9, 63, 64, 65, 100, 1000, 1001] {
            let items: Vec<usize> = (0..length).collect();
            assert_eq!(super::map(&items, |item| item * 2), (0..length).map(|item| item * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn work_may_ask_for_more_work() {
        let items: Vec<usize> = (0..100).collect();
        let sum = |item: &usize| super::map(&items, |other| item * other).iter().sum::<usize>();
        assert_eq!(super::map(&items, sum), items.iter().map(|item| item * 4950).collect::<Vec<_>>());
    }

    #[test]
    #[should_panic(expected = "number 999")]
    fn a_panic_is_not_lost() {
        let items: Vec<usize> = (0..1000).collect();
        super::map(&items, |item| assert!(*item < 999, "number {item}"));
    }
}
