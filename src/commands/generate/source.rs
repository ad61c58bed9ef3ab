//! The model of a directory, a manifest or a run.

use std::fs;
use std::path::Path;

use contract::{Digest, InputFile, InputTree, PortType};
use model::folder::ModelFolder;
use tokens::text::{CONFIG_FILE, FILE, TextTokenizer};

use super::arguments::GenerateArguments;
use crate::commands::arguments::{StoreOptions, is_manifest};
use crate::commands::build_output::StageOutput;
use crate::commands::project::Project;
use crate::commands::{CommandError, run_refs, store_dir};
use crate::report::{LockedStage, RunLock};
use crate::stderr::stderr;
use crate::store::{Store, StoreGuard};

/// The location of a model's files.
pub(super) struct ModelSource {
    pub(super) folder: ModelFolder,
    pub(super) tokenizer: TextTokenizer,
    /// Protects the files in the store while the value lives.
    _guard: Option<StoreGuard>,
}

impl ModelSource {
    /// Finds the model given on the command line.
    pub(super) fn find(arguments: &GenerateArguments) -> Result<Self, CommandError> {
        let model = arguments.model.as_str();
        let path = Path::new(model);
        if path.is_dir() {
            refuse_options(arguments, "a directory", true)?;
            return Ok(Self { folder: ModelFolder::at(path), tokenizer: tokenizer_in(path)?, _guard: None });
        }
        if is_manifest(model) {
            return Self::of_manifest(arguments);
        }
        if path.is_file()
            && matches!(path.extension().and_then(|end| end.to_str()), Some("safetensors" | "json" | "bin"))
        {
            let directory = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
            let error = CommandError::usage(format!("'{model}' is a file of a model, expected the model's directory"));
            return Err(error.hint(format!("pipeline generate {}", directory.display())));
        }
        refuse_options(arguments, "a run", false)?;
        Self::of_run(arguments)
    }

    fn of_manifest(arguments: &GenerateArguments) -> Result<Self, CommandError> {
        let project = Project::load(Path::new(&arguments.model), &arguments.options)?;
        let store = project.read_store()?;
        let guard = store.leases.guard()?;
        let output = StageOutput::find(&project, &store, &model_output(&project, arguments.stage.as_deref())?)?;
        if let Some(stale) = &output.stale {
            stderr!("note: the model is that of the last build of {}, which {stale}", output.stage);
        }
        let port = output.ports.iter().find(|port| port.ty == PortType::Model);
        let port =
            port.ok_or_else(|| CommandError::failed(format!("stage '{}' did not produce a model", output.stage)))?;
        Self::of_tree(&port.tree, guard)
    }

    fn of_run(arguments: &GenerateArguments) -> Result<Self, CommandError> {
        let reference = arguments.model.as_str();
        let options = StoreOptions { cache: arguments.options.cache.clone(), manifest: None };
        let unknown = || {
            let error = CommandError::usage(format!("'{reference}' is neither a directory, a manifest nor a run"));
            error.hint("choose a directory with config.json and model.safetensors, a file that ends in .toml, or a run of the store (--cache DIR)")
        };
        let path = store_dir::of_working_directory(options.cache.clone())?;
        if !Store::is_at(&path)? {
            return Err(unknown());
        }
        let lock = run_refs::find_lock(reference, &options)?;
        let store = run_refs::open_store(reference, &options)?;
        let guard = store.leases.guard()?;
        let tree = store.objects.input(model_of(&lock, arguments.stage.as_deref())?)?;
        Self::of_tree(&tree, guard)
    }

    fn of_tree(tree: &InputTree, guard: StoreGuard) -> Result<Self, CommandError> {
        let tokenizer = TextTokenizer::open(tree).map_err(|error| {
            CommandError::from(error).hint("connect the tokenizer to the train stage, so that the model contains it")
        })?;
        Ok(Self { folder: ModelFolder::of(tree)?, tokenizer, _guard: Some(guard) })
    }
}

/// Returns an error for options that apply only to a manifest, and for `--stage` if there are no stages.
fn refuse_options(arguments: &GenerateArguments, given: &str, without_stages: bool) -> Result<(), CommandError> {
    let options = &arguments.options;
    let of_manifest = [
        ("--set", !options.sets.is_empty()),
        ("--as", options.name.is_some()),
        ("--machine", options.machine.is_some()),
        ("--stage", without_stages && arguments.stage.is_some()),
    ];
    match of_manifest.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => Err(CommandError::usage(format!("{option} needs a manifest, found {given}"))),
        None => Ok(()),
    }
}

/// Returns the output that contains the model, as `STAGE.PORT`.
fn model_output(project: &Project, stage: Option<&str>) -> Result<String, CommandError> {
    let named = stage.map(|name| project.stage(name)).transpose()?;
    let order = project.manifest.graph.order();
    let candidates = order.iter().rev().filter(|name| named.as_ref().is_none_or(|named| named == *name));
    let port = |name| {
        let ports = &project.manifest.stages[name].ports.outputs;
        ports.iter().find(|port| port.ty == PortType::Model).map(|port| format!("{name}.{}", port.name))
    };
    candidates.into_iter().find_map(port).ok_or_else(|| match stage {
        Some(name) => CommandError::usage(format!("stage '{name}' does not produce a model")),
        None => CommandError::usage("no stage of the manifest produces a model"),
    })
}

/// Returns the tree of the model of a run: that of `stage`, else that of the last stage that produced a model.
fn model_of(lock: &RunLock, stage: Option<&str>) -> Result<Digest, CommandError> {
    let run = format!("{}.{}", lock.run.name, lock.run.number);
    let model = |stage: &LockedStage| {
        stage.outputs.values().find(|output| output.ty == PortType::Model.to_string()).map(|output| output.tree)
    };
    let Some(name) = stage else {
        let found = lock.stages.iter().rev().find_map(model);
        return found.ok_or_else(|| CommandError::usage(format!("no stage of run '{run}' produced a model")));
    };
    let Some(named) = lock.stages.iter().find(|stage| stage.name == name) else {
        let error = CommandError::usage(format!("run '{run}' has no output of a stage '{name}'"));
        return Err(error.suggest(name, "its stages are", lock.stages.iter().map(|stage| stage.name.as_str())));
    };
    model(named).ok_or_else(|| CommandError::usage(format!("stage '{name}' does not produce a model")))
}

/// Opens the tokenizer of a directory.
fn tokenizer_in(dir: &Path) -> Result<TextTokenizer, CommandError> {
    let file = |name: &str| {
        let location = dir.join(name);
        let size = fs::metadata(&location).ok()?.len();
        // The digest is not compared with anything.
        Some(InputFile { path: name.parse().ok()?, location, digest: Digest::of(b""), size })
    };
    let files: Vec<_> = [FILE, CONFIG_FILE].into_iter().filter_map(file).collect();
    if files.iter().all(|file| file.path.as_str() != FILE) {
        return Err(CommandError::failed(format!("'{}' has no {FILE}", dir.display())));
    }
    Ok(TextTokenizer::open(&InputTree { digest: Digest::of(b""), files })?)
}
