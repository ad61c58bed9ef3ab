//! `[run]` and `[exec]`: what holds for the whole run.

use std::path::{Path, PathBuf};

use contract::Device;
use schemars::JsonSchema;
use serde_json::Value as Json;

use super::bytes::ByteSize;
use super::check::Check;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Entry, Table};
use super::shape::Shape;
use super::source::Span;

/// The run: what it is called and what its random choices start from.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RunSettings {
    /// What the run is called: a folder's name. Default: the file's name without `.toml`.
    #[schemars(with = "Option<String>")]
    pub name: String,
    /// What every random choice starts from. Part of the key of each stage that makes random choices.
    #[schemars(with = "Option<u64>")]
    pub seed: u64,
}

/// The machine: what changes no result.
#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ExecSettings {
    /// Threads for all stages together. Default: all cores.
    #[schemars(range(min = 1, max = ExecSettings::MOST_THREADS))]
    pub threads: Option<u16>,
    /// Stages that may run at the same time. Default: as threads and memory allow.
    #[schemars(range(min = 1, max = ExecSettings::MOST_THREADS))]
    pub jobs: Option<u16>,
    /// Memory for all stages together: bytes, or text such as "2GiB".
    pub memory: Option<ByteSize>,
    /// Where tensors live: "auto", "cpu" or "cuda:N".
    #[schemars(with = "Option<String>")]
    pub device: Option<Device>,
    /// The folder of the store; a relative one starts at the file that names it.
    pub cache: Option<PathBuf>,
}

impl ExecSettings {
    /// The most threads, and jobs, that may be asked for.
    pub const MOST_THREADS: u16 = 1024;
}

/// The section of which `key` is a setting.
pub(super) fn of(key: &str) -> Option<&'static str> {
    match key {
        "name" | "seed" => Some("[run]"),
        "threads" | "jobs" | "memory" | "device" | "cache" => Some("[exec]"),
        _ => None,
    }
}

/// A section as JSON, held against the schema of its type. Empty where it is absent.
fn section(document: &Table, name: &str, schema: &Json, diagnostics: &mut Diagnostics) -> Json {
    let Some(Entry { key, node }) = document.get(name) else { return Json::Null };
    let Some(table) = node.as_table() else {
        let message = format!("'{name}' takes a table, found {}", node.value.described());
        diagnostics.push(Diagnostic::error(message).at(*key, "").hint(format!("write [{name}]")));
        return Json::Null;
    };
    let mut check = Check::new(diagnostics, format!("[{name}]"));
    check.table(node.span, table, &[Shape::of(schema)], &[], "").unwrap_or_default()
}

fn text<'s>(document: &'s Table, section: &str, key: &str) -> Option<(&'s str, Span)> {
    let node = &document.table(section)?.get(key)?.node;
    Some((node.as_str()?, node.span))
}

/// Whether a name reads as the number of a run: `quickstart.3`.
fn numbered(name: &str) -> bool {
    let number = name.rsplit_once('.').map_or("", |(_, number)| number);
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn run(document: &Table, file: &Path, diagnostics: &mut Diagnostics) -> RunSettings {
    let section = section(document, "run", &schemars::schema_for!(RunSettings).to_value(), diagnostics);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let begins = |name: &str| name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let name = match text(document, "run", "name") {
        Some((name, span)) => {
            if name.len() > 100 || !begins(name) || !name.chars().all(fits) {
                let diagnostic = Diagnostic::error(format!("'{name}' is no name for a run")).at(span, "");
                diagnostics
                    .push(diagnostic.hint(
                        "letters, digits, '_', '-' and '.', at most 100, the first a letter or digit".to_owned(),
                    ));
            }
            if numbered(name) {
                let diagnostic = Diagnostic::error(format!("'{name}' is no name for a run")).at(span, "");
                let hint = "a number after '.' says which run of a name is meant: write '-' in place of '.'";
                diagnostics.push(diagnostic.hint(hint.to_owned()));
            }
            name.to_owned()
        }
        None => {
            let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let stem: String = stem
                .chars()
                .map(|c| if fits(c) { c } else { '-' })
                .skip_while(|c| !c.is_ascii_alphanumeric())
                .take(100)
                .collect();
            let stem = if numbered(&stem) { stem.replace('.', "-") } else { stem };
            if stem.is_empty() { "run".to_owned() } else { stem }
        }
    };
    RunSettings { name, seed: section["seed"].as_u64().unwrap_or(1) }
}

pub(super) fn exec(document: &Table, diagnostics: &mut Diagnostics) -> ExecSettings {
    let section = section(document, "exec", &schemars::schema_for!(ExecSettings).to_value(), diagnostics);
    let count = |key: &str| section[key].as_u64().and_then(|count| u16::try_from(count).ok());
    let mut settings = ExecSettings { threads: count("threads"), jobs: count("jobs"), ..ExecSettings::default() };
    settings.memory = section["memory"].as_u64().map(ByteSize);
    if let Some((memory, span)) = text(document, "exec", "memory") {
        settings.memory = memory.parse().map(Some).unwrap_or_else(|error: super::bytes::NotAByteSize| {
            let diagnostic = Diagnostic::error(error.to_string()).at(span, "");
            diagnostics.push(diagnostic.hint("as 536870912, \"512MiB\" or \"2GiB\"".to_owned()));
            None
        });
    }
    if let Some((device, span)) = text(document, "exec", "device") {
        settings.device = device.parse().map(Some).unwrap_or_else(|_| {
            let diagnostic = Diagnostic::error(format!("'{device}' is not a device")).at(span, "");
            diagnostics.push(diagnostic.hint("it takes \"auto\", \"cpu\" or \"cuda:N\"".to_owned()));
            None
        });
    }
    if let Some((cache, span)) = text(document, "exec", "cache").filter(|(cache, _)| !cache.is_empty()) {
        settings.cache = Some(diagnostics.source(span.source).folder.join(cache));
    }
    settings
}
