//! One stage whose inputs are known, from its sources to an answer: cached, or ready to run.
//!
//! It may hash files outside the store, so it has a thread of its own. It waits for no other process's build.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use contract::{Digest, Progress, StageError, Unit};

use super::execution::{Failure, Ready, Shared};
use super::running::TICK;
use crate::events::Event;
use crate::manifest::StageDeclaration;
use crate::plan::{Decider, Decision, Keyed, Reason, source_setting};
use crate::store::{Hit, LockState};

/// What came out.
pub(super) enum Decided {
    /// Its output is in the store.
    Cached(Keyed, Box<Hit>),
    /// It is stale.
    Ready(Box<Ready>),
    /// It is stale, and another process builds its key.
    Held(Box<Ready>),
}

/// Finds out whether a stage's output is in the store.
pub(super) fn decide(
    decider: &Decider<'_>,
    shared: Shared<'_>,
    stage: &StageDeclaration,
    inputs: BTreeMap<String, Digest>,
) -> Result<Decided, Failure> {
    let (name, progress) = (stage.name.clone(), Progress::default());
    progress.start("hash sources", Unit::Bytes, None);
    let mut told = Instant::now();
    let hashed = |bytes| {
        progress.add(bytes);
        if told.elapsed() > TICK {
            told = Instant::now();
            let (stage, sample) = (name.to_string(), progress.sample());
            shared.events.send(Event::StageProgress { stage, sample, rate: None });
        }
        !shared.cancel.is_set()
    };
    let keyed = match decider.key(stage, &inputs, hashed)? {
        Ok(keyed) => keyed,
        Err(missing) => return Err(without_sources(stage, &missing)),
    };
    let decision = shared.leased(
        || decider.decide(stage, keyed),
        |decision| match decision {
            Decision::Cached(_, hit) => Some(hit.record.outputs.clone()),
            Decision::Run(..) => None,
        },
    )?;
    match decision {
        Decision::Cached(keyed, hit) => {
            shared.show_cached(stage, &keyed, &hit);
            Ok(Decided::Cached(keyed, hit))
        }
        Decision::Run(keyed, reasons, baseline) => {
            let forced = decider.forced.contains(&stage.name);
            let held = shared.store.work.lock_state(keyed.key.digest())?;
            let cost = stage.cost_with(&|port| shared.store.objects.input(*inputs.get(port)?).ok());
            let ready = Box::new(Ready { keyed, reasons, baseline, inputs, cost, forced });
            Ok(if held == LockState::Free { Decided::Ready(ready) } else { Decided::Held(ready) })
        }
    }
}

/// The failure of a stage whose files outside the store are missing.
fn without_sources(stage: &StageDeclaration, missing: &[Reason]) -> Failure {
    let texts: BTreeSet<_> = missing.iter().map(Reason::text).collect();
    let message = texts.into_iter().collect::<Vec<_>>().join("; ");
    let name = &stage.name;
    let hint = match source_setting(stage) {
        (setting, true) => format!("say where the files are in '{setting}' of stage '{name}'"),
        (setting, false) => format!(
            "say where the files are: --set 'stages.{name}.{setting}=\"data/file-*.json.gz\"', or the same setting in the \
             manifest or in machine.toml beside it"
        ),
    };
    StageError::new(message).hint(hint).into()
}
