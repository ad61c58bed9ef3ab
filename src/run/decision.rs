//! The decision on a stage with known inputs: cached, or ready to run.
//!
//! The decision may hash files outside the store, so it is made on a separate thread. It does not wait for the build of
//! another process.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use contract::{Digest, Progress, StageError, Unit};

use super::context::RunContext;
use super::failure::Failure;
use super::message::{Message, StaleStage};
use super::running::SAMPLE_INTERVAL;
use crate::events::Event;
use crate::manifest::StageDeclaration;
use crate::plan::{Decider, Decision, Reason, StageKey, source_setting};
use crate::store::{LockState, Lookup};

/// A stage whose inputs are done.
pub(super) struct UndecidedStage<'a> {
    pub(super) stage: &'a StageDeclaration,
    /// The tree that each input port reads.
    pub(super) inputs: BTreeMap<String, Digest>,
    /// Its key, if the fast path found that it has no recorded build.
    pub(super) never_built: Option<StageKey>,
}

/// Determines whether the output of a stage is in the store.
pub(super) fn decide(
    decider: &Decider<'_>,
    context: RunContext<'_>,
    undecided: UndecidedStage<'_>,
) -> Result<Message, Failure> {
    let UndecidedStage { stage, inputs, never_built } = undecided;
    let decision = match never_built {
        Some(key) => decider.decide(stage, key, Lookup::Miss)?,
        None => {
            let key = match decider.key(stage, &inputs, report_hashing(context, stage))? {
                Ok(key) => key,
                Err(missing) => return Err(missing_sources(stage, &missing)),
            };
            let outputs = |decision: &Decision| match decision {
                Decision::Cached(_, hit) => Some(hit.record.outputs.clone()),
                Decision::Run(..) => None,
            };
            let decide = || {
                let lookup = context.store.builds.lookup(key.key.digest())?;
                decider.decide(stage, key, lookup)
            };
            context.with_lease(decide, outputs)?
        }
    };
    match decision {
        Decision::Cached(key, hit) => {
            context.publish_cached(stage, &key, &hit);
            Ok(Message::Cached(key, hit))
        }
        Decision::Run(key, reasons, baseline) => {
            let forced = decider.forced.contains(&stage.name);
            let held = context.store.work.lock_state(key.key.digest())?;
            let cost = stage.cost_with(&|port| context.store.objects.input(*inputs.get(port)?).ok());
            let stale = Box::new(StaleStage { key, reasons, baseline, cost, forced });
            Ok(if held == LockState::Free { Message::Stale(stale) } else { Message::Locked(stale) })
        }
    }
}

/// Returns a callback that reports the number of hashed bytes of sources, and returns false once the run is
/// interrupted.
fn report_hashing<'a>(context: RunContext<'a>, stage: &StageDeclaration) -> impl FnMut(u64) -> bool + use<'a> {
    let (name, progress) = (stage.name.to_string(), Progress::default());
    progress.start("hash sources", Unit::Bytes, None);
    let mut reported = Instant::now();
    move |bytes| {
        progress.add(bytes);
        if reported.elapsed() > SAMPLE_INTERVAL {
            reported = Instant::now();
            context.events.send(Event::StageProgress { stage: name.clone(), sample: progress.sample(), rate: None });
        }
        !context.cancel.is_set()
    }
}

/// Returns the failure of a stage whose files outside the store are missing.
fn missing_sources(stage: &StageDeclaration, missing: &[Reason]) -> Failure {
    let texts: BTreeSet<_> = missing.iter().map(Reason::text).collect();
    let message = texts.into_iter().collect::<Vec<_>>().join("; ");
    let name = &stage.name;
    let hint = match source_setting(stage) {
        (setting, true) => format!("set '{setting}' of stage '{name}' to the paths of the files"),
        (setting, false) => format!(
            "set the path of the files: --set 'stages.{name}.{setting}=\"PATH\"', or the same setting in the manifest \
             or in machine.toml beside it"
        ),
    };
    StageError::new(message).hint(hint).into()
}
