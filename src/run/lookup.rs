//! The fast path for cached stages that need neither hashing of files outside the store nor waiting: most stages of most runs.
//!
//! They are looked up together, under one guard and with one line in the lease. If the guard is taken, they are decided on their own
//! threads, which wait for it.

use std::collections::BTreeMap;

use super::context::RunContext;
use super::decision::UndecidedStage;
use super::failure::{Failure, catch_panic};
use crate::parallel;
use crate::plan::{Decider, FastPath};

/// Looks stages up, in their order.
pub(super) fn look_up(decider: &Decider<'_>, context: RunContext<'_>, stages: &[UndecidedStage<'_>]) -> Vec<FastPath> {
    let find = |UndecidedStage { stage, inputs, .. }: &UndecidedStage<'_>| -> Result<FastPath, Failure> {
        let found = decider.fast_path(stage, inputs);
        if let FastPath::Cached(key, hit) = &found {
            context.publish(stage, key, &hit.record.outputs, &hit.trees)?;
        }
        Ok(found)
    };
    let unknown = || vec![FastPath::Unknown; stages.len()];
    let Some(_guard) = context.store.leases.try_guard() else { return unknown() };
    // A stage that panics or fails here is decided on its own thread, which reports the failure.
    let found = parallel::map(stages, |stage| catch_panic(|| find(stage)).unwrap_or(FastPath::Unknown));
    let outputs = found.iter().filter_map(|found| match found {
        FastPath::Cached(_, hit) => Some(&hit.record.outputs),
        FastPath::NeverBuilt(_) | FastPath::Unknown => None,
    });
    match context.lease(outputs.flat_map(BTreeMap::values)) {
        Ok(()) => found,
        Err(_) => unknown(),
    }
}
