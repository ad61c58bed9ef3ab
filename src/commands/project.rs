//! What every command on a manifest begins with: the manifest, its graph and its store.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::CommandError;
use super::arguments::Source;
use super::hashing::Hashing;
use super::place;
use crate::kinds::kinds;
use crate::manifest::did_you_mean;
use crate::manifest::{self, Manifest, Overrides, StageName};
use crate::plan::fit::{self, ALLOW, Misfit, Task};
use crate::plan::lint::{self, LocatedAdvice};
use crate::plan::{Decider, Plan};
use crate::report::RunLock;
use crate::run::Budget;
use crate::say::say;
use crate::store::{Store, StoreError};

/// A manifest with its store.
pub(super) struct Project {
    pub(super) manifest: Manifest,
    /// Where its store is.
    pub(super) cache: PathBuf,
}

impl Project {
    /// Reads and checks a manifest.
    pub(super) fn load(path: &Path, source: &Source) -> Result<Self, CommandError> {
        let mut sets = source.sets.clone();
        sets.extend(source.name.as_ref().map(|name| format!("run.name={}", serde_json::Value::from(name.as_str()))));
        let overrides = Overrides { sets, machine: source.machine.clone() };
        let manifest = manifest::load(path, &overrides, &kinds())?;
        if !manifest.warnings.is_empty() {
            say!("{}", manifest.warnings.to_string().trim_end_matches('\n'));
        }
        let cache = place::of_manifest(path, source.cache.clone(), manifest.exec.cache.clone())?;
        Ok(Self { manifest, cache })
    }

    /// The manifest of a lock, with a store in `cache`. A machine file says nothing here: `[exec]` is no part of a lock.
    pub(super) fn of_lock(name: &str, lock: &RunLock, sets: &[String], cache: &Path) -> Result<Self, CommandError> {
        let name = format!("the manifest in {name}");
        let manifest = crate::manifest::load_resolved(&name, &lock.manifest, sets, &kinds())?;
        Ok(Self { manifest, cache: cache.to_owned() })
    }

    /// The store, for reading only. One in which nothing is found is named: it may not be the one that is meant.
    pub(super) fn read_store(&self) -> Result<Store, CommandError> {
        let store = Store::open_read_only(&self.cache)?;
        if store.is_empty() {
            let state = if Store::is_at(&self.cache)? { "is empty" } else { "does not exist yet" };
            say!("note: the store {} {state}", self.cache.display());
        }
        if store.runs.has_other_owner(&self.manifest.name, &manifest::origin(&self.manifest.path))? {
            let error = store.runs.owned_error(&self.manifest.name)?;
            say!("warning: {error}, and `pipeline run` will not use it");
            say!("hint: {}", error.hint().unwrap_or_default());
        }
        Ok(store)
    }

    /// The stage of this name.
    pub(super) fn stage(&self, name: &str) -> Result<StageName, CommandError> {
        if let Some(name) = self.manifest.stages.keys().find(|stage| stage.as_str() == name) {
            return Ok(name.clone());
        }
        let names: Vec<_> = self.manifest.stages.keys().map(StageName::as_str).collect();
        let hint = match did_you_mean(name, names.iter().copied()) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("the stages are {}", names.join(", ")),
        };
        Err(CommandError::usage(format!("'{}' has no stage '{name}'", self.manifest.name)).hint(hint))
    }

    /// The stages of these names.
    pub(super) fn stages<'n>(
        &self,
        names: impl IntoIterator<Item = &'n String>,
    ) -> Result<BTreeSet<StageName>, CommandError> {
        names.into_iter().map(|name| self.stage(name)).collect()
    }

    /// Plans these stages, which hold with each stage all that it needs.
    pub(super) fn plan(&self, decider: &Decider<'_>, wanted: &BTreeSet<StageName>) -> Result<Plan, CommandError> {
        let mut hashing = Hashing::start("hashing source files that no run has seen yet or that changed since");
        let hashed = |bytes| {
            hashing.add(bytes);
            true
        };
        Ok(Plan::new(decider, &self.manifest.graph, wanted, hashed)?)
    }

    /// Which stages of a plan that would run need more than the machine has.
    pub(super) fn misfits(
        &self,
        decider: &Decider<'_>,
        plan: &Plan,
        budget: Budget,
    ) -> Result<Vec<Misfit>, CommandError> {
        Ok(fit::of_stages(decider, &plan.tasks(decider), budget.available(&self.cache))?)
    }

    /// The same of a plan of all stages.
    pub(super) fn misfits_if_run(&self, decider: &Decider<'_>, budget: Budget) -> Result<Vec<Misfit>, CommandError> {
        let tasks = self.tasks(decider, self.manifest.graph.order());
        let misfits = fit::of_stages(decider, &tasks, budget.available(&self.cache))?;
        if misfits.is_empty() {
            return Ok(misfits);
        }
        let wanted = self.manifest.graph.order().iter().cloned().collect();
        self.planned_misfits(decider, &wanted, &tasks, budget)
    }

    /// These stages as if all of them ran, and read what the stages above wrote last.
    fn tasks<'a, 'n>(&self, decider: &Decider<'a>, names: impl IntoIterator<Item = &'n StageName>) -> Vec<Task<'a>> {
        let stages = names.into_iter().filter_map(|name| decider.manifest.stages.get(name));
        stages.map(|stage| Task { stage, cost: decider.cost(stage), scratch: 0 }).collect()
    }

    /// The misfits of these stages, of which `tasks` has some as if all of them ran: the plan decides which run, and with which
    /// inputs. Files that no run has seen yet are hashed for it only where a refusal depends on them; else what is below them
    /// counts as if it ran.
    fn planned_misfits(
        &self,
        decider: &Decider<'_>,
        wanted: &BTreeSet<StageName>,
        tasks: &[Task<'_>],
        budget: Budget,
    ) -> Result<Vec<Misfit>, CommandError> {
        let available = budget.available(&self.cache);
        let is_refused = |task: Task<'_>| fit::of_stage(&self.manifest, task, available).any(|misfit| misfit.is_error);
        let mut is_certain = true;
        for task in tasks.iter().filter(|task| is_refused(**task)) {
            // What settings alone tell holds for all inputs.
            let least = Task { cost: task.stage.cost, scratch: decider.store.work.scratch_bytes(None), ..*task };
            is_certain &= is_refused(least) && decider.surely_runs(task.stage)?;
        }
        if !is_certain {
            return self.misfits(decider, &self.plan(decider, wanted)?, budget);
        }
        match Plan::new(decider, &self.manifest.graph, wanted, |_| false) {
            Err(StoreError::Interrupted) => Ok(fit::of_stages(decider, tasks, available)?),
            plan => self.misfits(decider, &plan?, budget),
        }
    }

    /// Says which of these stages cannot run because they need more than the machine has; whether there are any. The plan
    /// decides which run; it is made only where something may not fit.
    pub(super) fn refuses(
        &self,
        decider: &Decider<'_>,
        wanted: &BTreeSet<StageName>,
        budget: Budget,
    ) -> Result<bool, CommandError> {
        let available = budget.available(&self.cache);
        let fits = |task: &Task<'_>| !fit::of_stage(&self.manifest, *task, available).any(|misfit| misfit.is_error);
        let tasks = self.tasks(decider, self.manifest.graph.order().iter().filter(|name| wanted.contains(*name)));
        if tasks.iter().all(fits) {
            return Ok(false);
        }
        let mut misfits = self.planned_misfits(decider, wanted, &tasks, budget)?;
        misfits.retain(|misfit| misfit.is_error);
        for misfit in &misfits {
            let severity = if budget.allow_oversize { "warning" } else { "error" };
            say!("{severity}: {}", misfit.text());
        }
        let refused = !misfits.is_empty() && !budget.allow_oversize;
        if refused {
            say!("hint: what a stage needs is an estimate: {ALLOW} runs it all the same");
        }
        Ok(refused)
    }

    /// What these stages say of what the stages above gave them last.
    pub(super) fn advice<'n>(
        &self,
        store: &Store,
        stages: impl IntoIterator<Item = &'n StageName>,
    ) -> Vec<LocatedAdvice> {
        let stages = stages.into_iter().filter_map(|name| self.manifest.stages.get(name));
        let inputs = |stage| lint::last_inputs(&self.manifest, stage, store);
        stages.flat_map(|stage| lint::of(&self.manifest, stage, &inputs(stage))).collect()
    }

    /// Plans one stage and what it needs.
    pub(super) fn plan_for(&self, decider: &Decider<'_>, stage: &StageName) -> Result<Plan, CommandError> {
        self.plan(decider, &self.manifest.graph.ancestors([stage]))
    }

    /// These stages with all that they need; all stages when none is named.
    pub(super) fn wanted(&self, until: &[String]) -> Result<BTreeSet<StageName>, CommandError> {
        let until = self.stages(until)?;
        if until.is_empty() {
            return Ok(self.manifest.stages.keys().cloned().collect());
        }
        Ok(self.manifest.graph.ancestors(&until))
    }
}
