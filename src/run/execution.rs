//! One stage, from its lock to its record.
//!
//! In this order, so that a kill at any point leaves a store that works: take the key's lock; look again whether another
//! process built it meanwhile; empty the staging folder, keep the scratch folder; run; check that no external file
//! changed; move the output into the store; write the record; show the output under the run's name; remove the scratch.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use contract::{Cancel, Context, Cost, Digest, Inputs, Note, Outputs, Progress, Resources, StageError, Tree};

use super::change::Change;
use super::resources::Budget;
use super::usage::{Meter, Usage};
use crate::clock;
use crate::events::{Event, EventSender};
use crate::manifest::{Manifest, StageDeclaration, StageName};
use crate::plan::{Baseline, Keyed, Reason, fit, lint, patterns, reason_lines};
use crate::store::{
    Hit, KeyLock, LastBuild, LockHolder, Lookup, Machine, OpenRun, Record, Staged, Store, StoreError, milliseconds,
};

/// What the stages of one run share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) store: &'a Store,
    pub(super) events: &'a EventSender,
    pub(super) cancel: &'a Cancel,
    pub(super) budget: Budget,
    pub(super) meter: &'a Meter,
    /// `None` where nothing is recorded: in a store that is open for reading only.
    pub(super) open: Option<&'a OpenRun>,
}

/// Why a stage has no output.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was asked to stop.
    Interrupted,
    /// The stage's own failure.
    Stage(contract::error::Failure),
    /// The store's.
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Interrupted => Self::Interrupted,
            error => Self::Store(error),
        }
    }
}

impl From<StageError> for Failure {
    fn from(error: StageError) -> Self {
        match error {
            StageError::Interrupted => Self::Interrupted,
            StageError::Failed(failure) => Self::Stage(*failure),
        }
    }
}

/// A stale stage.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) keyed: Keyed,
    pub(super) reasons: Vec<Reason>,
    /// The build that the reasons compare with.
    pub(super) baseline: Option<Baseline>,
    pub(super) inputs: BTreeMap<String, Digest>,
    /// What it costs with these inputs.
    pub(super) cost: Cost,
    /// It runs whether its output is in the store by now or not.
    pub(super) forced: bool,
}

/// What came of a stage that was given its share of the machine.
#[derive(Debug)]
pub(super) enum Executed {
    /// It ran.
    Built(Box<Built>),
    /// Another process, or another stage of this run, built its key meanwhile.
    Cached(Box<Hit>),
    /// Another process holds the lock of its key: nothing was done.
    Held,
    /// This file outside the store is not what it was when the stage was decided: nothing was done.
    Changed(PathBuf),
}

/// A stage with an output.
#[derive(Debug)]
pub(super) struct Built {
    /// The build that is used from now on.
    pub(super) record: Record,
    /// The files of each of its ports.
    pub(super) trees: BTreeMap<String, Tree>,
    /// How long this one took, in seconds.
    pub(super) seconds: f64,
    /// It gave other bytes than the build that is used, or than every earlier one.
    pub(super) differs: bool,
    /// Builds of its key before it.
    pub(super) earlier: usize,
    /// What this one gave against the build that it is compared with.
    pub(super) change: Change,
}

/// A stage that ran to its end.
struct Attempt {
    staged: Staged,
    /// Bytes that it read.
    read: u64,
    started: SystemTime,
    /// How long it took, in seconds.
    seconds: f64,
    usage: Usage,
    resources: Resources,
}

impl Shared<'_> {
    /// Takes the lock of a stale stage's key, says that it `starts`, runs the stage, keeps its output and frees the lock. A
    /// build that was finished meanwhile is a hit, unless the stage is forced.
    pub(super) fn execute(
        &self,
        stage: &StageDeclaration,
        ready: &Ready,
        resources: Resources,
        progress: &Progress,
        starts: impl FnOnce(),
    ) -> Result<Executed, Failure> {
        if self.cancel.is_set() {
            return Err(Failure::Interrupted);
        }
        let key = ready.keyed.key.digest();
        let Some(lock) = self.store.work.lock(key, &LockHolder::this(stage.name.as_str()))? else {
            return Ok(Executed::Held);
        };
        let trees = |lookup: &Lookup| lookup.outputs().cloned();
        if !ready.forced
            && let Lookup::Hit(hit) = self.leased(|| self.store.builds.lookup(key), trees)?
        {
            self.show_cached(stage, &ready.keyed, &hit);
            return Ok(Executed::Cached(hit));
        }
        // It may have waited for its share for hours.
        if let Some(path) = ready.keyed.sources.touched().next() {
            return Ok(Executed::Changed(path.to_owned()));
        }
        starts();
        self.tell_start(stage, ready, resources)?;
        let attempt = self.attempt(stage, ready, &lock, resources, progress)?;
        Ok(Executed::Built(Box::new(self.keep(stage, ready, &lock, attempt, progress)?)))
    }

    /// Says that a stage starts, and what may be wrong with that.
    ///
    /// # Errors
    /// When it needs more than there is: with its inputs more is known of that than before the run.
    fn tell_start(&self, stage: &StageDeclaration, ready: &Ready, resources: Resources) -> Result<(), Failure> {
        let Ready { keyed, reasons, baseline, inputs, .. } = ready;
        let name = &stage.name;
        self.events.send(Event::StageStarted {
            stage: name.to_string(),
            kind: stage.kind.name.to_owned(),
            key: keyed.key.digest(),
            threads: resources.threads,
            reasons: reason_lines(reasons, baseline.as_ref().map(|baseline| &baseline.build)),
        });
        for reason in reasons.iter().filter(|reason| matches!(reason, Reason::Damaged { .. })) {
            self.warn(name, reason.text());
        }
        let available = self.budget.available(self.store.layout().root());
        let scratch = self.store.work.scratch_bytes(Some(keyed.key.digest()));
        let task = fit::Task { stage, cost: ready.cost, scratch };
        for misfit in fit::of_stage(self.manifest, task, available) {
            if misfit.is_error && !self.budget.allow_oversize {
                let hint = format!("{}; {} runs it all the same", misfit.hint(), fit::ALLOW);
                return Err(StageError::new(misfit.message()).hint(hint).into());
            }
            self.warn(name, misfit.text());
        }
        let inputs = self.store.objects.readable(inputs);
        let read = read(&inputs, keyed);
        if ready.cost.disk.is_none()
            && let Some(misfit) = fit::disk_of(stage, &ready.cost, read, available.disk)
        {
            self.warn(name, misfit.text());
        }
        // A kind that cannot say what it thinks of its inputs can still run.
        let advice = caught(|| Ok(lint::of(self.manifest, stage, &inputs))).unwrap_or_default();
        advice.iter().filter(|advice| advice.warning.is_some()).for_each(|advice| self.warn(name, advice.full_text()));
        tracing::info!(stage = %name, key = %keyed.key, threads = resources.threads, "stage starts");
        Ok(())
    }

    /// Says something of a stage.
    pub(super) fn warn(&self, name: &StageName, text: String) {
        self.events.send(Event::StageNote { stage: name.to_string(), note: Note::Warning { text } });
    }

    /// Runs the stage over inputs that nobody touches meanwhile.
    fn attempt(
        &self,
        stage: &StageDeclaration,
        ready: &Ready,
        lock: &KeyLock,
        resources: Resources,
        progress: &Progress,
    ) -> Result<Attempt, Failure> {
        let Ready { keyed, inputs, .. } = ready;
        self.check_inputs(inputs, "before the stage read it")?;
        let work = self.store.work.prepare(lock, self.store.work.input_fingerprint(inputs, &keyed.sources)?)?;
        if work.emptied {
            progress.warn(
                "what an earlier try left is not used: something that it was made from was touched or copied since",
            );
        }
        let trees = inputs.iter().map(|(port, digest)| Ok((port.clone(), self.store.objects.input(*digest)?)));
        let trees = Inputs::new(trees.collect::<Result<_, StoreError>>()?);
        let read = read(&trees, keyed);
        let ports = stage.ports.outputs.iter().map(|port| port.name.clone().into_owned());
        let context = Context {
            inputs: trees,
            sources: keyed.sources.files().cloned().collect(),
            outputs: Outputs::stage(&work.staging, ports).map_err(StageError::from)?,
            scratch: work.scratch,
            derived: self.store.objects.derived(),
            resources,
            seed: self.manifest.seed,
            progress: progress.clone(),
            cancel: self.cancel.clone(),
        };
        let measurement = self.meter.start();
        let (started, clock) = (clock::now(), Instant::now());
        stage.stage.run(&context)?;
        let seconds = clock.elapsed().as_secs_f64();
        let usage = measurement.usage();
        drop(measurement);

        self.check_inputs(inputs, "while the stage read it, so nothing of it was kept")?;
        let changed = keyed.sources.changed()?;
        if let Some(path) = changed.first() {
            return Err(StageError::new("it changed while the stage read it, so nothing of it was kept")
                .in_file(path)
                .hint("run again when nothing writes to it any more")
                .into());
        }
        Ok(Attempt { staged: context.outputs.finish()?, read, started, seconds, usage, resources })
    }

    /// Keeps what the stage gave.
    fn keep(
        &self,
        stage: &StageDeclaration,
        ready: &Ready,
        lock: &KeyLock,
        attempt: Attempt,
        progress: &Progress,
    ) -> Result<Built, Failure> {
        let Attempt { staged, read, started, seconds, usage, resources } = attempt;
        let Ready { keyed, baseline, cost, .. } = ready;
        let earlier_seconds = progress.earlier_seconds();
        // Until a record names them, only the gate keeps the new blobs from being taken for nobody's.
        let gate = self.store.leases.guard()?;
        let outputs = self.store.objects.adopt(staged)?;
        let record = Record {
            key: keyed.key.digest(),
            kind: stage.kind.name.to_owned(),
            revision: stage.kind.revision,
            stage: stage.name.to_string(),
            run: self.manifest.name.clone(),
            number: self.open.map(|open| open.folder.number),
            outputs: outputs.clone(),
            key_record: keyed.record.clone(),
            started: milliseconds(started),
            seconds: earlier_seconds + seconds,
            // How much the earlier runs of a build that was interrupted took is not known.
            cpu_seconds: usage.cpu_seconds.filter(|_| earlier_seconds == 0.0),
            peak_memory: usage.peak_memory,
            operations: cost.flops.filter(|operations| operations.is_finite()),
            input_bytes: Some(read),
            metrics: finite(progress.metrics()),
            threads: resources.threads,
            device: resources.device,
            machine: Machine::this(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let before = self.store.builds.of(record.key)?;
        let (earlier, is_new) = (before.count(), !before.all().any(|other| other.outputs == outputs));
        self.store.builds.record(&record)?;
        let given = outputs;
        let (record, trees) = self.first_build(stage, record, progress)?;
        let differs = earlier > 0 && (is_new || record.outputs != given);
        let outputs = record.outputs.clone();
        self.hold(outputs.values())?;
        drop(gate);
        let change = Change::since(baseline.as_ref(), self, stage, keyed, &given);
        // The build is on record: what fails now costs a link or some disk, not the build.
        let shown = self.show(stage, keyed, &outputs, &trees).and_then(|()| self.store.work.clear(lock));
        if let Err(error) = shown {
            progress.warn(format!("the output is kept, but not all is tidy: {error}"));
        }
        Ok(Built { record, trees, seconds, differs, earlier, change })
    }

    /// Does `find` and leases the trees that it found, so that they stay until the run ends.
    pub(super) fn leased<T>(
        &self,
        find: impl FnOnce() -> Result<T, StoreError>,
        trees: impl FnOnce(&T) -> Option<BTreeMap<String, Digest>>,
    ) -> Result<T, StoreError> {
        let _gate = self.store.leases.guard()?;
        let found = find()?;
        trees(&found).map_or(Ok(()), |trees| self.hold(trees.values()))?;
        Ok(found)
    }

    /// Leases trees. To be called under the gate under which they were found.
    pub(super) fn hold<'d>(&self, trees: impl IntoIterator<Item = &'d Digest>) -> Result<(), StoreError> {
        self.open.map_or(Ok(()), |open| open.lease.hold(trees))
    }

    /// A blob that was changed since it was found whole must not reach an output: a key promises what its inputs hold.
    fn check_inputs(&self, inputs: &BTreeMap<String, Digest>, when: &str) -> Result<(), Failure> {
        for (port, digest) in inputs {
            let damage = match self.store.objects.check(*digest) {
                Err(StoreError::Damaged(damage)) => vec![damage],
                checked => checked?,
            };
            if let Some(damage) = damage.first() {
                let message = format!("the input '{port}' was changed in the store {when}: {damage}");
                return Err(StageError::new(message).hint("run again: what is damaged is rebuilt first").into());
            }
        }
        Ok(())
    }

    /// The build that is used: the first whole one of the key, with its files. That builds of the key differ is reported.
    fn first_build(
        &self,
        stage: &StageDeclaration,
        record: Record,
        progress: &Progress,
    ) -> Result<(Record, BTreeMap<String, Tree>), Failure> {
        match self.store.builds.lookup(record.key)? {
            Lookup::Hit(hit) if hit.distinct > 1 => {
                progress.warn(format!(
                    "{} is not deterministic here: {} builds of key {} gave {} different outputs; the first whole one is used",
                    stage.name,
                    hit.builds,
                    record.key.short(),
                    hit.distinct
                ));
                Ok((hit.record, hit.trees))
            }
            Lookup::Hit(hit) => Ok((hit.record, hit.trees)),
            Lookup::Miss | Lookup::Damaged(_) => {
                let tree = |(port, digest): (&String, &Digest)| Ok((port.clone(), self.store.objects.tree(*digest)?));
                let trees = record.outputs.iter().map(tree).collect::<Result<_, StoreError>>()?;
                Ok((record, trees))
            }
        }
    }

    /// Shows what was found in the store.
    pub(super) fn show_cached(&self, stage: &StageDeclaration, keyed: &Keyed, hit: &Hit) {
        // It is in the store, whether the links to it can be written or not.
        if let Err(error) = self.show(stage, keyed, &hit.record.outputs, &hit.trees) {
            self.warn(&stage.name, format!("the output is there, but it cannot be shown by name: {error}"));
        }
    }

    /// Shows what the stage gave under the run's name, and notes it for `why`.
    pub(super) fn show(
        &self,
        stage: &StageDeclaration,
        keyed: &Keyed,
        outputs: &BTreeMap<String, Digest>,
        trees: &BTreeMap<String, Tree>,
    ) -> Result<(), StoreError> {
        let Some(open) = self.open else { return Ok(()) };
        let build = LastBuild {
            key: keyed.key.digest(),
            key_record: keyed.record.clone(),
            outputs: outputs.clone(),
            patterns: patterns(stage),
            sources: None,
        };
        self.store.runs.publish(&open.folder, stage.name.as_str(), build, &keyed.sources, trees)
    }
}

/// Bytes that a stage reads: of its inputs and of the files outside the store.
fn read(inputs: &Inputs, keyed: &Keyed) -> u64 {
    let files = inputs.iter().flat_map(|(_, tree)| &tree.files);
    files.fold(keyed.sources.size(), |sum, file| sum.saturating_add(file.size))
}

thread_local! {
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread now becomes the failure of a stage.
pub fn is_caught() -> bool {
    CAUGHT.get()
}

/// Does some work for a stage; a panic in it is a failure like any other, and the scheduler hears of it.
pub(super) fn caught<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let outside = CAUGHT.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    CAUGHT.set(outside);
    done.unwrap_or_else(|panic| {
        Err(StageError::new(format!("internal error: {}", panic_text(panic.as_ref())))
            .hint("this is a bug; PIPELINE_LOG=error shows where, please report it")
            .into())
    })
}

/// The values that a record can hold.
fn finite(mut metrics: BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    metrics.retain(|_, value| value.is_finite());
    metrics
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}
