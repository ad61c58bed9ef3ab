//! Files to documents: reading one, and the chain of files that `extends` names.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::Table;
use super::source::Span;
use super::{cycle, shell, suggest, syntax};

/// Bytes; no manifest that a person wrote comes near.
const LARGEST: u64 = 1 << 20;

/// As what a file is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    /// The manifest that a person named.
    Manifest,
    /// What `extends` names, here; its path may be `relative`.
    Base { named: Span, relative: bool },
    /// The machine file.
    Machine,
}

impl Role {
    /// Where another file names it.
    fn named(self) -> Option<Span> {
        match self {
            Self::Base { named, .. } => Some(named),
            Self::Manifest | Self::Machine => None,
        }
    }

    /// What to do when there is none.
    fn absent(self, path: &Path) -> Option<String> {
        match self {
            Self::Manifest => {
                Some(format!("'pipeline init {}' writes one that runs", shell::quoted(&path.to_string_lossy())))
            }
            Self::Base { relative: true, .. } => {
                Some("a relative path starts at the folder of the file that names it".to_owned())
            }
            Self::Base { relative: false, .. } | Self::Machine => None,
        }
    }
}

/// Reads a manifest and what it extends, laid over each other from the base up. `None` when one of the files could not
/// be read or is no TOML: what its stages look like is then unknown.
pub(super) fn manifest(path: &Path, diagnostics: &mut Diagnostics) -> Option<Table> {
    let mut layers = Vec::new();
    let mut sound = true;
    let mut seen: Vec<(PathBuf, String)> = Vec::new();
    let mut next = Some((path.to_owned(), Role::Manifest));
    while let Some((path, role)) = next.take() {
        let name = path.display().to_string();
        let canonical = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        if let (Some(start), Some(span)) = (seen.iter().position(|(file, _)| *file == canonical), role.named()) {
            let names: Vec<_> =
                seen[start..].iter().map(|(_, name)| name.as_str()).chain([seen[start].1.as_str()]).collect();
            diagnostics
                .push(Diagnostic::error(format!("'extends' goes in a circle: {}", cycle::around(&names))).at(span, ""));
            return None;
        }
        seen.push((canonical, name));
        let (mut table, fine) = file(&path, role, diagnostics)?;
        sound &= fine;
        if let Some(entry) = table.0.remove("extends") {
            match entry.node.as_str() {
                Some("") => {
                    sound = false;
                    diagnostics.push(Diagnostic::error("'extends' names no file").at(entry.node.span, ""));
                }
                Some(base) => {
                    let folder = path.parent().unwrap_or(Path::new(""));
                    let relative = Path::new(base).is_relative();
                    next = Some((folder.join(base), Role::Base { named: entry.node.span, relative }));
                }
                None => {
                    sound = false;
                    let found = entry.node.value.described();
                    let message = format!("'extends' takes a string, found {found}");
                    diagnostics
                        .push(Diagnostic::error(message).at(entry.node.span, "expected the path of one manifest"));
                }
            }
        }
        layers.push(table);
    }
    let merged = layers.into_iter().rev().reduce(|mut base, later| {
        base.overlay(later);
        base
    });
    merged.filter(|_| sound)
}

/// Reads one file. Also whether its document is sound.
pub(super) fn file(path: &Path, role: Role, diagnostics: &mut Diagnostics) -> Option<(Table, bool)> {
    let name = path.display().to_string();
    let refuse = |diagnostics: &mut Diagnostics, message: String, hint: Option<&str>| {
        let diagnostic = Diagnostic::error(message).hint(hint.map(str::to_owned));
        diagnostics.push(match role.named() {
            Some(span) => diagnostic.at(span, "named here"),
            None => diagnostic,
        });
    };
    let bytes = match bytes(path, matches!(role, Role::Manifest)) {
        Ok(bytes) => bytes,
        Err(error) => {
            match error.kind() {
                io::ErrorKind::NotFound => {
                    let near = near(path).map(|near| format!("did you mean '{}'?", near.display()));
                    let hint = near.or_else(|| role.absent(path));
                    refuse(diagnostics, format!("there is no file '{name}'"), hint.as_deref());
                }
                io::ErrorKind::IsADirectory => {
                    let hint = (!matches!(role, Role::Machine)).then_some("name the manifest in it");
                    refuse(diagnostics, format!("'{name}' is a folder"), hint);
                }
                io::ErrorKind::FileTooLarge => {
                    let message = format!("'{name}' is larger than {} MiB", LARGEST >> 20);
                    refuse(diagnostics, message, Some("a manifest names data, it does not hold it"));
                }
                io::ErrorKind::InvalidInput => refuse(diagnostics, format!("'{name}' is no regular file"), None),
                kind => refuse(diagnostics, format!("cannot read '{name}': {kind}"), None),
            }
            return None;
        }
    };
    let folder = std::path::absolute(path).ok().and_then(|path| path.parent().map(Path::to_owned)).unwrap_or_default();
    match String::from_utf8(bytes) {
        Ok(text) => {
            // A byte order mark is no column.
            let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
            let source = diagnostics.add_source(name, folder, text);
            Some(syntax::parse(source, diagnostics))
        }
        Err(error) => {
            let start = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let source = diagnostics.add_source(&name, folder, text);
            let span = Span { source, start, end: start + char::REPLACEMENT_CHARACTER.len_utf8() };
            let diagnostic = Diagnostic::error(format!("'{name}' is not UTF-8 text"));
            diagnostics.push(diagnostic.at(span, "the first byte that is not").hint("save it as UTF-8".to_owned()));
            None
        }
    }
}

/// The file in the same folder whose name is nearly that of `path`, or is that with `.toml` after it.
fn near(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = fs::read_dir(folder).ok()?.take(suggest::MOST).filter_map(Result::ok);
    let files = entries.filter(|entry| entry.path().is_file());
    let mut names: Vec<_> = files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let whole = format!("{name}.toml");
    let names = || names.iter().map(String::as_str);
    // What both end in says nothing: `server.toml` is not meant by `else.toml`.
    let stem = |name: &str| name.rsplit_once('.').map_or(name.to_owned(), |(stem, _)| stem.to_owned());
    let alike = |near: &&str| suggest::nearest(&stem(name), [stem(near).as_str()]).is_some();
    let near = names().find(|name| *name == whole).or_else(|| suggest::nearest(name, names()).filter(alike));
    near.map(|near| path.with_file_name(near))
}

/// The bytes of a file. What a person names may be a pipe, as a shell makes it of a program's output; nothing else is waited
/// for.
fn bytes(path: &Path, may_be_pipe: bool) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !may_be_pipe && !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(LARGEST)).unwrap_or_default() + 1);
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}
