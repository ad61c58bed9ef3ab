//! Floor 1: a manifest, from TOML text with positions to typed stages.
//!
//! ```toml
//! extends = "base.toml"           # optional: laid under this file, table by table
//!
//! [run]
//! name = "codeparrot-small"       # default: the file's name
//! seed = 1                        # default: 1
//!
//! [exec]                          # the machine: threads, jobs, memory, device, cache
//! memory = "8GiB"
//!
//! [stages.licensed]
//! kind  = "license"               # one of the kinds
//! input = "export"                # fills the first input port with the first output of 'export'
//! allow = ["mit", "apache-2.0"]   # settings of the kind
//!
//! [stages.tokens]
//! kind   = "pack"
//! inputs = { documents = "split.train", tokenizer = "tokenizer" }
//! ```
//!
//! # Layers
//! From the lowest; tables merge at any depth, anything else is replaced, and every value keeps the place where it is
//! written:
//!
//! 1. what `extends` names, and what that extends (a relative path starts at the file that names it);
//! 2. the file;
//! 3. the machine file: `--machine FILE`, else `machine.toml` beside the manifest (`machine`);
//! 4. each `--set PATH=VALUE`, in order (`set`).
//!
//! A setting that names files ([`contract::SourcePattern`]) and `exec.cache` are made absolute: a relative one starts at
//! the folder of the file that holds it, on the command line at the working directory. An empty one stays empty: the
//! stage has no source yet, and `plan` says so.
//!
//! # Promises
//! - [`load`] never panics, and reads at most 1 MiB a file.
//! - A [`Manifest`] is right: every kind is known, every setting is of its type and within its range, every edge joins an
//!   output to an input that takes it, every required input is connected, and no stage needs itself.
//! - Otherwise the answer is every problem of every layer at once, each with file, line, caret and, where there is one,
//!   a hint ([`Diagnostics`]). Two things end the search early: a file that cannot be read, and text that is no TOML.
//!   What a kind finds wrong with settings that depend on one already in error comes once that is right (`fault`).
//!
//! | module | noun |
//! |---|---|
//! | `read`, `syntax`, `document` | a file; its TOML; the document with places |
//! | `slip` | what a syntax error is most likely a slip of |
//! | `set`, `machine` | the layers above the file |
//! | `shape`, `check` | what a setting may be, by its JSON schema; a table held against it |
//! | `variant`, `spelling` | a setting of several shapes; a value of a wrong type |
//! | `fault`, `problem` | what did not fit; what the kind finds wrong with the rest |
//! | `section`, `bytes` | `[run]` and `[exec]`; `"2GiB"` |
//! | `stage`, `edge`, `cycle` | `[stages.NAME]`; its inputs; their circles |
//! | `diagnostic`, `render`, `suggest` | problems; as text; "did you mean" |
//! | `schema`, `listing` | the JSON schema of a manifest; the settings of a kind, for people |
//! | [`shell`] | words of a command line, quoted |

mod bytes;
mod check;
mod cycle;
mod diagnostic;
mod document;
mod edge;
mod fault;
mod infer;
mod listing;
mod machine;
mod name;
mod place;
mod problem;
mod read;
mod render;
mod resolved;
mod schema;
mod section;
mod set;
mod shape;
pub mod shell;
mod slip;
mod source;
mod spelling;
mod stage;
mod suggest;
mod syntax;
mod variant;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use contract::Kind;

pub use self::bytes::{ByteSize, NotAByteSize};
pub use self::diagnostic::{Diagnostic, Diagnostics, Label, PlacedDiagnostic, PlacedLabel, Severity};
pub use self::edge::Edge;
pub use self::listing::{Setting, settings};
pub use self::name::{NotAStageName, StageName};
pub use self::place::Place;
pub use self::schema::schema;
pub use self::section::{ExecSettings, RunSettings};
pub use self::source::{Source, SourceId, Sources, Span};
pub use self::stage::StageDeclaration;
pub use self::suggest::nearest as did_you_mean;

use self::document::{Entry, Table};
use self::stage::Draft;
use crate::parallel;

/// The manifest of a command that names none.
pub const DEFAULT: &str = "pipeline.toml";

/// What is laid over a manifest's files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// As `stages.train.learning_rate=6e-4`; later ones win.
    pub sets: Vec<String>,
    /// The machine file; without one, `machine.toml` beside the manifest if it exists.
    pub machine: Option<PathBuf>,
}

/// A manifest that is right.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The file as it was named.
    pub path: PathBuf,
    /// What the run is called.
    pub name: String,
    /// What every random choice starts from.
    pub seed: u64,
    /// Where the seed is set, if it is.
    pub seed_place: Option<Place>,
    /// The machine.
    pub exec: ExecSettings,
    /// Where its memory is set, if it is.
    pub memory_place: Option<Place>,
    /// The stages by name.
    pub stages: BTreeMap<StageName, StageDeclaration>,
    /// What people should know; empty for most.
    pub warnings: Diagnostics,
}

/// Reads a manifest of these kinds with what is laid over it.
///
/// # Errors
/// Every problem of every layer (module docs).
pub fn load(path: &Path, overrides: &Overrides, kinds: &[Kind]) -> Result<Manifest, Diagnostics> {
    let mut diagnostics = Diagnostics::new(path.display().to_string());
    let document = layered(path, overrides, kinds, &mut diagnostics);
    let manifest = document.and_then(|document| checked(path, &document, kinds, &mut diagnostics));
    finished(manifest, diagnostics)
}

/// Where a manifest is, without links in its directory: what a project is known by. That of a pipe is the working directory.
pub fn origin(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = folder.canonicalize().ok().zip(path.file_name()).filter(|_| path.is_file());
    let here = || std::env::current_dir().and_then(|here| here.canonicalize()).unwrap_or_default();
    found.map_or_else(here, |(folder, name)| folder.join(name))
}

/// What commands on a store need of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// What the run is called.
    pub name: String,
    /// `exec.cache`.
    pub cache: Option<PathBuf>,
}

/// Reads the head of a manifest with its layers, whatever is wrong with its stages.
///
/// # Errors
/// When a layer cannot be read or is not TOML, or the head is wrong.
pub fn head(path: &Path) -> Result<Head, Diagnostics> {
    let mut diagnostics = Diagnostics::new(path.display().to_string());
    let document = layered(path, &Overrides::default(), &[], &mut diagnostics);
    let head = document.map(|document| Head {
        name: section::run(&document, path, &mut diagnostics).name,
        cache: section::exec(&document, &mut diagnostics).cache,
    });
    head.filter(|_| !diagnostics.has_errors()).ok_or(diagnostics)
}

/// `exec.cache` of `pipeline.toml` with its layers, else of `machine.toml`, in this directory; `None` where neither has one or
/// can be read.
pub fn store_named_in(folder: &Path) -> Option<PathBuf> {
    let (manifest, machine) = (folder.join(DEFAULT), folder.join(machine::FILE_NAME));
    if manifest.is_file() {
        return head(&manifest).ok()?.cache;
    }
    let mut unused = Diagnostics::new("");
    let (document, _) = machine.is_file().then(|| read::file(&machine, read::Role::Machine, &mut unused)).flatten()?;
    section::exec(&document, &mut unused).cache
}

/// Reads what [`Manifest::resolved`] gave, which people call `name`, with these `--set`s laid over it.
///
/// # Errors
/// As [`load`].
pub fn load_resolved(name: &str, text: &str, sets: &[String], kinds: &[Kind]) -> Result<Manifest, Diagnostics> {
    let mut diagnostics = Diagnostics::new(name);
    let folder = std::env::current_dir().unwrap_or_default();
    let source = diagnostics.add_source(name, folder.clone(), text.to_owned());
    let (mut document, sound) = syntax::parse(source, &mut diagnostics);
    if let Some(entry) = document.0.remove("extends") {
        diagnostics.push(Diagnostic::error("a resolved manifest extends nothing").at(entry.key, ""));
    }
    sets.iter().for_each(|argument| set::lay(&mut document, argument, &folder, &mut diagnostics));
    let manifest = sound.then(|| checked(Path::new(name), &document, kinds, &mut diagnostics)).flatten();
    finished(manifest, diagnostics)
}

fn finished(manifest: Option<Manifest>, mut diagnostics: Diagnostics) -> Result<Manifest, Diagnostics> {
    diagnostics.sort();
    match manifest {
        Some(manifest) if !diagnostics.has_errors() => Ok(Manifest { warnings: diagnostics, ..manifest }),
        _ => Err(diagnostics),
    }
}

/// All layers as one document; `None` when one of the files is missing or no TOML.
fn layered(path: &Path, overrides: &Overrides, kinds: &[Kind], diagnostics: &mut Diagnostics) -> Option<Table> {
    let document = read::manifest(path, diagnostics);
    let beside = path.with_file_name(machine::FILE_NAME);
    let machine_file = overrides
        .machine
        .clone()
        .or_else(|| beside.symlink_metadata().is_ok().then_some(beside).filter(|beside| beside != path));
    let machine = machine_file.map(|file| read::file(&file, read::Role::Machine, diagnostics));
    let mut document = document?;
    match machine {
        Some(Some((machine, true))) => machine::lay(&mut document, machine, kinds, diagnostics),
        Some(_) => return None,
        None => {}
    }
    let folder = std::env::current_dir().unwrap_or_default();
    overrides.sets.iter().for_each(|argument| set::lay(&mut document, argument, &folder, diagnostics));
    Some(document)
}

fn checked(path: &Path, document: &Table, kinds: &[Kind], diagnostics: &mut Diagnostics) -> Option<Manifest> {
    const SECTIONS: [&str; 4] = ["extends", "run", "exec", "stages"];
    for (key, entry) in document.in_order().into_iter().filter(|(key, _)| !SECTIONS.contains(key)) {
        let diagnostic = Diagnostic::error(format!("unknown key '{key}'")).at(entry.key, "not a section of a manifest");
        let stage = entry.node.as_table().is_some_and(|table| table.get("kind").is_some())
            || document.table("stages").is_some_and(|stages| stages.get(key).is_some());
        let hint = match section::of(key) {
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
    let stages = stages(document, kinds, diagnostics)?;
    let warnings = Diagnostics::new("");
    Some(Manifest {
        path: path.to_owned(),
        name: run.name,
        seed: run.seed,
        seed_place,
        exec,
        memory_place,
        stages,
        warnings,
    })
}

fn stages(
    document: &Table,
    kinds: &[Kind],
    diagnostics: &mut Diagnostics,
) -> Option<BTreeMap<StageName, StageDeclaration>> {
    let Some(declared) = document.get("stages").map(|Entry { node, .. }| node) else {
        let diagnostic = Diagnostic::error("the manifest has no stages");
        diagnostics.push(diagnostic.hint("'pipeline init FILE' writes one that runs".to_owned()));
        return None;
    };
    let Some(table) = declared.as_table().filter(|table| !table.0.is_empty()) else {
        let message = match declared.as_table() {
            Some(_) => "the manifest has no stages".to_owned(),
            None => format!("'stages' takes a table, found {}", declared.value.described()),
        };
        let diagnostic = Diagnostic::error(message).at(declared.span, "");
        diagnostics.push(diagnostic.hint("write [stages.NAME]".to_owned()));
        return None;
    };
    let entries: Vec<_> = table.0.iter().collect();
    let draft = |(name, entry): &(&String, &Entry), found: &mut Diagnostics| stage::draft(name, entry, kinds, found);
    let drafts: Vec<Draft<'_>> = diagnostics.of_each(&entries, draft).into_iter().flatten().collect();
    let by_name: BTreeMap<&str, &Draft<'_>> = drafts.iter().map(|draft| (draft.name.as_str(), draft)).collect();
    let edges = diagnostics.of_each(&drafts, |draft, found| edge::join(draft, table, &by_name, found));
    cycle::report(&by_name, diagnostics);
    let joined = drafts.iter().map(|draft| draft.name.as_str()).zip(&edges).collect();
    let mut inferred = infer::infer(&by_name, &joined, diagnostics);
    let places = parallel::map(&drafts, |draft| draft.places(diagnostics.sources()));
    let declarations = drafts.into_iter().zip(edges).zip(places);
    let declarations = declarations.filter_map(|((draft, edges), settings)| {
        let inferred = inferred.remove(draft.name.as_str()).unwrap_or_default();
        draft.declaration(edges, inferred, settings, diagnostics.sources())
    });
    Some(declarations.map(|declaration| (declaration.name.clone(), declaration)).collect())
}
