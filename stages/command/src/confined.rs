//! The sandbox of a program ([`sandbox::CommandSandbox`]), and the undeclared files that the program looked for.
//!
//! | the program | |
//! |---|---|
//! | reads | its inputs, `files`, `readable`, the system's programs and libraries |
//! | writes | its working directory except `in`, its log, and `/tmp`, which is a directory in scratch |
//! | cannot access | any other file, the network, other processes |
//!
//! If the program looks for any other file of the machine, the file is reported: in the error if the program fails, otherwise in a warning,
//! because the output then depends only on declared files.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use contract::{MachineCheck, Progress, Result, SourceFile, StageError};
use sandbox::{CommandSandbox, Layer, Reach, Supervisor, Unavailable};

use crate::process::ProgramEnd;
use crate::workspace::{Workspace, make, remove};

/// The maximum number of undeclared files in a message.
const NAMED: usize = 10;
/// The hint for running a program without a sandbox.
const WITHOUT: &str = "with sandbox = false the program runs without it, and with all rights of the user";

/// A program in its sandbox.
pub struct Confined {
    sandbox: CommandSandbox,
    supervisor: Supervisor,
    temporary: PathBuf,
}

/// Undeclared files of the machine that a program looked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Undeclared(Vec<PathBuf>);

/// Returns the files that a program in this working directory can access.
///
/// # Errors
/// Returns an error if `/tmp` cannot be created, or a path of `readable` is missing.
pub fn reach(
    scratch: &Path,
    workspace: &Workspace,
    log: &Path,
    sources: &[SourceFile],
    readable: &[PathBuf],
) -> Result<Reach> {
    let temporary = std::path::absolute(scratch.join("tmp"))?;
    remove(&temporary)?;
    make(&temporary)?;
    let directory = std::path::absolute(workspace.folder())?;
    for path in readable {
        fs::metadata(path).map_err(|error| StageError::io("read a path of `readable`", &error).in_file(path))?;
    }
    let declared = sources.iter().map(|file| file.path.as_path()).chain(workspace.linked());
    let declared = declared.map(std::path::absolute).chain(readable.iter().cloned().map(Ok));
    let protected = Some(directory.join("in")).filter(|inputs| inputs.exists());
    Ok(Reach {
        readable: declared.collect::<io::Result<_>>()?,
        writable: vec![log.to_owned()],
        protected: protected.into_iter().collect(),
        directory,
        temporary,
    })
}

impl Confined {
    /// Configures `command` to start in a sandbox.
    ///
    /// # Errors
    /// Returns an error if the kernel provides no sandbox, or the program is not visible in it.
    pub fn confine(command: &Command, reach: Reach) -> Result<(Command, Self)> {
        let temporary = reach.temporary.clone();
        let sandbox = CommandSandbox::new(reach).map_err(unavailable)?;
        let mut inside = Command::new(find(command, &sandbox)?);
        inside.arg0(command.get_program()).args(command.get_args()).env_clear();
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let supervisor = sandbox.confine(&mut inside).map_err(unavailable)?;
        Ok((inside, Self { sandbox, supervisor, temporary }))
    }

    /// Waits until all processes of the program have ended. Returns the undeclared files that it looked for and, if the kernel refused the
    /// sandbox, the error to report.
    ///
    /// # Errors
    /// Returns an error if the ownership of the files that the program wrote cannot be taken back.
    pub fn finish(mut self, outcome: &io::Result<ProgramEnd>) -> Result<(Undeclared, Option<StageError>)> {
        let missing = outcome.as_ref().err().map(|error| self.supervisor.missing(error)).unwrap_or_default();
        let undeclared = Undeclared(self.supervisor.finish());
        self.sandbox.take_back().map_err(|error| StageError::io("take over what the program wrote", &error))?;
        remove(&self.temporary)?;
        let missing = (!missing.is_empty()).then(|| unavailable(Unavailable::Layers(missing)));
        Ok((undeclared, missing))
    }
}

/// Returns the path of a command's program in the sandbox.
fn find(command: &Command, sandbox: &CommandSandbox) -> Result<PathBuf> {
    let program = Path::new(command.get_program());
    let path = command.get_envs().find_map(|(name, value)| (name == "PATH").then_some(value?));
    let is_bare = !program.is_absolute() && program.components().count() == 1;
    let candidates = match path {
        Some(path) if is_bare => std::env::split_paths(path).map(|folder| folder.join(program)).collect(),
        // PATH is not set: the system's default directories are searched when it starts.
        None if is_bare => Vec::new(),
        _ => vec![program.to_owned()],
    };
    let is_program = |path: &&PathBuf| {
        fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    let programs: Vec<_> = candidates.iter().filter(is_program).collect();
    match (programs.iter().find(|path| sandbox.shows(path)), programs.first()) {
        (Some(seen), _) => Ok((*seen).clone()),
        (None, Some(hidden)) => {
            let message = format!("the program '{}' is not visible in the sandbox", hidden.display());
            let hint = "list the directory of its installation in `readable`, or the program itself in `files`";
            Err(StageError::new(message).hint(hint))
        }
        // The start of the program reports the reason.
        (None, None) => Ok(program.to_owned()),
    }
}

impl Undeclared {
    /// Adds the files to the error of a program that failed.
    #[must_use]
    pub fn explain(&self, error: StageError) -> StageError {
        match error {
            StageError::Failed(mut failure) if !self.0.is_empty() => {
                let _ = write!(failure.message, "\nundeclared reads: {}", self.list());
                let hint = failure.hint.take().map(|hint| format!("; {hint}")).unwrap_or_default();
                failure.hint = Some(format!("declare what it needs in `files` or `readable`{hint}"));
                StageError::Failed(failure)
            }
            error => error,
        }
    }

    /// Warns about undeclared files that a successful program looked for.
    pub fn warn(&self, progress: &Progress) {
        if !self.0.is_empty() {
            let hint = "the program ran without them; declare what it needs in `files` or `readable`";
            progress.warn(format!("undeclared reads: {} ({hint})", self.list()));
        }
    }

    fn list(&self) -> String {
        let names = self.0.iter().take(NAMED);
        let names: Vec<_> = names.map(|path| contract::printable(&path.to_string_lossy(), &[])).collect();
        let more = self.0.len().saturating_sub(NAMED);
        names.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
    }
}

fn unavailable(error: Unavailable) -> StageError {
    StageError::new(error.to_string()).hint(WITHOUT)
}

/// Tests whether this machine provides the sandbox.
pub fn check_machine() -> MachineCheck {
    match CommandSandbox::check() {
        Ok(layers) => {
            let names: Vec<_> = layers.iter().map(|layer: &Layer| layer.name()).collect();
            MachineCheck::provided("sandbox", format!("this machine provides the layers {}", names.join(", ")))
        }
        Err(error) => MachineCheck::missing("sandbox", error.to_string(), WITHOUT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_few_files_and_counts_the_rest() {
        let undeclared = Undeclared((0..12).map(|number| format!("/home/u/{number:02}").into()).collect());
        let StageError::Failed(failure) = undeclared.explain(StageError::new("failed").hint("see the log")) else {
            panic!("it is a failure");
        };
        assert!(failure.message.starts_with("failed\nundeclared reads: /home/u/00, /home/u/01, "));
        assert!(failure.message.ends_with("/home/u/09 and 2 more"), "{}", failure.message);
        let hint = "declare what it needs in `files` or `readable`; see the log";
        assert_eq!(failure.hint.as_deref(), Some(hint));
        let plain = Undeclared::default().explain(StageError::new("failed"));
        assert_eq!(plain.to_string(), "failed");
    }
}
