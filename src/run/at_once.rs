//! Stages that are cached, and of which this can be told without reading a source or waiting: most stages of most runs.
//!
//! They are looked up together, under one gate and with one line to the lease, on a few threads where they are many. Where
//! the gate is taken they are decided on threads of their own, and wait there.

use std::collections::BTreeMap;

use contract::Digest;

use super::execution::{Shared, caught};
use crate::manifest::StageDeclaration;
use crate::parallel;
use crate::plan::{Decider, Keyed};
use crate::store::Hit;

/// A stage with the tree that each of its input ports reads.
pub(super) type Open<'a> = (&'a StageDeclaration, BTreeMap<String, Digest>);

/// The outputs of those that are cached, in the order of `open`; `None` says only that the stage has to be decided.
pub(super) fn cached_at_once(
    decider: &Decider<'_>,
    shared: Shared<'_>,
    open: &[Open<'_>],
) -> Vec<Option<(Keyed, Hit)>> {
    let find = |(stage, inputs): &Open<'_>| {
        let (keyed, hit) = decider.cached_at_once(stage, inputs)?;
        shared.show(stage, &keyed, &hit.record.outputs, &hit.trees).ok()?;
        Some((keyed, hit))
    };
    let Some(_gate) = shared.store.leases.try_guard() else { return vec![None; open.len()] };
    // What panics here is decided on a thread of its own, and panics there.
    let found = parallel::map(open, |stage| caught(|| Ok(find(stage))).unwrap_or_default());
    let trees: Vec<_> = found.iter().flatten().flat_map(|(_, hit)| hit.record.outputs.values()).collect();
    match shared.hold(trees) {
        Ok(()) => found,
        Err(_) => vec![None; open.len()],
    }
}
