//! The sandbox on Linux.

mod calls;
mod codes;
mod collected;
mod command;
mod confine;
mod enter;
mod filter;
mod init;
mod messages;
mod processors;
mod python;
mod root;
mod rules;
mod slot;
mod supervisor;
mod usage;

use std::{
    collections::BTreeSet,
    fs::File,
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
};

use self::{
    codes::Codes,
    processors::Processors,
    python::Python,
    root::Root,
    slot::{Slot, Unstarted},
};
pub use self::{command::CommandSandbox, python::python_version, supervisor::Supervisor};
use crate::{Broken, Layer, Limits, Missing, Program, Settings, Unavailable, Verdict};

/// The configuration with which every slot is started.
struct Plan {
    python: Python,
    root: Root,
    layers: Vec<Layer>,
    filter: Vec<u8>,
    /// The Landlock rules, or any descriptor if that layer is off.
    rules: OwnedFd,
    /// `/proc`, in which a starting server looks at its own memory, or any descriptor.
    proc: OwnedFd,
    processors: Processors,
}

/// Runs programs, each confined by every layer that the settings do not disable.
///
/// `run` may be called from many threads: each call takes an idle slot (a warm interpreter), or starts one. Idle slots
/// end with the sandbox.
pub struct Sandbox {
    // Declared before the plan, so that the slots have ended when the root directory is removed.
    idle: Mutex<Vec<Slot>>,
    plan: Plan,
    codes: Codes,
}

impl Sandbox {
    /// Builds a sandbox and runs one program in it, to detect layers that the kernel refuses.
    pub fn new(settings: Settings) -> Result<Self, Unavailable> {
        let mut without: BTreeSet<Layer> = settings.dangerously_run_without;
        let mut missing = Vec::new();
        let python = Python::find(&settings.python)?;
        let root = Root::of_python(&python).map_err(Broken::system("cannot make the root directory"))?;
        let refused = |error: String| Broken::Server(error);
        let filter = filter::of_python().map_err(|error| refused(error.to_string()))?;
        let rules = match rules::of_python(&python, &root).map_err(|error| refused(error.to_string()))? {
            Some(rules) => rules,
            None => {
                if without.insert(Layer::Landlock) {
                    missing.push(Missing { layer: Layer::Landlock, reason: "the kernel has no Landlock".into() });
                }
                File::open("/dev/null").map_err(Broken::system("cannot open /dev/null"))?.into()
            }
        };
        let proc = File::open("/proc").or_else(|_| File::open("/dev/null"));
        let proc = proc.map_err(Broken::system("cannot open /dev/null"))?.into();
        let mut plan =
            Plan { python, root, layers: Vec::new(), filter, rules, proc, processors: Processors::of_this_process() };
        loop {
            plan.layers = Layer::ALL.into_iter().filter(|layer| !without.contains(layer)).collect();
            match trial(&plan) {
                Ok(slot) if missing.is_empty() => {
                    return Ok(Self { idle: Mutex::new(vec![slot]), plan, codes: Codes::default() });
                }
                Ok(_) => return Err(Unavailable::Layers(missing)),
                Err(Unstarted::Layers(found)) => {
                    let before = without.len();
                    without.extend(found.iter().map(|missing| missing.layer));
                    if without.len() == before {
                        missing.extend(found);
                        return Err(Unavailable::Layers(missing));
                    }
                    missing.extend(found.into_iter().filter(|found| plan.layers.contains(&found.layer)));
                }
                Err(Unstarted::Broken(_)) if !missing.is_empty() => return Err(Unavailable::Layers(missing)),
                Err(Unstarted::Broken(broken)) => return Err(broken.into()),
            }
        }
    }

    /// Returns the version of the interpreter, such as `3.11.7`.
    pub fn python_version(&self) -> &str {
        &self.plan.python.version
    }

    /// Returns the layers that are on.
    pub fn layers(&self) -> &[Layer] {
        &self.plan.layers
    }

    /// Runs a program's tests. An error is not a verdict on the program.
    ///
    /// A server that fails is replaced once.
    pub fn run(&self, program: &Program, limits: &Limits) -> Result<Verdict, Broken> {
        self.run_unless(&|| false, program, limits)
    }

    /// Runs a program's tests like [`Self::run`], but ends it soon after `stops` returns true, which is asked 50 times a second.
    ///
    /// # Errors
    /// Returns [`Broken::Stopped`] if the run was stopped.
    pub fn run_unless(&self, stops: &dyn Fn() -> bool, program: &Program, limits: &Limits) -> Result<Verdict, Broken> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(slot) = idle
            && let Ok(verdict) = self.run_in(slot, stops, program, limits)
        {
            return verdict;
        }
        let slot = Slot::start(&self.plan).map_err(Unstarted::broken)?;
        self.run_in(slot, stops, program, limits).unwrap_or_else(Err)
    }

    /// Runs a program in a slot. The outer error is an error of the slot, which is then terminated.
    fn run_in(
        &self,
        mut slot: Slot,
        stops: &dyn Fn() -> bool,
        program: &Program,
        limits: &Limits,
    ) -> Result<Result<Verdict, Broken>, Broken> {
        let verdict = slot.run(stops, program, limits, &self.codes);
        match verdict {
            Err(broken @ (Broken::Server(_) | Broken::System { .. })) => Err(broken),
            verdict => {
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
                Ok(verdict)
            }
        }
    }
}

/// Starts a slot and runs a program that passes in it.
fn trial(plan: &Plan) -> Result<Slot, Unstarted> {
    let mut slot = Slot::start(plan)?;
    let program = Program {
        candidate: "def one():\n    return 1\n".into(),
        calls: vec!["one".into()],
        tests: "assert one() == 1\n".into(),
        ..Program::default()
    };
    match slot.run(&|| false, &program, &Limits::default(), &Codes::default()) {
        Ok(Verdict::Passed) => Ok(slot),
        Ok(Verdict::Failed { detail, .. }) => {
            Err(Unstarted::Broken(Broken::Server(format!("a passing test program failed: {detail}"))))
        }
        Err(Broken::Layer(missing)) => Err(Unstarted::Layers(vec![missing])),
        Err(broken) => Err(Unstarted::Broken(broken)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_sandbox_leaves_no_process_and_no_zombie() {
        let sandbox = match Sandbox::new(Settings::default()) {
            Ok(sandbox) => sandbox,
            Err(reason) if reason.is_lasting() => return eprintln!("skipped: {reason}"),
            Err(error) => panic!("{error}"),
        };
        let processes: BTreeSet<u32> = sandbox.idle.lock().unwrap().iter().flat_map(Slot::resident).copied().collect();
        assert!(processes.len() >= 4, "{processes:?}");
        drop(sandbox);
        let left: Vec<_> =
            processes.iter().filter(|process| std::path::Path::new(&format!("/proc/{process}")).exists()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
