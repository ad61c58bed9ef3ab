//! The execution of a stale stage, from acquiring the lock of its key to its output.
//!
//! The order of the steps ensures that a kill at any point leaves a consistent store: acquire the lock of the key; check whether another
//! process built it meanwhile; empty the staging directory and keep the scratch directory; run; check that no input changed; then
//! [`super::saving`].

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use contract::{Context, Digest, Inputs, Outputs, Progress, Resources, StageError};

use super::context::RunContext;
use super::failure::{Failure, catch_panic};
use super::message::{Message, StaleStage};
use super::usage::Usage;
use crate::clock;
use crate::events::Event;
use crate::manifest::StageDeclaration;
use crate::plan::{Reason, StageKey, fit, lint, reason_lines, stage_task};
use crate::store::{KeyLock, LockHolder, Lookup, Staged, StoreError};

/// A stage that ran and succeeded.
pub(super) struct Attempt {
    pub(super) staged: Staged,
    /// Bytes that it read.
    pub(super) read: u64,
    pub(super) started: SystemTime,
    /// Its duration, in seconds.
    pub(super) seconds: f64,
    pub(super) usage: Usage,
    pub(super) resources: Resources,
}

impl RunContext<'_> {
    /// Acquires the lock of a stale stage's key, calls `starts`, runs the stage, saves its output and releases the lock. If another process
    /// or stage has finished a build meanwhile, the stage is cached, unless it is forced.
    pub(super) fn execute(
        &self,
        stage: &StageDeclaration,
        stale: Box<StaleStage>,
        resources: Resources,
        progress: &Progress,
        starts: impl FnOnce(),
    ) -> Result<Message, Failure> {
        if self.cancel.is_set() {
            return Err(Failure::Interrupted);
        }
        let key = stale.key.key.digest();
        let Some(lock) = self.store.work.lock(key, &LockHolder::this(stage.name.as_str()))? else {
            return Ok(Message::Locked(stale));
        };
        // While the lock is held, the recorded builds cannot change.
        let look_up = || -> Result<_, StoreError> {
            let builds = self.store.builds.of(key)?;
            let is_cached = builds.count() > 0 && !stale.forced;
            Ok((builds, if is_cached { self.store.builds.lookup(key)? } else { Lookup::Miss }))
        };
        let (builds, lookup) = self.with_lease(look_up, |(_, lookup)| lookup.outputs().cloned())?;
        if let Lookup::Hit(hit) = lookup {
            self.publish_cached(stage, &stale.key, &hit);
            return Ok(Message::Cached(stale.key, hit));
        }
        // The stage may have waited hours for its share.
        let touched = stale.key.sources.touched().next().map(ToOwned::to_owned);
        if let Some(path) = touched {
            return Ok(Message::SourceChanged(stale, path));
        }
        starts();
        self.announce(stage, &stale, resources)?;
        let attempt = self.attempt(stage, &stale, &lock, resources, progress)?;
        self.save(stage, *stale, &lock, attempt, &builds, progress)
    }

    /// Sends the start of a stage and warnings about it.
    ///
    /// # Errors
    /// Returns an error if the stage needs more than the machine has: its inputs are known only now.
    fn announce(&self, stage: &StageDeclaration, stale: &StaleStage, resources: Resources) -> Result<(), Failure> {
        let StaleStage { key, reasons, baseline, cost, .. } = stale;
        let name = &stage.name;
        self.events.send(Event::StageStarted {
            stage: name.to_string(),
            kind: stage.kind.name.to_owned(),
            key: key.key.digest(),
            threads: resources.threads,
            reasons: reason_lines(reasons, baseline.as_ref().map(|baseline| &baseline.build)),
        });
        for reason in reasons.iter().filter(|reason| matches!(reason, Reason::Damaged { .. })) {
            self.warn(name, reason.text());
        }
        let available = self.budget.available(self.store.layout().root());
        let task = stage_task(self.manifest, self.store, stage, key, *cost, baseline.as_ref());
        for shortfall in fit::check_stage(self.manifest, task, available) {
            if shortfall.is_error && !self.budget.allow_oversize {
                let hint = format!("{}; {} runs the stage anyway", shortfall.hint(), fit::ALLOW);
                return Err(StageError::new(shortfall.message()).hint(hint).into());
            }
            self.warn(name, shortfall.text());
        }
        // If the kind panics here, the stage can still run.
        let inputs = self.store.objects.readable(&key.inputs);
        let advice = catch_panic(|| Ok(lint::of(self.manifest, stage, &inputs))).unwrap_or_default();
        advice.iter().filter(|advice| advice.warning.is_some()).for_each(|advice| self.warn(name, advice.full_text()));
        tracing::info!(stage = %name, key = %key.key, threads = resources.threads, "stage starts");
        Ok(())
    }

    /// Runs the stage, and checks that its inputs were not changed meanwhile.
    fn attempt(
        &self,
        stage: &StageDeclaration,
        stale: &StaleStage,
        lock: &KeyLock,
        resources: Resources,
        progress: &Progress,
    ) -> Result<Attempt, Failure> {
        let StageKey { inputs, sources, .. } = &stale.key;
        self.check_inputs(inputs, "before the stage read it")?;
        let work = self.store.work.prepare(lock, self.store.work.input_fingerprint(inputs, sources)?)?;
        if work.emptied {
            progress.warn("checkpoint discarded: its inputs changed");
        }
        let trees = inputs.iter().map(|(port, digest)| Ok((port.clone(), self.store.objects.input(*digest)?)));
        let trees = Inputs::new(trees.collect::<Result<_, StoreError>>()?);
        let ports = stage.ports.outputs.iter().map(|port| port.name.clone().into_owned());
        let context = Context {
            inputs: trees,
            sources: sources.files().cloned().collect(),
            outputs: Outputs::stage(&work.staging, ports).map_err(StageError::from)?,
            scratch: work.scratch,
            derived: self.store.objects.derived(),
            resources,
            seed: self.manifest.seed,
            machine_facts: stale.key.key_record.machine_facts(),
            progress: progress.clone(),
            cancel: self.cancel.clone(),
        };
        let measurement = self.meter.start();
        let (started, clock) = (clock::now(), Instant::now());
        stage.stage.run(&context)?;
        let seconds = clock.elapsed().as_secs_f64();
        let usage = measurement.usage();
        drop(measurement);

        self.check_inputs(inputs, "while the stage read it, so its output was not saved")?;
        if let Some(path) = sources.changed()?.first() {
            return Err(StageError::new("it changed while the stage read it, so the output was not saved")
                .in_file(path)
                .hint("run again when nothing writes to it any more")
                .into());
        }
        let files = context.inputs.iter().flat_map(|(_, tree)| &tree.files);
        let read = files.fold(sources.size(), |sum, file| sum.saturating_add(file.size));
        Ok(Attempt { staged: context.outputs.finish()?, read, started, seconds, usage, resources })
    }

    /// Checks that the inputs are not damaged: no output may be computed from a blob that was changed in the store.
    fn check_inputs(&self, inputs: &BTreeMap<String, Digest>, when: &str) -> Result<(), Failure> {
        for (port, digest) in inputs {
            let damage = match self.store.objects.check(*digest) {
                Err(StoreError::Damaged(damage)) => vec![damage],
                checked => checked?,
            };
            if let Some(damage) = damage.first() {
                let message = format!("the input '{port}' was changed in the store {when}: {damage}");
                return Err(StageError::new(message).hint("run again: damaged outputs are rebuilt first").into());
            }
        }
        Ok(())
    }
}
