//! Architecture layer 1: a manifest, from TOML text to typed stages.
//!
//! ```toml
//! extends = "base.toml"           # optional: overridden by this file, table by table
//!
//! [run]
//! name = "codeparrot-small"       # default: the file name
//! seed = 1                        # default: 1
//!
//! [exec]                          # the machine: threads, jobs, memory, device, cache
//! memory = "8GiB"
//!
//! [stages.licensed]
//! kind  = "license"               # one of the kinds
//! input = "export"                # connects the first input port to the first output of 'export'
//! allow = ["mit", "apache-2.0"]   # settings of the kind
//!
//! [stages.tokens]
//! kind   = "pack"
//! inputs = { documents = "split.train", tokenizer = "tokenizer" }
//! ```
//!
//! # Layers
//! The layers, from the lowest. Tables merge at any depth, other values are replaced, and every value keeps its position:
//!
//! 1. the file in `extends`, and the files that it extends (a relative path is resolved against the directory of the file that contains
//!    it);
//! 2. the file;
//! 3. the machine file: `--machine FILE`, else `machine.toml` beside the manifest (`machine`);
//! 4. each `--set PATH=VALUE`, in order (`set`).
//!
//! A setting that names files ([`contract::SourcePattern`]) and `exec.cache` become absolute: a relative path is resolved against the
//! directory of the file that contains it, or the working directory if it is set on the command line. An empty path stays empty: the stage
//! has no source yet, and `plan` reports it.
//!
//! # Promises
//! - [`load`] never panics, and reads at most 1 MiB per file.
//! - A [`Manifest`] is valid: every kind is known, every setting has the right type and is within its bounds, every edge connects an output
//!   to an input of the same type, every required input is connected, and the graph is acyclic.
//! - Otherwise [`Diagnostics`] contains every problem of every layer, each with file, line, caret and, if there is one, a hint. Two things
//!   end the search early: a file that cannot be read, and invalid TOML. Rules between settings are checked only if every setting of the
//!   stage is valid.
//!
//! | module | contents |
//! |---|---|
//! | `read`, `syntax`, `document` | a file; its TOML; the document with positions |
//! | `set`, `machine` | the layers above the file |
//! | `setting_schema`, `validate` | the JSON schema of a setting; validation of a table against it |
//! | `command_settings` | settings of kinds on the command line, without a manifest |
//! | `settings` | the valid settings, and the problems that the kind finds |
//! | `section`, `bytes` | `[run]` and `[exec]`; `"2GiB"` |
//! | `stage`, `edge`, `resolve`, `cycle` | `[stages.NAME]`; its inputs; their outputs; dependency cycles |
//! | `infer` | facts, conflicts and costs before a run |
//! | `diagnostic`, `render`, `suggest` | problems; their rendering as text; "did you mean" |
//! | `resolved` | the manifest with all layers merged |
//! | `schema`, `listing` | the JSON schema of a manifest; the settings of a kind, for people |
//! | [`shell`] | quoting of words for a shell |

mod bytes;
mod command_settings;
mod cycle;
mod diagnostic;
mod document;
mod edge;
mod infer;
mod listing;
mod machine;
mod place;
mod read;
mod render;
mod resolve;
mod resolved;
mod schema;
mod section;
mod set;
mod setting_schema;
mod settings;
pub mod shell;
mod source;
mod stage;
mod suggest;
mod syntax;
mod validate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use contract::Kind;

pub use self::bytes::{ByteSize, NotAByteSize};
pub use self::command_settings::command_settings;
pub use self::diagnostic::{Diagnostic, Diagnostics, Label, PlacedDiagnostic, PlacedLabel, Severity};
pub use self::edge::Edge;
pub use self::listing::{Setting, settings};
pub use self::place::Place;
pub use self::schema::schema;
pub use self::section::{ExecSettings, RunSettings};
pub use self::source::{Source, SourceId, Sources, Span};
pub use self::stage::StageDeclaration;
pub use self::suggest::{hint as suggest, nearest as did_you_mean};

use self::document::{Entry, Table};
use self::stage::Draft;
use crate::graph::Graph;
pub use crate::stage_name::{NotAStageName, StageName};

/// The default manifest of the commands.
pub const DEFAULT: &str = "pipeline.toml";

/// The layers above a manifest's files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Settings such as `stages.train.learning_rate=6e-4`; later ones win.
    pub sets: Vec<String>,
    /// The machine file. Default: `machine.toml` beside the manifest, if it exists.
    pub machine: Option<PathBuf>,
}

/// A valid manifest.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The path of the file, as given by the user.
    pub path: PathBuf,
    /// The name of the run.
    pub name: String,
    /// The seed of all random choices.
    pub seed: u64,
    /// The position of the seed, if it is set.
    pub seed_place: Option<Place>,
    /// The settings of the machine.
    pub exec: ExecSettings,
    /// The position of the memory setting, if it is set.
    pub memory_place: Option<Place>,
    /// The stages by name.
    pub stages: BTreeMap<StageName, StageDeclaration>,
    /// The stages and the edges between them.
    pub graph: Graph,
    /// The warnings.
    pub warnings: Diagnostics,
}

/// Reads and validates a manifest whose stages have the given kinds.
///
/// # Errors
/// Returns every problem of every layer (module docs).
pub fn load(path: &Path, overrides: &Overrides, kinds: &[Kind]) -> Result<Manifest, Diagnostics> {
    let mut diagnostics = Diagnostics::new(path.display().to_string());
    let document = layered(path, overrides, kinds, &mut diagnostics);
    let manifest = document.and_then(|document| checked(path, &document, kinds, &mut diagnostics));
    finished(manifest, diagnostics)
}

/// Returns the path of a manifest with the symbolic links of its directory resolved, which identifies a project. For a pipe, returns the
/// working directory.
pub fn origin(path: &Path) -> PathBuf {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = directory.canonicalize().ok().zip(path.file_name()).filter(|_| path.is_file());
    let here = || std::env::current_dir().and_then(|here| here.canonicalize()).unwrap_or_default();
    found.map_or_else(here, |(directory, name)| directory.join(name))
}

/// The settings of a manifest that commands on a store need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The name of the run.
    pub name: String,
    /// The setting `exec.cache`.
    pub cache: Option<PathBuf>,
}

/// Reads the [`Head`] of a manifest with its layers. Ignores problems of its stages.
///
/// # Errors
/// Returns an error if a layer cannot be read or is not valid TOML, or a setting of the head is invalid.
pub fn head(path: &Path) -> Result<Head, Diagnostics> {
    let mut diagnostics = Diagnostics::new(path.display().to_string());
    let document = layered(path, &Overrides::default(), &[], &mut diagnostics);
    let head = document.map(|document| Head {
        name: section::run(&document, path, &mut diagnostics).name,
        cache: section::exec(&document, &mut diagnostics).cache,
    });
    head.filter(|_| !diagnostics.has_errors()).ok_or(diagnostics)
}

/// Returns `exec.cache` of `pipeline.toml` with its layers, else of `machine.toml`, in this directory.
pub fn store_named_in(directory: &Path) -> Option<PathBuf> {
    let (manifest, machine) = (directory.join(DEFAULT), directory.join(machine::FILE_NAME));
    if manifest.is_file() {
        return head(&manifest).ok()?.cache;
    }
    let mut unused = Diagnostics::new("");
    let document = machine.is_file().then(|| read::file(&machine, read::Role::Machine, &mut unused)).flatten()?;
    section::exec(&document, &mut unused).cache
}

/// Reads the text of [`Manifest::resolved`], with the given `--set` arguments applied. Messages call the text `name`.
///
/// # Errors
/// See [`load`].
pub fn load_resolved(name: &str, text: &str, sets: &[String], kinds: &[Kind]) -> Result<Manifest, Diagnostics> {
    let mut diagnostics = Diagnostics::new(name);
    let directory = std::env::current_dir().unwrap_or_default();
    let source = diagnostics.add_source(name, directory.clone(), text.to_owned());
    let mut document = match syntax::parse(source, diagnostics.sources()) {
        Ok(document) => document,
        Err(error) => {
            diagnostics.push(error);
            return Err(diagnostics);
        }
    };
    if let Some(entry) = document.0.remove("extends") {
        diagnostics.push(Diagnostic::error("a resolved manifest cannot have 'extends'").at(entry.key, ""));
    }
    sets.iter().for_each(|argument| set::apply(&mut document, argument, &directory, set::HINT, &mut diagnostics));
    let manifest = checked(Path::new(name), &document, kinds, &mut diagnostics);
    finished(manifest, diagnostics)
}

fn finished(manifest: Option<Manifest>, mut diagnostics: Diagnostics) -> Result<Manifest, Diagnostics> {
    diagnostics.sort();
    match manifest {
        Some(manifest) if !diagnostics.has_errors() => Ok(Manifest { warnings: diagnostics, ..manifest }),
        _ => Err(diagnostics),
    }
}

/// Merges all layers into one document; `None` if one of the files cannot be read or is not valid TOML.
fn layered(path: &Path, overrides: &Overrides, kinds: &[Kind], diagnostics: &mut Diagnostics) -> Option<Table> {
    let document = read::manifest(path, diagnostics);
    let beside = path.with_file_name(machine::FILE_NAME);
    let machine_file = overrides
        .machine
        .clone()
        .or_else(|| beside.symlink_metadata().is_ok().then_some(beside).filter(|beside| beside != path));
    let machine = machine_file.map(|file| read::file(&file, read::Role::Machine, diagnostics));
    let mut document = document?;
    if let Some(machine) = machine {
        machine::apply(&mut document, machine?, kinds, diagnostics);
    }
    let directory = std::env::current_dir().unwrap_or_default();
    overrides.sets.iter().for_each(|argument| set::apply(&mut document, argument, &directory, set::HINT, diagnostics));
    Some(document)
}

fn checked(path: &Path, document: &Table, kinds: &[Kind], diagnostics: &mut Diagnostics) -> Option<Manifest> {
    const SECTIONS: [&str; 4] = ["extends", "run", "exec", "stages"];
    for (key, entry) in document.in_order().into_iter().filter(|(key, _)| !SECTIONS.contains(key)) {
        let diagnostic = Diagnostic::error(format!("unknown key '{key}'")).at(entry.key, "not a section of a manifest");
        let stage = entry.node.as_table().is_some_and(|table| table.get("kind").is_some())
            || document.table("stages").is_some_and(|stages| stages.get(key).is_some());
        let hint = match validate::section_of(key) {
            _ if stage => Some(format!("a stage is written stages.{key}")),
            Some(section) => Some(format!("it belongs in {section}")),
            None => suggest::hint(key, "a manifest has", SECTIONS),
        };
        diagnostics.push(diagnostic.hint(hint));
    }
    let run = section::run(document, path, diagnostics);
    let place = |section: &str, key: &str, diagnostics: &Diagnostics| {
        let entry = document.table(section).and_then(|section| section.get(key))?;
        Some(diagnostics.sources().place(entry.key))
    };
    let seed_place = place("run", "seed", diagnostics);
    let memory_place = place("exec", "memory", diagnostics);
    let exec = section::exec(document, diagnostics);
    let (stages, graph) = stages(document, kinds, diagnostics)?;
    Some(Manifest {
        path: path.to_owned(),
        name: run.name,
        seed: run.seed,
        seed_place,
        exec,
        memory_place,
        stages,
        graph,
        warnings: Diagnostics::new(""),
    })
}

fn stages(
    document: &Table,
    kinds: &[Kind],
    diagnostics: &mut Diagnostics,
) -> Option<(BTreeMap<StageName, StageDeclaration>, Graph)> {
    let Some(declared) = document.get("stages").map(|Entry { node, .. }| node) else {
        let diagnostic = Diagnostic::error("the manifest has no stages");
        diagnostics.push(diagnostic.hint("'pipeline init FILE' writes one that runs".to_owned()));
        return None;
    };
    let Some(table) = declared.as_table().filter(|table| !table.0.is_empty()) else {
        let message = match declared.as_table() {
            Some(_) => "the manifest has no stages".to_owned(),
            None => format!("'stages' expects a table, found {}", declared.value.described()),
        };
        let diagnostic = Diagnostic::error(message).at(declared.span, "");
        diagnostics.push(diagnostic.hint("write [stages.NAME]".to_owned()));
        return None;
    };
    let entries: Vec<_> = table.0.iter().collect();
    let draft = |(name, entry): &(&String, &Entry), found: &mut Diagnostics| stage::draft(name, entry, kinds, found);
    let drafts: Vec<Draft<'_>> = diagnostics.of_each(&entries, draft).into_iter().flatten().collect();
    let by_name: BTreeMap<&str, &Draft<'_>> = drafts.iter().map(|draft| (draft.name.as_str(), draft)).collect();
    let edges = diagnostics.of_each(&drafts, |draft, found| resolve::resolve(draft, table, &by_name, found));
    let graph = Graph::new(drafts.iter().map(|draft| (&draft.name, draft.edges.stages())).collect());
    cycle::report(&graph, &by_name, diagnostics);
    let resolved = drafts.iter().map(|draft| draft.name.as_str()).zip(&edges).collect();
    let mut inferred = infer::infer(&graph, &by_name, &resolved, diagnostics);
    let declarations = drafts.into_iter().zip(edges).filter_map(|(draft, edges)| {
        let inferred = inferred.remove(draft.name.as_str()).unwrap_or_default();
        draft.declaration(edges, inferred, diagnostics.sources())
    });
    Some((declarations.map(|declaration| (declaration.name.clone(), declaration)).collect(), graph))
}
