//! `pipeline sql`: the tables of a manifest, queried by the names of their stages.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use contract::{PortType, Resources};
use tables::{AnswerFormat, Query};

use super::CommandError;
use super::arguments::{Source, is_manifest};
use super::project::Project;
use crate::exit::Exit;
use crate::manifest::did_you_mean;
use crate::plan::{Decider, State};
use crate::run::Budget;
use crate::store::{Lookup, Store};

/// Arguments of `sql`.
#[derive(Debug, Args)]
pub struct SqlArguments {
    /// The manifest [default: pipeline.toml], then the query. `split` is the first output of the stage `split`,
    /// `split.valid` the output `valid`; a name with a hyphen or a capital is put in double quotes.
    #[arg(value_name = "QUERY", num_args = 1..=2, required = true)]
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
    let (manifest, query) = match arguments.query.as_slice() {
        [manifest, query] => (PathBuf::from(manifest), query),
        [query] if !is_manifest(query) => (PathBuf::from("pipeline.toml"), query),
        _ => return Err(CommandError::usage("which query?").hint("pipeline sql MANIFEST 'select count(*) from STAGE'")),
    };
    let project = Project::load(&manifest, &arguments.source)?;
    let store = Store::open_read_only(&project.cache)?;
    let forced = BTreeSet::new();
    let plan = project.plan(&Decider::new(&project.manifest, &store, &forced), &project.wanted(&[])?)?;
    let Budget { threads, memory, .. } = Budget::of(&project.manifest.exec);
    let resources = Resources { threads, memory, device: contract::Device::Cpu };
    let scratch = tempfile::tempdir()?;
    let tables = Query::new(resources, scratch.path())?;
    let (mut absent, mut known) = (Vec::new(), Vec::new());
    for planned in &plan.stages {
        let stage = &project.manifest.stages[&planned.name];
        let is_table = |ty| matches!(ty, PortType::Documents | PortType::Rows);
        if !stage.ports.outputs.iter().any(|port| is_table(port.ty)) {
            continue;
        }
        // The output of the manifest as it is, else that of the last build, as `show` has it.
        let key = match (planned.state, planned.key) {
            (State::Cached, Some(key)) => Some(key.digest()),
            _ => {
                let last = store.last_build(&project.manifest.name, planned.name.as_str())?;
                if last.is_some() {
                    anstream::eprintln!(
                        "note: {} is that of its last build; it {}",
                        planned.name,
                        planned.state.text()
                    );
                }
                last.map(|last| last.key)
            }
        };
        let lookup = key.map(|key| store.lookup(key)).transpose()?;
        let Some(Lookup::Hit(hit)) = lookup else {
            absent.push(planned.name.to_string());
            continue;
        };
        let ports = stage.ports.outputs.iter().enumerate().filter(|(_, port)| is_table(port.ty));
        for (number, port) in ports {
            let Some(tree) = hit.record.outputs.get(port.name.as_ref()) else { continue };
            let tree = store.tree(*tree)?;
            tables.register(planned.name.as_str(), &port.name, number == 0, &tree)?;
            known.push(if number == 0 { planned.name.to_string() } else { format!("{}.{}", planned.name, port.name) });
        }
    }
    let format = match arguments.format {
        SqlFormat::Table => AnswerFormat::Table,
        SqlFormat::Csv => AnswerFormat::Csv,
        SqlFormat::Json => AnswerFormat::Json,
        SqlFormat::Parquet => AnswerFormat::Parquet,
    };
    let mut out = std::io::BufWriter::new(std::io::stdout());
    tables.answer(query, format, &mut out).map_err(|error| {
        let text = error.to_string();
        if text.contains("Broken pipe") {
            return CommandError::Closed;
        }
        let text = text.strip_prefix("Error during planning: ").unwrap_or(&text);
        let mut failed = CommandError::usage(text.replace("datafusion.public.", ""));
        if let Some(near) = absent_table(text).and_then(|table| did_you_mean(table, known.iter().map(String::as_str))) {
            failed = failed.hint(format!("did you mean '{near}'?"));
        }
        if let Some(stage) = absent.iter().find(|stage| query.contains(stage.as_str())) {
            failed = failed.hint(format!("stage '{stage}' has no output yet: pipeline run {}", manifest.display()));
        }
        failed
    })?;
    out.flush()?;
    Ok(Exit::Done)
}

/// The table that DataFusion says there is none of.
fn absent_table(message: &str) -> Option<&str> {
    let name = message.split_once("table '")?.1.split_once("' not found")?.0;
    Some(name.trim_start_matches("datafusion.public.").trim_start_matches("datafusion."))
}
