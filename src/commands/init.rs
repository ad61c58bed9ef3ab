//! `pipeline init`: writes a manifest that runs as it is, the quickstart, and beside it the schema that its first line names,
//! with which editors complete and check it.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::CommandError;
use crate::exit::Exit;
use crate::kinds::kinds;
use crate::manifest::shell::quoted;
use crate::say::say;

const QUICKSTART: &str = include_str!("../../manifests/quickstart.toml");
/// The schema, beside the manifest.
const SCHEMA: &str = "pipeline.schema.json";

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// Where to write it; the schema that editors check it with goes beside it, as `pipeline.schema.json`. An existing file is
    /// never overwritten.
    #[arg(default_value = "pipeline.toml")]
    pub path: PathBuf,
}

pub(super) fn run(arguments: &InitArguments) -> Result<Exit, CommandError> {
    let path = &arguments.path;
    if path.file_name().is_some_and(|name| name == SCHEMA) {
        return Err(CommandError::usage(format!("{SCHEMA} is the name of the schema beside the manifest"))
            .hint("give the manifest another name"));
    }
    // The schema's path is that of the repository; the run's name becomes that of the new file.
    let lines = QUICKSTART.lines().filter(|line| !line.starts_with("#:schema") && !line.starts_with("name "));
    let text = format!("#:schema ./{SCHEMA}\n") + &lines.map(|line| format!("{line}\n")).collect::<String>();
    write_new(path, &text).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => CommandError::usage(format!("{} exists already", path.display()))
            .hint("give another name; nothing was changed"),
        _ => CommandError::usage(format!("cannot write {}: {error}", path.display())),
    })?;
    let (schema, text) = (path.with_file_name(SCHEMA), schema_text());
    let wrote = match write_new(&schema, &text) {
        Ok(()) => format!("{} and {}", path.display(), schema.display()),
        Err(error) => {
            let is_same = || std::fs::read(&schema).is_ok_and(|there| there == text.as_bytes());
            match error.kind() {
                ErrorKind::AlreadyExists if is_same() => {}
                ErrorKind::AlreadyExists => {
                    let shown = quoted(&schema.display().to_string()).to_string();
                    say!(
                        "warning: {} exists already and is not the schema of this version; it was not changed\n\
                         hint: to replace it: pipeline stages --schema > {shown}",
                        schema.display()
                    );
                }
                _ => say!("warning: cannot write {}: {error}", schema.display()),
            }
            path.display().to_string()
        }
    };
    say!("wrote {wrote}; now: pipeline run {}", quoted(&path.display().to_string()));
    Ok(Exit::Done)
}

/// The JSON schema of a manifest, as `pipeline stages --schema` prints it.
pub(super) fn schema_text() -> String {
    format!("{:#}\n", crate::manifest::schema(&kinds()))
}

/// Writes a file that must not be there.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()))
}
