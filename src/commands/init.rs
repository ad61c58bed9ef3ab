//! `pipeline init`: writes a manifest that runs as it is: the quickstart.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::CommandError;
use crate::exit::Exit;
use crate::manifest::shell::quoted;
use crate::say::say;

const QUICKSTART: &str = include_str!("../../manifests/quickstart.toml");

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// Where to write it; an existing file is never overwritten.
    #[arg(default_value = "pipeline.toml")]
    pub path: PathBuf,
}

pub(super) fn run(arguments: &InitArguments) -> Result<Exit, CommandError> {
    let path = &arguments.path;
    // The schema's path is that of the repository; the run's name becomes that of the new file.
    let lines = QUICKSTART.lines().filter(|line| !line.starts_with("#:schema") && !line.starts_with("name "));
    let text = lines.map(|line| format!("{line}\n")).collect::<String>();
    let written = File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => CommandError::usage(format!("{} exists already", path.display()))
            .hint("give another name; nothing was changed"),
        _ => CommandError::usage(format!("cannot write {}: {error}", path.display())),
    })?;
    let path = path.display().to_string();
    say!("wrote {path}; now: pipeline run {}", quoted(&path));
    Ok(Exit::Done)
}
