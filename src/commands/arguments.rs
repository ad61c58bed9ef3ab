//! Flags that several subcommands share, each defined once.

use std::path::{Path, PathBuf};

use clap::Args;
use contract::Device;

use super::{CommandError, store_dir};
use crate::manifest::{DEFAULT, ExecSettings, head};
use crate::store::Store;

/// The options that modify a manifest.
#[derive(Debug, Clone, Default, Args)]
pub struct ManifestOptions {
    /// Change a setting without editing the file (repeatable): `stages.train.steps=100`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
    /// Name this run, such as a trial with other settings [default: `run.name`, else the file name].
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<String>,
    /// The settings of this machine: `[exec]` and the paths of sources [default: machine.toml beside the manifest].
    #[arg(long, value_name = "FILE")]
    pub machine: Option<PathBuf>,
    /// The store [default: `exec.cache`, else $PIPELINE_CACHE, else the nearest `cache` at or above the manifest].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
}

/// The store of a command that needs no manifest.
#[derive(Debug, Clone, Args)]
pub struct StoreOptions {
    /// The store [default: that of --manifest, else $PIPELINE_CACHE, else the nearest `cache` at or above the working
    /// directory].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Use the store of this manifest.
    #[arg(long, value_name = "FILE", conflicts_with = "cache")]
    pub manifest: Option<PathBuf>,
}

impl StoreOptions {
    /// Returns the directory of the store, which must exist.
    pub(super) fn existing(&self) -> Result<PathBuf, CommandError> {
        let path = match &self.manifest {
            Some(manifest) => store_dir::of_manifest(manifest, None, head(manifest)?.cache)?,
            None => store_dir::of_working_directory(self.cache.clone())?,
        };
        if Store::is_at(&path)? {
            return Ok(path);
        }
        let error = CommandError::usage(format!("there is no store at {}", path.display()));
        Err(error.hint("set one with --cache DIR or --manifest FILE; the first run creates it"))
    }

    /// Returns the options for `reference`, which may be a manifest instead of a run.
    pub(super) fn for_reference(&self, reference: &str) -> Self {
        match self.cache.is_none() && self.manifest.is_none() && names_manifest(reference) {
            true => Self { cache: None, manifest: Some(reference.into()) },
            false => self.clone(),
        }
    }
}

/// The resources of a run.
#[derive(Debug, Args)]
pub struct ExecOptions {
    /// The maximum number of stages that run at the same time [default: as many as threads and memory allow].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(ExecSettings::MOST_THREADS)))]
    pub jobs: Option<u16>,
    /// The total number of threads of all stages [default: `exec.threads`, else all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(ExecSettings::MOST_THREADS)))]
    pub threads: Option<u16>,
    /// The compute device: auto, cpu or cuda:N.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Device>,
    /// Run stages even if they are estimated to need more memory or disk than is available; by default this is an error.
    #[arg(long)]
    pub allow_oversize: bool,
}

/// A stage of a manifest.
#[derive(Debug, Args)]
pub struct StageArguments {
    /// The manifest [default: pipeline.toml], then the stage (or `stage.output` for one of its outputs).
    #[arg(value_name = "STAGE", num_args = 1..=2, required = true)]
    pub place: Vec<String>,
    #[command(flatten)]
    pub options: ManifestOptions,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

impl StageArguments {
    /// Returns the manifest and the stage; the hint of the error mentions `command`.
    pub(super) fn split(&self, command: &str) -> Result<(PathBuf, &str), CommandError> {
        match self.place.as_slice() {
            [manifest, stage] => Ok((manifest.into(), stage)),
            [stage] if !is_manifest(stage) => Ok((DEFAULT.into(), stage)),
            _ => Err(CommandError::usage("no stage given").hint(format!("pipeline {command} MANIFEST STAGE"))),
        }
    }
}

/// Returns whether an argument is a manifest rather than a stage or a query.
pub(super) fn is_manifest(text: &str) -> bool {
    text.ends_with(".toml")
}

/// Returns whether a reference to a run is the path of a manifest.
pub(super) fn names_manifest(reference: &str) -> bool {
    is_manifest(reference) && Path::new(reference).exists()
}
