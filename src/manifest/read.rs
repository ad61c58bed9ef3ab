//! Reads files: a single file, or the chain of files that `extends` names.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::Table;
use super::source::Span;
use super::{shell, syntax};

/// The maximum size of a file, in bytes, far above that of manifests written by hand.
const LARGEST: u64 = 1 << 20;

/// The role of a file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    /// The manifest named on the command line.
    Manifest,
    /// A file that `extends` names, at this span; its path may be `relative`.
    Base { named: Span, relative: bool },
    /// The machine file.
    Machine,
}

impl Role {
    /// Returns the span at which another file names it.
    fn named(self) -> Option<Span> {
        match self {
            Self::Base { named, .. } => Some(named),
            Self::Manifest | Self::Machine => None,
        }
    }

    /// Returns a hint for a file that does not exist.
    fn absent(self, path: &Path) -> Option<String> {
        match self {
            Self::Manifest => {
                Some(format!("'pipeline init {}' writes one that runs", shell::quoted(&path.to_string_lossy())))
            }
            Self::Base { relative: true, .. } => {
                Some("a relative path is resolved against the directory of the file that contains it".to_owned())
            }
            Self::Base { relative: false, .. } | Self::Machine => None,
        }
    }
}

/// Reads a manifest and the files it extends, merged from the base up. `None` if one of the files cannot be read or is not
/// valid TOML: its stages are then unknown.
pub(super) fn manifest(path: &Path, diagnostics: &mut Diagnostics) -> Option<Table> {
    let mut layers = Vec::new();
    let mut seen: Vec<(PathBuf, String)> = Vec::new();
    let mut next = Some((path.to_owned(), Role::Manifest));
    while let Some((path, role)) = next.take() {
        let canonical = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        if let (Some(start), Some(span)) = (seen.iter().position(|(file, _)| *file == canonical), role.named()) {
            let names: Vec<_> = seen[start..].iter().chain(seen.get(start)).map(|(_, name)| name.as_str()).collect();
            let message = format!("cycle of 'extends': {}", names.join(" -> "));
            diagnostics.push(Diagnostic::error(message).at(span, ""));
            return None;
        }
        seen.push((canonical, path.display().to_string()));
        let mut table = file(&path, role, diagnostics)?;
        if let Some(entry) = table.0.remove("extends") {
            let span = entry.node.span;
            match entry.node.as_str().filter(|base| !base.is_empty()) {
                Some(base) => {
                    let relative = Path::new(base).is_relative();
                    next = Some((path.with_file_name(base), Role::Base { named: span, relative }));
                }
                None => {
                    let diagnostic = match entry.node.as_str() {
                        Some(_) => Diagnostic::error("'extends' is empty"),
                        None => Diagnostic::error(format!(
                            "'extends' expects a string, found {}",
                            entry.node.value.described()
                        )),
                    };
                    diagnostics.push(diagnostic.at(span, "expected the path of a manifest"));
                    return None;
                }
            }
        }
        layers.push(table);
    }
    layers.into_iter().rev().reduce(|mut base, later| {
        base.overlay(later);
        base
    })
}

/// Reads one file.
pub(super) fn file(path: &Path, role: Role, diagnostics: &mut Diagnostics) -> Option<Table> {
    let name = path.display().to_string();
    let bytes = match bytes(path, matches!(role, Role::Manifest)) {
        Ok(bytes) => bytes,
        Err(error) => {
            let (message, hint) = match error.kind() {
                io::ErrorKind::NotFound => (format!("'{name}' does not exist"), role.absent(path)),
                io::ErrorKind::IsADirectory => {
                    let hint = (!matches!(role, Role::Machine)).then(|| "name a manifest in that directory".to_owned());
                    (format!("'{name}' is a directory"), hint)
                }
                io::ErrorKind::FileTooLarge => {
                    let hint = "a manifest lists data files; it does not contain data".to_owned();
                    (format!("'{name}' is larger than {} MiB", LARGEST >> 20), Some(hint))
                }
                io::ErrorKind::InvalidInput => (format!("'{name}' is not a regular file"), None),
                kind => (format!("cannot read '{name}': {kind}"), None),
            };
            let diagnostic = Diagnostic::error(message).hint(hint);
            diagnostics.push(match role.named() {
                Some(span) => diagnostic.at(span, "named here"),
                None => diagnostic,
            });
            return None;
        }
    };
    let directory =
        std::path::absolute(path).ok().and_then(|path| path.parent().map(Path::to_owned)).unwrap_or_default();
    match String::from_utf8(bytes) {
        Ok(text) => {
            // A byte order mark does not count as a column.
            let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
            let source = diagnostics.add_source(name, directory, text);
            syntax::parse(source, diagnostics.sources()).map_err(|error| diagnostics.push(error)).ok()
        }
        Err(error) => {
            let start = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let source = diagnostics.add_source(&name, directory, text);
            let span = Span { source, start, end: start + char::REPLACEMENT_CHARACTER.len_utf8() };
            let diagnostic = Diagnostic::error(format!("'{name}' is not valid UTF-8"));
            diagnostics.push(diagnostic.at(span, "the first invalid byte").hint("save it as UTF-8".to_owned()));
            None
        }
    }
}

/// Reads the bytes of a file. A manifest named on the command line may be a pipe, such as the output of a program.
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
