//! Stages that are cached, and of which this can be told without reading a file or waiting: most stages of most runs.
//!
//! They are looked up together, under one gate and with one line to the lease, on a few threads where they are many.

use std::collections::BTreeMap;
use std::thread;

use contract::Digest;

use super::execution::Shared;
use crate::manifest::StageDeclaration;
use crate::plan::{Decider, Keyed};
use crate::store::Hit;

/// A stage with the tree that each of its input ports reads.
pub(super) type Open<'a> = (&'a StageDeclaration, BTreeMap<String, Digest>);

/// Below so many stages a second thread costs more than it saves.
const MANY: usize = 32;
/// More threads than that wait for each other in the file system.
const THREADS: usize = 4;

/// The outputs of those that are cached, in the order of `open`; `None` says only that the stage has to be decided.
pub(super) fn cached_at_once(
    decider: &Decider<'_>,
    shared: Shared<'_>,
    open: &[Open<'_>],
) -> Vec<Option<(Keyed, Hit)>> {
    let find = |(stage, inputs): &Open<'_>| {
        let (keyed, hit) = decider.cached_at_once(stage, inputs)?;
        shared.show(stage, &keyed, &hit.record.outputs).ok()?;
        Some((keyed, hit))
    };
    let Ok(_gate) = shared.store.gate() else { return vec![None; open.len()] };
    let cores = thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let threads = cores.min(open.len() / MANY + 1);
    let share = open.len().div_ceil(threads).max(1);
    let found: Vec<_> = thread::scope(|scope| {
        let shares: Vec<_> =
            open.chunks(share).skip(1).map(|share| scope.spawn(move || find_all(share, find))).collect();
        let mut found = find_all(&open[..share.min(open.len())], find);
        for (number, share_of) in shares.into_iter().enumerate() {
            let missing = open.chunks(share).nth(number + 1).map_or(0, <[_]>::len);
            found.extend(share_of.join().unwrap_or_else(|_| vec![None; missing]));
        }
        found
    });
    let trees: Vec<_> = found.iter().flatten().flat_map(|(_, hit)| hit.record.outputs.values()).collect();
    match shared.lease.hold(trees) {
        Ok(()) => found,
        Err(_) => vec![None; open.len()],
    }
}

fn find_all<'a>(open: &[Open<'a>], find: impl Fn(&Open<'a>) -> Option<(Keyed, Hit)>) -> Vec<Option<(Keyed, Hit)>> {
    open.iter().map(find).collect()
}
