//! Saves the output of a stage, from the staging directory to its record.
//!
//! The output is moved into the store; its record is written, which makes it a build; it is published under the run's name; the
//! scratch directory is removed.

use std::collections::BTreeMap;

use contract::{Digest, Progress, Tree};

use super::comparison::OutputComparison;
use super::context::RunContext;
use super::execution::Attempt;
use super::failure::Failure;
use super::message::{Message, StaleStage};
use super::outcome::StageOutcome;
use crate::manifest::StageDeclaration;
use crate::store::{KeyBuilds, KeyLock, Lookup, Machine, Record, StoreError, milliseconds};

impl RunContext<'_> {
    /// Saves the output of a stage; `builds` are the earlier builds of its key.
    pub(super) fn save(
        &self,
        stage: &StageDeclaration,
        stale: StaleStage,
        lock: &KeyLock,
        attempt: Attempt,
        builds: &KeyBuilds,
        progress: &Progress,
    ) -> Result<Message, Failure> {
        let Attempt { staged, read, started, seconds, usage, resources } = attempt;
        let StaleStage { key, baseline, cost, .. } = stale;
        let earlier_seconds = progress.earlier_seconds();
        // Until a record names the new blobs, only the guard protects them from being removed as unreferenced.
        let guard = self.store.leases.guard()?;
        let outputs = self.store.objects.adopt(staged)?;
        let record = Record {
            key: key.key.digest(),
            kind: stage.kind.name.to_owned(),
            revision: stage.kind.revision,
            stage: stage.name.to_string(),
            run: self.manifest.name.clone(),
            number: self.open.map(|open| open.dir.number),
            outputs: outputs.clone(),
            key_record: key.key_record.clone(),
            started: milliseconds(started),
            seconds: earlier_seconds + seconds,
            // The processor time of the earlier runs of an interrupted build is not known.
            cpu_seconds: usage.cpu_seconds.filter(|_| earlier_seconds == 0.0),
            peak_memory: usage.peak_memory,
            operations: cost.flops.filter(|operations| operations.is_finite()),
            updates: cost.updates,
            input_bytes: Some(read),
            metrics: finite(progress.metrics()),
            threads: resources.threads,
            device: resources.device,
            machine: Machine::this().clone(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.store.builds.record(&record)?;
        let (record, trees) = self.used_build(stage, record, builds, progress)?;
        let earlier = builds.count();
        let is_new = !builds.all().any(|other| other.outputs == outputs);
        let differs = earlier > 0 && (is_new || record.outputs != outputs);
        self.lease(record.outputs.values())?;
        drop(guard);
        let comparison = OutputComparison::new(baseline.as_ref(), self, stage, &key, &outputs);
        // The build is recorded: a failure from here on loses a link or disk space, not the build.
        let published = self.publish(stage, &key, &record.outputs, &trees).and_then(|()| self.store.work.clear(lock));
        if let Err(error) = published {
            progress.warn(format!("output saved; cleanup failed: {error}"));
        }
        let outcome = Box::new(StageOutcome { key, record, trees, ran: true, differs, earlier });
        Ok(Message::Built { outcome, seconds, comparison })
    }

    /// Returns the build that is used, with its files: the first undamaged build of the key. Warns if builds of the key differ.
    fn used_build(
        &self,
        stage: &StageDeclaration,
        record: Record,
        builds: &KeyBuilds,
        progress: &Progress,
    ) -> Result<(Record, BTreeMap<String, Tree>), Failure> {
        // The new build is the first one, unless there are earlier ones.
        let lookup = if builds.count() == 0 { Lookup::Miss } else { self.store.builds.lookup(record.key)? };
        let Lookup::Hit(hit) = lookup else {
            let tree = |(port, digest): (&String, &Digest)| Ok((port.clone(), self.store.objects.tree(*digest)?));
            let trees = record.outputs.iter().map(tree).collect::<Result<_, StoreError>>()?;
            return Ok((record, trees));
        };
        if hit.distinct > 1 {
            progress.warn(format!(
                "{} is not deterministic here: {} builds of key {} have {} different outputs; the first undamaged one is used",
                stage.name,
                hit.builds,
                record.key.short(),
                hit.distinct
            ));
        }
        Ok((hit.record, hit.trees))
    }
}

/// Removes the values that a record cannot hold.
fn finite(mut metrics: BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    metrics.retain(|_, value| value.is_finite());
    metrics
}
