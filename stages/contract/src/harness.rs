//! Runs one stage without the engine, for the tests and benches of a stage crate.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::context::{Context, InputFile, InputTree, Inputs, Resources, SourceFile};
use crate::derived::Derived;
use crate::device::Device;
use crate::digest::Digest;
use crate::error::{Result, StageError};
use crate::kind::Kind;
use crate::outputs::Outputs;
use crate::progress::Progress;
use crate::stage::Stage;
use crate::{Cancel, SourcePattern};

/// A directory in which stages run, one after another.
#[derive(Debug)]
pub struct Harness {
    folder: PathBuf,
    runs: usize,
    /// The inputs of the next run.
    pub inputs: BTreeMap<String, InputTree>,
    /// The share of the machine's resources for the stage.
    pub resources: Resources,
    /// The run's seed.
    pub seed: u64,
    /// The progress, kept between runs so that a test can read the notes.
    pub progress: Progress,
    /// The flag that asks the running stage to stop.
    pub cancel: Cancel,
    /// The scratch directory; a new one for each run if `None`.
    pub scratch: Option<PathBuf>,
    /// The cache of derived files, kept between runs.
    pub derived: Derived,
}

impl Harness {
    /// Creates a harness that works below `folder`, with 2 threads, 512 MiB, the CPU and seed 1.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            runs: 0,
            inputs: BTreeMap::new(),
            resources: Resources { threads: 2, memory: 512 << 20, device: Device::Cpu },
            seed: 1,
            progress: Progress::default(),
            cancel: Cancel::default(),
            scratch: None,
            derived: Derived::in_folder(folder.join("derived")),
        }
    }

    /// Connects an input port for the runs that follow.
    pub fn connect(&mut self, port: &str, tree: &InputTree) -> &mut Self {
        self.inputs.insert(port.to_owned(), tree.clone());
        self
    }

    /// Runs a stage with these settings (those of `Spec` and `Exec` together). Returns its output trees by port.
    ///
    /// # Errors
    /// Returns the problems with the settings, joined, or the error of the stage.
    pub fn run<S: Stage>(&mut self, settings: Value) -> Result<BTreeMap<String, InputTree>> {
        let Value::Object(settings) = settings else { return Err(StageError::new("settings are an object")) };
        self.run_kind(&Kind::of::<S>(), &settings)
    }

    /// Runs a stage of a type-erased kind.
    ///
    /// # Errors
    /// See [`Harness::run`].
    pub fn run_kind(&mut self, kind: &Kind, settings: &Map<String, Value>) -> Result<BTreeMap<String, InputTree>> {
        self.runs += 1;
        let folder = self.folder.join(self.runs.to_string());
        let scratch = self.scratch.clone().unwrap_or_else(|| folder.join("scratch"));
        fs::create_dir_all(&scratch)?;
        let stage = kind.parse(settings).map_err(|problems| {
            let line = |problem: &crate::Problem| format!("{}: {}", problem.setting, problem.message);
            StageError::new(problems.iter().map(line).collect::<Vec<_>>().join("; "))
        })?;
        let ports = stage.ports().outputs.into_iter().map(|port| port.name.into_owned());
        let context = Context {
            inputs: Inputs::new(self.inputs.clone()),
            sources: sources(&stage.sources())?,
            outputs: Outputs::stage(&folder.join("staging"), ports)?,
            scratch,
            derived: self.derived.clone(),
            resources: self.resources,
            seed: self.seed,
            machine_facts: stage.machine_facts(),
            progress: self.progress.clone(),
            cancel: self.cancel.clone(),
        };
        stage.run(&context)?;
        let trees = context.outputs.finish()?;
        Ok(trees
            .into_iter()
            .map(|(port, (tree, files))| {
                let mut files: Vec<_> = files
                    .into_iter()
                    .map(|(entry, location)| InputFile {
                        path: entry.path,
                        location,
                        digest: entry.digest,
                        size: entry.size,
                    })
                    .collect();
                files.sort_by(|a, b| a.path.cmp(&b.path));
                (port, InputTree { digest: tree.digest(), files })
            })
            .collect())
    }
}

/// Returns the files that match; a pattern here is a plain path, or a directory followed by `/*`.
fn sources(patterns: &[SourcePattern]) -> Result<Vec<SourceFile>> {
    let mut paths = Vec::new();
    for SourcePattern(pattern) in patterns.iter().filter(|pattern| !pattern.0.is_empty()) {
        match pattern.strip_suffix("/*") {
            Some(folder) => paths.extend(
                fs::read_dir(folder)?
                    .map(|entry| entry.map(|entry| entry.path()))
                    .collect::<std::io::Result<Vec<_>>>()?,
            ),
            None => paths.push(PathBuf::from(pattern)),
        }
    }
    let mut files = paths
        .into_iter()
        .map(|path| Ok(SourceFile { digest: Digest::of_file(&path)?, size: fs::metadata(&path)?.len(), path }))
        .collect::<Result<Vec<_>>>()?;
    files.sort_by_key(|file| file.digest);
    Ok(files)
}
