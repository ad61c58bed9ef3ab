//! A manifest with its store; commands on a manifest start from it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::CommandError;
use super::arguments::ManifestOptions;
use super::hashing::hash_progress;
use super::store_dir;
use crate::kinds::kinds;
use crate::manifest::shell::quoted;
use crate::manifest::{self, Manifest, Overrides, StageName};
use crate::parallel::limit_threads;
use crate::plan::fit::{self, ALLOW, ResourceShortfall, Task};
use crate::plan::lint::{self, LocatedAdvice};
use crate::plan::machine::{self, LocatedMachineCheck};
use crate::plan::{Decider, Plan, tasks_if_all_run};
use crate::report::RunLock;
use crate::run::Budget;
use crate::stderr::stderr;
use crate::store::{Store, StoreError};

/// A manifest with its store.
pub(super) struct Project {
    pub(super) manifest: Manifest,
    /// The directory of the store.
    pub(super) cache: PathBuf,
    options: ManifestOptions,
}

impl Project {
    /// Reads and checks a manifest.
    pub(super) fn load(path: &Path, options: &ManifestOptions) -> Result<Self, CommandError> {
        let mut sets = options.sets.clone();
        sets.extend(options.name.as_ref().map(|name| format!("run.name={}", serde_json::Value::from(name.as_str()))));
        let overrides = Overrides { sets, machine: options.machine.clone() };
        let manifest = manifest::load(path, &overrides, &kinds())?;
        // A limit set on the command line takes precedence.
        manifest.exec.threads.into_iter().for_each(|threads| limit_threads(threads.into()));
        if !manifest.warnings.is_empty() {
            stderr!("{}", manifest.warnings.to_string().trim_end_matches('\n'));
        }
        let cache = store_dir::of_manifest(path, options.cache.clone(), manifest.exec.cache.clone())?;
        Ok(Self { manifest, cache, options: options.clone() })
    }

    /// Reads the manifest of a lock, for a store in `cache`. Machine files are ignored: `[exec]` is not part of a lock.
    pub(super) fn of_lock(name: &str, lock: &RunLock, sets: &[String], cache: &Path) -> Result<Self, CommandError> {
        let name = format!("the manifest in {name}");
        let manifest = manifest::load_resolved(&name, &lock.manifest, sets, &kinds())?;
        Ok(Self { manifest, cache: cache.to_owned(), options: ManifestOptions::default() })
    }

    /// Returns the command that runs this manifest with the same options.
    pub(super) fn run_command(&self) -> String {
        let ManifestOptions { sets, name, machine, cache } = &self.options;
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let sets = sets.iter().map(|set| ("--set", Some(set.clone())));
        let rest = [("--as", name.clone()), ("--machine", path(machine)), ("--cache", path(cache))];
        let flags = sets.chain(rest).filter_map(|(flag, value)| Some(format!(" {flag} {}", quoted(&value?))));
        format!("pipeline run {}{}", quoted(&self.manifest.path.display().to_string()), flags.collect::<String>())
    }

    /// Opens the store for reading only, and prints a note if it is empty: it may not be the intended one.
    pub(super) fn read_store(&self) -> Result<Store, CommandError> {
        let store = Store::open_read_only(&self.cache)?;
        if store.is_empty() {
            let state = if Store::is_at(&self.cache)? { "is empty" } else { "does not exist yet" };
            stderr!("note: the store {} {state}", self.cache.display());
        }
        if store.runs.has_other_owner(&self.manifest.name, &manifest::origin(&self.manifest.path))? {
            let error = store.runs.owned_error(&self.manifest.name)?;
            stderr!("warning: {error}; `pipeline run` will not use it");
            stderr!("hint: {}", error.hint().unwrap_or_default());
        }
        Ok(store)
    }

    /// Returns the stage of this name.
    pub(super) fn stage(&self, name: &str) -> Result<StageName, CommandError> {
        if let Some((name, _)) = self.manifest.stages.get_key_value(name) {
            return Ok(name.clone());
        }
        let error = CommandError::usage(format!("'{}' has no stage '{name}'", self.manifest.name));
        Err(error.suggest(name, "the stages are", self.manifest.stages.keys().map(StageName::as_str)))
    }

    /// Returns the stages with the given names.
    pub(super) fn stages<'n>(
        &self,
        names: impl IntoIterator<Item = &'n String>,
    ) -> Result<BTreeSet<StageName>, CommandError> {
        names.into_iter().map(|name| self.stage(name)).collect()
    }

    /// Plans the given stages, which must include all their dependencies.
    pub(super) fn plan(&self, decider: &Decider<'_>, wanted: &BTreeSet<StageName>) -> Result<Plan, CommandError> {
        let hashing = hash_progress("hashing new and changed source files");
        let hashed = |bytes| {
            hashing.inc(bytes);
            true
        };
        Ok(Plan::new(decider, &self.manifest.graph, wanted, hashed)?)
    }

    /// Returns the stages of a plan that would run and need more resources than the machine has.
    pub(super) fn shortfalls(
        &self,
        decider: &Decider<'_>,
        plan: &Plan,
        budget: Budget,
    ) -> Result<Vec<ResourceShortfall>, CommandError> {
        Ok(fit::check_stages(&self.manifest, &plan.tasks(decider), budget.available(&self.cache)))
    }

    /// Does the same as [`Self::shortfalls`] for a plan of all stages.
    pub(super) fn shortfalls_if_run(
        &self,
        decider: &Decider<'_>,
        budget: Budget,
    ) -> Result<Vec<ResourceShortfall>, CommandError> {
        let tasks = tasks_if_all_run(decider, self.manifest.graph.order());
        let shortfalls = fit::check_stages(&self.manifest, &tasks, budget.available(&self.cache));
        if shortfalls.is_empty() {
            return Ok(shortfalls);
        }
        let wanted = self.manifest.graph.order().iter().cloned().collect();
        self.planned_shortfalls(decider, &wanted, &tasks, budget)
    }

    /// Returns the given stages as if all of them ran, with the resources determined by their settings.
    fn tasks<'a, 'n>(&self, decider: &Decider<'a>, names: impl IntoIterator<Item = &'n StageName>) -> Vec<Task<'a>> {
        let stages = names.into_iter().filter_map(|name| decider.manifest.stages.get(name));
        stages.map(|stage| Task::new(stage, decider.cost(stage))).collect()
    }

    /// Does the same as [`Self::shortfalls_if_run`] for the stages that the plan runs, with their known inputs. New
    /// source files are hashed only if the result depends on them; otherwise the stages downstream of them count as
    /// running.
    fn planned_shortfalls(
        &self,
        decider: &Decider<'_>,
        wanted: &BTreeSet<StageName>,
        tasks: &[Task<'_>],
        budget: Budget,
    ) -> Result<Vec<ResourceShortfall>, CommandError> {
        let available = budget.available(&self.cache);
        let is_refused =
            |task: Task<'_>| fit::check_stage(&self.manifest, task, available).any(|shortfall| shortfall.is_error);
        let mut is_certain = true;
        for task in tasks.iter().filter(|task| is_refused(**task)) {
            // Requirements determined by settings alone hold for all inputs.
            let least = Task { cost: task.stage.cost, scratch: decider.store.work.scratch_bytes(None), ..*task };
            is_certain &= is_refused(least) && decider.surely_runs(task.stage)?;
        }
        if !is_certain {
            return self.shortfalls(decider, &self.plan(decider, wanted)?, budget);
        }
        match Plan::new(decider, &self.manifest.graph, wanted, |_| false) {
            Err(StoreError::Interrupted) => Ok(fit::check_stages(&self.manifest, tasks, available)),
            plan => self.shortfalls(decider, &plan?, budget),
        }
    }

    /// Reports which of the given stages need more resources than the machine has. Returns whether to refuse the run. The plan is made only if
    /// a stage may not fit.
    pub(super) fn refuses(
        &self,
        decider: &Decider<'_>,
        wanted: &BTreeSet<StageName>,
        budget: Budget,
    ) -> Result<bool, CommandError> {
        let available = budget.available(&self.cache);
        let fits =
            |task: &Task<'_>| !fit::check_stage(&self.manifest, *task, available).any(|shortfall| shortfall.is_error);
        let tasks = self.tasks(decider, self.manifest.graph.order().iter().filter(|name| wanted.contains(*name)));
        if tasks.iter().all(fits) {
            return Ok(false);
        }
        let mut shortfalls = self.planned_shortfalls(decider, wanted, &tasks, budget)?;
        shortfalls.retain(|shortfall| shortfall.is_error);
        for shortfall in &shortfalls {
            let severity = if budget.allow_oversize { "warning" } else { "error" };
            stderr!("{severity}: {}", shortfall.text());
        }
        let refused = !shortfalls.is_empty() && !budget.allow_oversize;
        if refused {
            stderr!("hint: these are estimates; {ALLOW} runs the stages anyway");
        }
        Ok(refused)
    }

    /// Returns the advice of the given stages about the last outputs of their upstream stages.
    pub(super) fn advice<'n>(
        &self,
        store: &Store,
        stages: impl IntoIterator<Item = &'n StageName>,
    ) -> Vec<LocatedAdvice> {
        let stages = stages.into_iter().filter_map(|name| self.manifest.stages.get(name));
        let inputs = |stage| lint::last_inputs(&self.manifest, stage, store);
        stages.flat_map(|stage| lint::of(&self.manifest, stage, &inputs(stage))).collect()
    }

    /// Returns what this machine provides for the stages that have requirements.
    pub(super) fn check_machine(&self) -> Vec<LocatedMachineCheck> {
        self.manifest.graph.order().iter().flat_map(|name| machine::of(&self.manifest.stages[name])).collect()
    }

    /// Plans one stage and its dependencies.
    pub(super) fn plan_for(&self, decider: &Decider<'_>, stage: &StageName) -> Result<Plan, CommandError> {
        self.plan(decider, &self.manifest.graph.ancestors([stage]))
    }

    /// Returns the given stages with their dependencies; all stages if none is given.
    pub(super) fn wanted(&self, until: &[String]) -> Result<BTreeSet<StageName>, CommandError> {
        let until = self.stages(until)?;
        if until.is_empty() {
            return Ok(self.manifest.stages.keys().cloned().collect());
        }
        Ok(self.manifest.graph.ancestors(&until))
    }
}
