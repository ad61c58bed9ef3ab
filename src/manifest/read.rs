//! Files to documents: reading one, and the chain of files that `extends` names.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::Table;
use super::source::Span;
use super::syntax;

/// Bytes; no manifest that a person wrote comes near.
const LARGEST: u64 = 1 << 20;

/// Reads a manifest and what it extends, laid over each other from the base up. `None` when one of the files could not
/// be read or is no TOML: what its stages look like is then unknown.
pub(super) fn manifest(path: &Path, diagnostics: &mut Diagnostics) -> Option<Table> {
    let mut layers = Vec::new();
    let mut sound = true;
    let mut seen: Vec<(PathBuf, String)> = Vec::new();
    let mut next = Some((path.to_owned(), None));
    while let Some((path, named)) = next.take() {
        let name = path.display().to_string();
        let canonical = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        if let (Some(start), Some(span)) = (seen.iter().position(|(file, _)| *file == canonical), named) {
            let cycle: Vec<_> =
                seen[start..].iter().map(|(_, name)| name.as_str()).chain([seen[start].1.as_str()]).collect();
            diagnostics
                .push(Diagnostic::error(format!("'extends' goes in a circle: {}", cycle.join(" -> "))).at(span, ""));
            return None;
        }
        seen.push((canonical, name));
        let (mut table, fine) = file(&path, named, diagnostics)?;
        sound &= fine;
        if let Some(entry) = table.0.remove("extends") {
            match entry.node.as_str() {
                Some(base) => {
                    let folder = path.parent().unwrap_or(Path::new(""));
                    next = Some((folder.join(base), Some(entry.node.span)));
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

/// Reads one file; `named` is where another file names it. Also whether its document is sound.
pub(super) fn file(path: &Path, named: Option<Span>, diagnostics: &mut Diagnostics) -> Option<(Table, bool)> {
    let name = path.display().to_string();
    let refuse = |diagnostics: &mut Diagnostics, message: String, hint: Option<&str>| {
        let diagnostic = Diagnostic::error(message).hint(hint.map(str::to_owned));
        diagnostics.push(match named {
            Some(span) => diagnostic.at(span, "named here"),
            None => diagnostic,
        });
    };
    let bytes = match bytes(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            match error.kind() {
                io::ErrorKind::NotFound => refuse(diagnostics, format!("there is no file '{name}'"), None),
                io::ErrorKind::IsADirectory => {
                    refuse(diagnostics, format!("'{name}' is a folder"), Some("name the manifest in it"));
                }
                io::ErrorKind::FileTooLarge => {
                    let message = format!("'{name}' is larger than {} MiB", LARGEST >> 20);
                    refuse(diagnostics, message, Some("a manifest names data, it does not hold it"));
                }
                kind => refuse(diagnostics, format!("cannot read '{name}': {kind}"), None),
            }
            return None;
        }
    };
    let folder = std::path::absolute(path).ok().and_then(|path| path.parent().map(Path::to_owned)).unwrap_or_default();
    match String::from_utf8(bytes) {
        Ok(text) => {
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

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}
