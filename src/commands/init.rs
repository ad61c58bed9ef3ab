//! `pipeline init`: writes the quickstart as a new manifest, and beside it the JSON schema with which editors complete and check
//! it.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::CommandError;
use crate::exit::Exit;
use crate::kinds::kinds;
use crate::manifest::shell::quoted;
use crate::stderr::stderr;

const QUICKSTART: &str = include_str!("../../manifests/quickstart.toml");
/// The file name of the schema.
const SCHEMA: &str = "pipeline.schema.json";

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// The file to write; the JSON schema for editors is written beside it, as `pipeline.schema.json`. Existing files are never
    /// overwritten.
    #[arg(default_value = "pipeline.toml")]
    pub path: PathBuf,
}

pub(super) fn run(arguments: &InitArguments) -> Result<Exit, CommandError> {
    let path = &arguments.path;
    if path.file_name().is_some_and(|name| name == SCHEMA) {
        return Err(CommandError::usage(format!("{SCHEMA} is the file name of the schema"))
            .hint("choose another name for the manifest"));
    }
    // The run is named after the new file.
    let lines = QUICKSTART.lines().filter(|line| !line.starts_with("#:schema") && !line.starts_with("name "));
    let text = format!("#:schema ./{SCHEMA}\n") + &lines.map(|line| format!("{line}\n")).collect::<String>();
    write_new(path, &text).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => CommandError::usage(format!("{} already exists", path.display()))
            .hint("choose another name; nothing was changed"),
        _ => CommandError::usage(format!("cannot write {}: {error}", path.display())),
    })?;
    let (schema, text) = (path.with_file_name(SCHEMA), schema_text());
    let mut wrote = path.display().to_string();
    match write_new(&schema, &text) {
        Ok(()) => wrote += &format!(" and {}", schema.display()),
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            stderr!("warning: cannot write {}: {error}", schema.display());
        }
        Err(_) if std::fs::read(&schema).is_ok_and(|existing| existing == text.as_bytes()) => {}
        Err(_) => {
            let shown = schema.display().to_string();
            stderr!("warning: {shown} already exists and is not the schema of this version; it was not changed");
            stderr!("hint: to replace it: pipeline stages --schema > {}", quoted(&shown));
        }
    }
    stderr!("wrote {wrote}; now: pipeline run {}", quoted(&path.display().to_string()));
    Ok(Exit::Done)
}

/// Returns the JSON schema of a manifest.
fn schema_text() -> String {
    format!("{:#}\n", crate::manifest::schema(&kinds()))
}

/// Writes a file that must not exist.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()))
}
