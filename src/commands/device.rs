//! The compute device and the budget of a run.

use std::collections::BTreeSet;

use contract::Device;

use super::CommandError;
use super::arguments::ExecOptions;
use super::project::Project;
use crate::manifest::StageName;
use crate::run::Budget;

/// Returns the budget set on the command line, else in `[exec]`, else by the machine. If one of the given stages needs a device, it must exist.
pub(super) fn budget(
    options: &ExecOptions,
    project: &Project,
    stages: &BTreeSet<StageName>,
) -> Result<Budget, CommandError> {
    let mut exec = project.manifest.exec.clone();
    exec.threads = options.threads.or(exec.threads);
    exec.jobs = options.jobs.or(exec.jobs);
    exec.device = options.device.or(exec.device);
    let budget = Budget::of(&exec);
    let device = resolve(budget.device, project, stages)?;
    Ok(Budget { device, allow_oversize: options.allow_oversize, ..budget })
}

/// Returns the device that the given stages use. If a stage needs a device, it must exist: the error is reported before hours of data stages,
/// not after them.
pub(super) fn resolve<'n>(
    device: Device,
    project: &Project,
    stages: impl IntoIterator<Item = &'n StageName>,
) -> Result<Device, CommandError> {
    match stages.into_iter().any(|stage| project.manifest.stages[stage].stage.needs().gpu) {
        true => model::device::chosen(device)
            .map_err(|error| CommandError::usage(error.to_string()).hint("--device cpu, or [exec] device = \"cpu\"")),
        false => Ok(device),
    }
}
