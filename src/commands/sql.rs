//! `pipeline sql`: queries the tables of a manifest, each named after its stage.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use clap::Args;
use contract::{InputTree, PortType, Resources};
use tables::{Answer, AnswerFormat, Query, QueryError};

use super::CommandError;
use super::arguments::{ManifestOptions, is_manifest};
use super::build_output::{ReadableBuild, build_of};
use super::project::Project;
use super::signals::end_on_signals;
use super::stdout::{raw_stdout, stdout};
use crate::events::figures;
use crate::exit::Exit;
use crate::manifest::shell::quoted;
use crate::manifest::{DEFAULT, did_you_mean};
use crate::plan::Decider;
use crate::run::Budget;
use crate::stderr::stderr;
use crate::store::{Store, StoreError};

/// Arguments of `sql`.
#[derive(Debug, Args)]
pub struct SqlArguments {
    /// The manifest [default: pipeline.toml], then the query; without a query the tables are listed. `split` is the first
    /// output of the stage `split`, `split.valid` its output `valid`; put a name with a hyphen or a capital in double quotes.
    #[arg(value_name = "QUERY", num_args = 0..=2)]
    pub query: Vec<String>,
    #[command(flatten)]
    pub options: ManifestOptions,
    /// The format of the result.
    #[arg(long, value_enum, default_value_t = SqlFormat::Table)]
    pub format: SqlFormat,
}

/// The format of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SqlFormat {
    /// A table for people.
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object per line.
    Json,
    /// One Parquet file.
    Parquet,
}

pub(super) fn run(arguments: &SqlArguments) -> Result<Exit, CommandError> {
    let (manifest, query) = match arguments.query.as_slice() {
        [manifest, query] => (manifest.as_str(), Some(query)),
        [manifest] if is_manifest(manifest) => (manifest.as_str(), None),
        [query] => (DEFAULT, Some(query)),
        _ => (DEFAULT, None),
    };
    let project = Project::load(Path::new(manifest), &arguments.options)?;
    let store = project.read_store()?;
    let _guard = store.leases.guard()?;
    let (found, absent) = tables_of(&project, &store)?;
    let Some(query) = query else {
        let mut out = stdout();
        list(&mut out, &found)?;
        absent.iter().try_for_each(|stage| writeln!(out, "{stage}: no output yet"))?;
        return Ok(Exit::Done);
    };
    let mut out = std::io::BufWriter::new(raw_stdout());
    let Budget { threads, memory, .. } = Budget::of(&project.manifest.exec);
    let resources = Resources { threads, memory, device: contract::Device::Cpu };
    let scratch = end_on_signals(|| tempfile::tempdir().map_err(CommandError::io("create a temporary directory")))?;
    let tables = Query::new(resources, scratch.get().path())?;
    for FoundTable { stage, port, is_first, tree } in &found {
        tables.register(stage, port, *is_first, tree)?;
    }
    let format = match arguments.format {
        SqlFormat::Table => AnswerFormat::Table,
        SqlFormat::Csv => AnswerFormat::Csv,
        SqlFormat::Json => AnswerFormat::Json,
        SqlFormat::Parquet => AnswerFormat::Parquet,
    };
    let answer = tables.answer(query, format, &mut out).map_err(|error| match error {
        QueryError::Output(error) => error.into(),
        QueryError::Failed(error) => error.into(),
        QueryError::UnknownTable(table) => unknown_table(&table, &found, &absent, &project),
        QueryError::Invalid(message) => match unquoted(query, &found) {
            Some(name) => CommandError::usage(message).hint(format!("write {name}, with double quotes")),
            None => CommandError::usage(message),
        },
    })?;
    out.flush()?;
    if let Answer::First(rows) = answer {
        stderr!("note: the first {} are shown; the other formats print all", figures::counted(rows as u64, "row"));
    }
    Ok(Exit::Done)
}

/// A table of a manifest.
struct FoundTable {
    stage: String,
    port: String,
    /// Whether it is the first output of the stage, which a query can select by the name of the stage alone.
    is_first: bool,
    tree: InputTree,
}

impl FoundTable {
    fn name(&self) -> String {
        if self.is_first { self.stage.clone() } else { format!("{}.{}", self.stage, self.port) }
    }
}

/// Returns the tables of a manifest, in topological order, and the stages that have no tables yet. Each output is the one for the current
/// manifest, else that of the last build, as in `show`.
fn tables_of(project: &Project, store: &Store) -> Result<(Vec<FoundTable>, Vec<String>), CommandError> {
    let forced = BTreeSet::new();
    let plan = project.plan(&Decider::new(&project.manifest, store, &forced), &project.wanted(&[])?)?;
    let (mut found, mut absent) = (Vec::new(), Vec::new());
    for planned in &plan.stages {
        let stage = &project.manifest.stages[&planned.name];
        let ports = stage.ports.outputs.iter().enumerate();
        let mut ports = ports.filter(|(_, port)| matches!(port.ty, PortType::Documents | PortType::Rows)).peekable();
        if ports.peek().is_none() {
            continue;
        }
        let shown = match build_of(project, store, planned) {
            // The query may read other tables.
            Err(CommandError::Store(StoreError::Damaged(damage))) => {
                stderr!("warning: the output of {} is damaged: {damage}; the next run rebuilds it", planned.name);
                None
            }
            shown => shown?,
        };
        let Some(ReadableBuild { outputs, stale, .. }) = shown else {
            absent.push(planned.name.to_string());
            continue;
        };
        if stale.is_some() {
            stderr!("note: {} is the output of its last build; the stage {}", planned.name, planned.state.text());
        }
        for (number, port) in ports {
            let Some(tree) = outputs.get(port.name.as_ref()) else { continue };
            let (stage, port) = (planned.name.to_string(), port.name.clone().into_owned());
            found.push(FoundTable { stage, port, is_first: number == 0, tree: store.objects.input(*tree)? });
        }
    }
    Ok((found, absent))
}

/// Prints `quality  9,120 rows: id, repo_name, ...` for each table.
fn list(out: &mut impl Write, found: &[FoundTable]) -> Result<(), CommandError> {
    let width = found.iter().map(|table| table.name().len()).max().unwrap_or(0);
    for table in found {
        let described = tables::describe(&table.tree)?;
        let columns: Vec<_> = described.columns.iter().map(|column| column.name.as_str()).collect();
        let rows = figures::counted(described.rows, "row");
        writeln!(out, "{:width$}  {rows}: {}", table.name(), columns.join(", "))?;
    }
    Ok(())
}

/// Returns the name of a table as a query must write it: SQL converts unquoted names to lower case and ends them at a hyphen.
fn as_written(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.';
    if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(is_plain) {
        format!("'{name}'")
    } else {
        format!("\"{name}\"")
    }
}

/// Returns a table whose name needs double quotes, which the query lacks.
fn unquoted(query: &str, found: &[FoundTable]) -> Option<String> {
    let names = found.iter().map(FoundTable::name).filter(|name| as_written(name).starts_with('"'));
    let is_unquoted = |name: &String| query.contains(name) && !query.contains(&as_written(name));
    names.filter(is_unquoted).max_by_key(String::len).map(|name| as_written(&name))
}

/// Returns the error for an unknown table: either a stage without an output yet, or an unknown stage.
fn unknown_table(table: &str, found: &[FoundTable], absent: &[String], project: &Project) -> CommandError {
    let error = CommandError::usage(format!("unknown table '{table}'"));
    let stage = table.split('.').next().unwrap_or(table);
    // `show tables` reads it too.
    if stage == "information_schema" {
        let manifest = project.manifest.path.display().to_string();
        return error.hint(format!("to list the tables: pipeline sql {}", quoted(&manifest)));
    }
    if absent.iter().any(|absent| absent == stage) {
        return error.hint(format!("stage '{stage}' has no output yet: {}", project.run_command()));
    }
    let known: Vec<_> = found.iter().map(FoundTable::name).collect();
    error.hint(match did_you_mean(table, known.iter().map(String::as_str)) {
        // Quoted as SQL needs it.
        Some(near) => format!("did you mean {}?", as_written(near)),
        None if known.is_empty() => format!("there are no tables yet: {}", project.run_command()),
        None => format!("the tables are {}", known.join(", ")),
    })
}
