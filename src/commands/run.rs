//! `pipeline run`: brings a manifest up to date.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use contract::Cancel;

use super::CommandError;
use super::arguments::RunArguments;
use super::project::Project;
use crate::events::{Mode, Renderers};
use crate::exit::Exit;
use crate::plan::Decider;
use crate::run::{self, Budget, Options, Summary};
use crate::store::Store;

pub(super) fn run(arguments: &RunArguments) -> Result<Exit, CommandError> {
    let project = Project::load(&arguments.manifest, &arguments.source)?;
    let (wanted, forced) = (project.wanted(&arguments.until)?, project.stages(&arguments.force)?);
    if let Some(stage) = forced.iter().find(|stage| !wanted.contains(*stage)) {
        return Err(CommandError::usage(format!("--force {stage}: no stage named by --until needs it")));
    }
    let budget = budget(arguments, &project);
    if wanted.iter().any(|stage| project.manifest.stages[stage].stage.needs().gpu) {
        // Before hours of data stages, not after.
        model::device::resolve(budget.device)
            .map_err(|error| CommandError::usage(error.to_string()).hint("--device cpu"))?;
    }
    let store = Store::open(&project.cache)?;
    let cancel = stop_on_signals()?;
    let record = store.events_path(&project.manifest.name)?;
    let renderers = Renderers::start(Mode::choose(arguments.json, arguments.quiet), Some(&record));
    let decider = Decider { manifest: &project.manifest, store: &store, forced: &forced };
    let events = renderers.sender();
    let options = Options { budget, fail_fast: arguments.fail_fast, wanted, cancel, events };
    let summary = run::run(decider, &project.graph, &options);
    renderers.finish();
    Ok(exit(summary?))
}

/// The command line, else `[exec]`, else the machine.
fn budget(arguments: &RunArguments, project: &Project) -> Budget {
    let (exec, machine) = (&project.manifest.exec, Budget::of_this_machine());
    let threads = arguments.threads.or(exec.threads).map_or(machine.threads, usize::from);
    Budget {
        threads,
        memory: exec.memory.map_or(machine.memory, |size| size.0),
        jobs: arguments.jobs.or(exec.jobs).map_or(threads, usize::from),
        device: arguments.device.or(exec.device).unwrap_or(machine.device),
    }
}

/// The first Ctrl-C or termination signal asks the stages to stop; the second ends the program at once.
fn stop_on_signals() -> Result<Cancel, CommandError> {
    let cancel = Cancel::default();
    let (flag, second) = (cancel.clone(), AtomicBool::new(false));
    ctrlc::set_handler(move || {
        if second.swap(true, Ordering::Relaxed) {
            process::exit(Exit::Interrupted.code().into());
        }
        anstream::eprintln!("stopping; press Ctrl-C again to stop at once (the store stays whole either way)");
        flag.set();
    })
    .map_err(|error| CommandError::Failed { message: format!("cannot listen for Ctrl-C: {error}"), hint: None })?;
    Ok(cancel)
}

fn exit(summary: Summary) -> Exit {
    match summary {
        Summary { interrupted: true, .. } => Exit::Interrupted,
        Summary { store_failed: true, .. } => Exit::StoreDamaged,
        Summary { failed: 0, skipped: 0, .. } => Exit::Done,
        _ => Exit::StageFailed,
    }
}
