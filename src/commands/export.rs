//! `pipeline export STAGE DIR`: copies the output of a stage to a directory as plain files.
//!
//! A table is written as Parquet or JSON lines with all columns; any other output is copied as its files, so that a model or a tokenizer is
//! a directory that other programs load. A single output (`stage.output`, or a stage's only one) is written to the directory itself.
//! Several outputs are written to a subdirectory each, with a `README.md` that names the tables ([`super::dataset_card`]).

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use contract::{InputTree, PortType, StageError};

use super::CommandError;
use super::arguments::{ManifestOptions, is_manifest};
use super::build_output::{PortOutput, StageOutput};
use super::dataset_card::{ExportedTable, card};
use super::export_dir::ExportDir;
use super::project::Project;
use super::signals::end_on_signals;
use crate::events::figures;
use crate::exit::Exit;
use crate::manifest::DEFAULT;
use crate::stderr::stderr;
use crate::store::failpoint;

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// The manifest [default: pipeline.toml], the stage or `stage.output`, and the directory to create.
    #[arg(value_name = "STAGE DIR", num_args = 1..=3, required = true)]
    pub place: Vec<String>,
    #[command(flatten)]
    pub options: ManifestOptions,
    /// The format of tables.
    #[arg(long, value_enum, default_value_t = TableFormat::Parquet)]
    pub format: TableFormat,
}

/// The format of exported tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TableFormat {
    /// A Parquet file for each part, with all columns.
    Parquet,
    /// A file of JSON lines for each part, with all columns.
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

pub(super) fn run(arguments: &ExportArguments) -> Result<Exit, CommandError> {
    let (manifest, place, destination) = match arguments.place.as_slice() {
        [manifest, stage, dir] => (manifest.as_str(), stage, PathBuf::from(dir)),
        [stage, dir] if !is_manifest(stage) => (DEFAULT, stage, PathBuf::from(dir)),
        _ => return Err(CommandError::usage("no directory given").hint("pipeline export MANIFEST STAGE DIR")),
    };
    let project = Project::load(Path::new(manifest), &arguments.options)?;
    let store = project.read_store()?;
    let _guard = store.leases.guard()?;
    let output = StageOutput::find(&project, &store, place)?;
    if let Some(stale) = &output.stale {
        stderr!("note: this is the last build of {}; it {stale}", output.stage);
    }
    let export = end_on_signals(|| ExportDir::claim(&destination, store.layout().root()))?;
    failpoint::pass(failpoint::EXPORT_AFTER_CLAIM);
    let only = output.ports.len() == 1;
    let (mut written, mut exported) = (Vec::new(), Vec::new());
    for port in &output.ports {
        let name = if only { "" } else { port.name.as_str() };
        let dir = export.get().path().join(name);
        let what = write(port, &dir, arguments.format)?;
        let is_table = matches!(port.ty, PortType::Documents | PortType::Rows);
        if is_table && fs::read_dir(&dir).is_ok_and(|mut files| files.next().is_some()) {
            let columns = tables::describe(&port.tree)?.columns;
            exported.push(ExportedTable { port: port.name.clone(), ty: port.ty, columns });
        }
        written.push(format!("{}: {what}", destination.join(name).display()));
    }
    if !only && let Some(card) = card(output.stage.as_str(), &exported, arguments.format.extension()) {
        let path = export.get().path().join("README.md");
        fs::write(&path, card).map_err(|error| StageError::io(format!("write {}", path.display()), &error))?;
    }
    export.undisturbed(ExportDir::publish)?;
    written.iter().for_each(|line| stderr!("{line}"));
    Ok(Exit::Done)
}

fn write(port: &PortOutput, dir: &Path, format: TableFormat) -> Result<String, CommandError> {
    match port.ty {
        PortType::Documents | PortType::Rows => {
            let format = match format {
                TableFormat::Parquet => tables::Format::Parquet,
                TableFormat::Jsonl => tables::Format::JsonLines,
            };
            let rows = tables::export(&port.tree, dir, format)?;
            Ok(figures::counted(rows, "row"))
        }
        _ => copy(&port.tree, dir),
    }
}

/// Copies the files of a tree, writable.
fn copy(tree: &InputTree, dir: &Path) -> Result<String, CommandError> {
    let mut bytes = 0;
    for file in &tree.files {
        let target = file.path.below(dir);
        let written = target.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
            let mut source = fs::File::open(&file.location)?;
            let mut copy = fs::File::create_new(&target)?;
            std::io::copy(&mut source, &mut copy)
        });
        bytes += written.map_err(|error| StageError::io(format!("write {}", target.display()), &error))?;
    }
    Ok(format!("{}, {}", figures::counted(tree.files.len() as u64, "file"), figures::size(bytes)))
}
