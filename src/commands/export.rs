//! `pipeline export STAGE DIR`: a stage's output as plain files outside the store.
//!
//! A table becomes Parquet or JSON lines with all columns; anything else its files as they are, so that a model or a
//! tokenizer is the folder that other programs load. A stage with several outputs gives a folder for each, one output
//! (`stage.output`, or a stage's only one) fills the folder itself. The first output alone is what a bare stage name
//! means in a manifest, but here all are wanted. With several outputs a `README.md` says which tables belong together
//! ([`super::card`]).

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use contract::{InputTree, PortType, StageError};

use super::CommandError;
use super::arguments::{Source, is_manifest};
use super::card::{ExportedTable, card};
use super::fresh_folder::FreshFolder;
use super::output::{PortOutput, StageOutput};
use super::project::Project;
use super::signals::end_on_signals;
use crate::events::figures;
use crate::exit::Exit;
use crate::say::say;
use crate::store::failpoint;

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// The manifest [default: pipeline.toml], the stage or `stage.output`, and the folder to write (new or empty).
    #[arg(value_name = "STAGE DIR", num_args = 1..=3, required = true)]
    pub place: Vec<String>,
    #[command(flatten)]
    pub source: Source,
    /// How tables are written.
    #[arg(long, value_enum, default_value_t = TableFormat::Parquet)]
    pub format: TableFormat,
}

/// How `export` writes tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TableFormat {
    /// One Parquet file a part, all columns.
    Parquet,
    /// One file of JSON lines a part, all columns.
    Jsonl,
}

impl TableFormat {
    fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Jsonl => "jsonl",
        }
    }
}

impl ExportArguments {
    /// The manifest, the stage and the folder.
    pub fn split(&self) -> Option<(PathBuf, &str, PathBuf)> {
        match self.place.as_slice() {
            [manifest, stage, folder] => Some((manifest.into(), stage, folder.into())),
            [stage, folder] if !is_manifest(stage) => Some(("pipeline.toml".into(), stage, folder.into())),
            _ => None,
        }
    }
}

pub(super) fn run(arguments: &ExportArguments) -> Result<Exit, CommandError> {
    let (manifest, place, destination) = arguments.split().ok_or_else(|| {
        CommandError::usage("which stage, and into which folder?").hint("pipeline export MANIFEST STAGE DIR")
    })?;
    let project = Project::load(&manifest, &arguments.source)?;
    let store = project.read_store()?;
    let _guard = store.leases.guard()?;
    let output = StageOutput::find(&project, &store, place)?;
    if let Some(stale) = &output.stale {
        say!("note: this is the last build of {}, which {stale}", output.stage);
    }
    let fresh = end_on_signals(|| FreshFolder::claim(&destination, store.layout().root()))?;
    failpoint::pass(failpoint::EXPORT_AFTER_CLAIM);
    let only = output.ports.len() == 1;
    let (mut told, mut exported) = (Vec::new(), Vec::new());
    for port in &output.ports {
        let (name, below) = if only { ("", Path::new("")) } else { (&*port.name, Path::new(&port.name)) };
        let folder = fresh.get().path().join(below);
        let what = write(port, &folder, arguments.format)?;
        let is_table = matches!(port.ty, PortType::Documents | PortType::Rows);
        if is_table && fs::read_dir(&folder).is_ok_and(|mut files| files.next().is_some()) {
            let columns = tables::describe(&port.tree)?.columns;
            exported.push(ExportedTable { port: port.name.clone(), ty: port.ty, columns });
        }
        told.push(format!("{}: {what}", destination.join(name).display()));
    }
    if !only && let Some(card) = card(output.stage.as_str(), &exported, arguments.format.extension()) {
        let path = fresh.get().path().join("README.md");
        fs::write(&path, card).map_err(|error| StageError::io(format!("write {}", path.display()), &error))?;
    }
    fresh.undisturbed(FreshFolder::fill)?;
    told.iter().for_each(|line| say!("{line}"));
    Ok(Exit::Done)
}

fn write(port: &PortOutput, folder: &Path, format: TableFormat) -> Result<String, CommandError> {
    match port.ty {
        PortType::Documents | PortType::Rows => {
            let format = match format {
                TableFormat::Parquet => tables::Format::Parquet,
                TableFormat::Jsonl => tables::Format::JsonLines,
            };
            let rows = tables::export(&port.tree, folder, format)?;
            Ok(figures::counted(rows, "row"))
        }
        _ => copy(&port.tree, folder),
    }
}

/// The files of a tree as they are, readable and writable.
fn copy(tree: &InputTree, folder: &Path) -> Result<String, CommandError> {
    let mut bytes = 0;
    for file in &tree.files {
        let target = file.path.below(folder);
        let written = target.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
            let mut source = fs::File::open(&file.location)?;
            let mut copy = fs::File::create_new(&target)?;
            std::io::copy(&mut source, &mut copy)
        });
        bytes += written.map_err(|error| StageError::io(format!("write {}", target.display()), &error))?;
    }
    Ok(format!("{}, {}", figures::counted(tree.files.len() as u64, "file"), figures::size(bytes)))
}
