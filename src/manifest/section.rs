//! `[run]` and `[exec]`: settings of the whole run.

use std::path::{Path, PathBuf};

use contract::Device;
use schemars::JsonSchema;

use super::bytes::ByteSize;
use super::diagnostic::{Diagnostic, Diagnostics};
use super::document::{Entry, Table};
use super::setting_schema::SettingSchema;
use super::settings::Settings;
use super::source::Span;
use super::validate::validate;

/// The run: its name and its seed.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RunSettings {
    /// The name of the run, used as a directory name. Default: the file name without `.toml`.
    #[schemars(with = "Option<String>")]
    pub name: String,
    /// The seed of all random choices. It is part of the key of each stage that makes random choices.
    #[schemars(with = "Option<u64>")]
    pub seed: u64,
}

/// The machine: settings that change no output.
#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ExecSettings {
    /// The number of threads for all stages together. Default: all cores.
    #[schemars(range(min = 1, max = ExecSettings::MOST_THREADS))]
    pub threads: Option<u16>,
    /// The maximum number of stages that run at the same time. Default: as many as threads and memory allow.
    #[schemars(range(min = 1, max = ExecSettings::MOST_THREADS))]
    pub jobs: Option<u16>,
    /// The memory for all stages together: bytes, or a string such as "2GiB".
    pub memory: Option<ByteSize>,
    /// The compute device: "auto", "cpu" or "cuda:N".
    #[schemars(with = "Option<String>")]
    pub device: Option<Device>,
    /// The directory of the store; a relative path is resolved against the file that contains it.
    pub cache: Option<PathBuf>,
}

impl ExecSettings {
    /// The largest number of threads, and of jobs.
    pub const MOST_THREADS: u16 = 1024;
}

/// A validated section; empty if it is absent.
struct Section(Option<Settings>);

impl Section {
    fn read<T: JsonSchema>(document: &Table, name: &str, diagnostics: &mut Diagnostics) -> Self {
        let Some(Entry { key, node }) = document.get(name) else { return Self(None) };
        let Some(table) = node.as_table() else {
            let message = format!("'{name}' expects a table, found {}", node.value.described());
            diagnostics.push(Diagnostic::error(message).at(*key, "").hint(format!("write [{name}]")));
            return Self(None);
        };
        let schema = schemars::schema_for!(T).to_value();
        let schemas = [SettingSchema::of(&schema)];
        Self(Some(validate(node.span, table, &schemas, &[], format!("[{name}]"), diagnostics)))
    }

    fn integer(&self, key: &str) -> Option<u64> {
        self.0.as_ref()?.json.get(key)?.as_u64()
    }

    /// Returns a string and its position.
    fn string(&self, key: &str) -> Option<(&str, Span)> {
        let settings = self.0.as_ref()?;
        Some((settings.json.get(key)?.as_str()?, settings.locations.get(key)?.value))
    }
}

/// Returns whether a name ends like that of a numbered run: `quickstart.3`.
fn is_numbered(name: &str) -> bool {
    let number = name.rsplit_once('.').map_or("", |(_, number)| number);
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn run(document: &Table, file: &Path, diagnostics: &mut Diagnostics) -> RunSettings {
    const LONGEST: usize = 100;
    let section = Section::read::<RunSettings>(document, "run", diagnostics);
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let name = if let Some((name, span)) = section.string("name") {
        let hint = if name.len() > LONGEST
            || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !name.chars().all(is_allowed)
        {
            Some("at most 100 letters, digits, '_', '-' and '.', the first a letter or digit")
        } else {
            is_numbered(name).then_some("'.' and a number at the end would select a run: write '-' instead of '.'")
        };
        if let Some(hint) = hint {
            let diagnostic = Diagnostic::error(format!("invalid run name '{name}'")).at(span, "");
            diagnostics.push(diagnostic.hint(hint.to_owned()));
        }
        name.to_owned()
    } else {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let stem = stem.chars().map(|c| if is_allowed(c) { c } else { '-' });
        let stem: String = stem.skip_while(|c| !c.is_ascii_alphanumeric()).take(LONGEST).collect();
        let stem = if is_numbered(&stem) { stem.replace('.', "-") } else { stem };
        if stem.is_empty() { "run".to_owned() } else { stem }
    };
    RunSettings { name, seed: section.integer("seed").unwrap_or(1) }
}

pub(super) fn exec(document: &Table, diagnostics: &mut Diagnostics) -> ExecSettings {
    let section = Section::read::<ExecSettings>(document, "exec", diagnostics);
    let count = |key: &str| section.integer(key).and_then(|count| u16::try_from(count).ok());
    let mut settings = ExecSettings { threads: count("threads"), jobs: count("jobs"), ..ExecSettings::default() };
    settings.memory = section.integer("memory").map(ByteSize);
    if let Some((memory, span)) = section.string("memory") {
        match memory.parse() {
            Ok(memory) => settings.memory = Some(memory),
            Err(error) => {
                let error: super::bytes::NotAByteSize = error;
                diagnostics.push(Diagnostic::error(error.to_string()).at(span, ""));
            }
        }
    }
    if let Some((device, span)) = section.string("device") {
        match device.parse() {
            Ok(device) => settings.device = Some(device),
            Err(_) => {
                let diagnostic = Diagnostic::error(format!("invalid device '{device}'")).at(span, "");
                diagnostics.push(diagnostic.hint("expected \"auto\", \"cpu\" or \"cuda:N\"".to_owned()));
            }
        }
    }
    if let Some((cache, span)) = section.string("cache").filter(|(cache, _)| !cache.is_empty()) {
        settings.cache = Some(diagnostics.source(span.source).directory.join(cache));
    }
    settings
}
