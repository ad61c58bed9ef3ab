//! `pipeline sql`: the tables of a manifest, queried by the names of their stages.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use contract::{InputTree, PortType, Resources};
use tables::{Answer, AnswerFormat, Query};

use super::CommandError;
use super::arguments::{Source, is_manifest};
use super::output::{Shown, build_of};
use super::project::Project;
use super::signals::end_on_signals;
use crate::events::figures;
use crate::exit::Exit;
use crate::manifest::did_you_mean;
use crate::plan::Decider;
use crate::run::Budget;
use crate::say::say;
use crate::store::{Store, StoreError};

/// Arguments of `sql`.
#[derive(Debug, Args)]
pub struct SqlArguments {
    /// The manifest [default: pipeline.toml], then the query; without a query, the tables that there are. `split` is the
    /// first output of the stage `split`, `split.valid` the output `valid`; a name with a hyphen or a capital is put in
    /// double quotes.
    #[arg(value_name = "QUERY", num_args = 0..=2)]
    pub query: Vec<String>,
    #[command(flatten)]
    pub source: Source,
    /// How the answer is written.
    #[arg(long, value_enum, default_value_t = SqlFormat::Table)]
    pub format: SqlFormat,
}

/// How `sql` writes its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SqlFormat {
    /// A table for people.
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a line.
    Json,
    /// One Parquet file.
    Parquet,
}

pub(super) fn run(arguments: &SqlArguments) -> Result<Exit, CommandError> {
    let default = || PathBuf::from("pipeline.toml");
    let (manifest, query) = match arguments.query.as_slice() {
        [manifest, query] => (PathBuf::from(manifest), Some(query)),
        [manifest] if is_manifest(manifest) => (PathBuf::from(manifest), None),
        [query] => (default(), Some(query)),
        _ => (default(), None),
    };
    let project = Project::load(&manifest, &arguments.source)?;
    let store = Store::open_read_only(&project.cache)?;
    let _gate = store.reading();
    let (found, absent) = tables_of(&project, &store)?;
    let mut out = std::io::BufWriter::new(std::io::stdout());
    let Some(query) = query else {
        list(&mut out, &found)?;
        absent.iter().try_for_each(|stage| writeln!(out, "{stage}: no output yet"))?;
        out.flush()?;
        return Ok(Exit::Done);
    };
    let Budget { threads, memory, .. } = Budget::of(&project.manifest.exec);
    let resources = Resources { threads, memory, device: contract::Device::Cpu };
    let scratch = end_on_signals(|| tempfile::tempdir().map_err(CommandError::io("make a temporary folder")))?;
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
    let answer = tables.answer(query, format, &mut out).map_err(|error| {
        let text = error.to_string();
        if text.contains("Broken pipe") {
            return CommandError::Closed;
        }
        if text.contains("(os error ") {
            return CommandError::Failed { message: text, hint: None };
        }
        let text = plain(&text);
        let mut failed = CommandError::usage(text.replace("datafusion.public.", ""));
        let known: Vec<_> = found.iter().map(FoundTable::name).collect();
        if query.trim_start().get(..4).is_some_and(|word| word.eq_ignore_ascii_case("show")) {
            failed = failed.hint(format!("without a query the tables are listed: pipeline sql {}", manifest.display()));
        }
        if let Some(table) = absent_table(text) {
            failed = failed.hint(match did_you_mean(table, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("the tables are {}", known.join(", ")),
            });
        }
        if let Some(stage) = absent.iter().find(|stage| query.contains(stage.as_str())) {
            failed = failed.hint(format!("stage '{stage}' has no output yet: pipeline run {}", manifest.display()));
        }
        failed
    })?;
    out.flush()?;
    if let Answer::First(rows) = answer {
        say!("note: these are the first {}: csv, json and parquet have them all", figures::counted(rows as u64, "row"));
    }
    Ok(Exit::Done)
}

/// A table of a manifest.
struct FoundTable {
    stage: String,
    port: String,
    /// Whether it is the stage's first output, which the stage's name alone means.
    is_first: bool,
    tree: InputTree,
}

impl FoundTable {
    fn name(&self) -> String {
        if self.is_first { self.stage.clone() } else { format!("{}.{}", self.stage, self.port) }
    }
}

/// The tables of a manifest, in the order of its graph, and the stages whose tables nobody built yet. An output is that of
/// the manifest as it is, else that of the last build, as `show` has it.
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
            // The query may be about others.
            Err(error @ CommandError::Store(StoreError::Damaged(_))) => {
                say!("warning: {}: {}", planned.name, error.to_string().trim_end());
                None
            }
            shown => shown?,
        };
        let Some(Shown { outputs, stale, .. }) = shown else {
            absent.push(planned.name.to_string());
            continue;
        };
        if stale.is_some() {
            say!("note: {} is that of its last build; it {}", planned.name, planned.state.text());
        }
        for (number, port) in ports {
            let Some(tree) = outputs.get(port.name.as_ref()) else { continue };
            let (stage, port) = (planned.name.to_string(), port.name.clone().into_owned());
            found.push(FoundTable { stage, port, is_first: number == 0, tree: store.tree(*tree)? });
        }
    }
    Ok((found, absent))
}

/// `quality  9,120 rows: id, repo_name, ...`, a line each.
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

/// The table that DataFusion says there is none of.
fn absent_table(message: &str) -> Option<&str> {
    let name = message.split_once("table '")?.1.split_once("' not found")?.0;
    Some(name.trim_start_matches("datafusion.public.").trim_start_matches("datafusion."))
}

/// A message of DataFusion without the names that its source gives things.
fn plain(message: &str) -> &str {
    let text = message.strip_prefix("Error during planning: ").unwrap_or(message);
    let parser = text.strip_prefix("SQL error: ParserError(\"").and_then(|text| text.strip_suffix("\")"));
    let text = parser.or(text.strip_prefix("This feature is not implemented: ")).unwrap_or(text);
    text.strip_prefix("The context currently only supports ").map_or(text, |_| "one query at a time can be asked")
}
