//! `pipeline show STAGE`: the files, rows, columns and reports of a stage's output.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

use contract::{InputFile, InputTree, PortType};
use serde_json::{Value, json};

use super::CommandError;
use super::arguments::StageArguments;
use super::build_output::{PortOutput, StageOutput};
use super::project::Project;
use super::stdout::{print_json, stdout};
use crate::events::figures;
use crate::exit::Exit;

/// The maximum number of bytes shown of a text file.
const TEXT: usize = 8 << 10;
/// The maximum number of characters shown of a value in a sample row.
const CELL: usize = 60;

pub(super) fn run(arguments: &StageArguments) -> Result<Exit, CommandError> {
    let (path, place) = arguments.split("show")?;
    let project = Project::load(&path, &arguments.options)?;
    let store = project.read_store()?;
    let _guard = store.leases.guard()?;
    let output = StageOutput::find(&project, &store, place)?;
    if arguments.json {
        let ports = output.ports.iter().map(|port| Ok((port.name.clone(), as_json(port)?)));
        let ports = ports.collect::<Result<BTreeMap<_, _>, CommandError>>()?;
        let StageOutput { stage, kind, key, stale, .. } = &output;
        let value = json!({ "stage": stage, "kind": kind, "key": key, "current": stale.is_none(), "stale": stale, "outputs": ports });
        return Ok(print_json(&value)?);
    }
    let mut out = stdout();
    writeln!(out, "{} ({}), key {}", output.stage, output.kind, output.key.short())?;
    if let Some(stale) = &output.stale {
        writeln!(out, "this is its last build; it {stale}")?;
    }
    for port in &output.ports {
        let bytes = port.tree.files.iter().map(|file| file.size).sum();
        let files = figures::counted(port.tree.files.len() as u64, "file");
        writeln!(out, "\n{} ({}): {files}, {}", port.name, port.ty, figures::size(bytes))?;
        describe(&mut out, port)?;
    }
    Ok(Exit::Done)
}

fn describe(out: &mut impl Write, port: &PortOutput) -> Result<(), CommandError> {
    match port.ty {
        PortType::Documents | PortType::Rows => table(out, &port.tree),
        PortType::Tokens => {
            let tokens = tokens::packed::PackedTokens::open(&port.tree)?;
            let (sequences, length) = (tokens.sequences() as u64, tokens.sequence_length() as u64);
            let tokens_in_all = figures::count(sequences * length);
            let sequences = figures::counted(sequences, "sequence");
            let length = figures::counted(length, "token");
            writeln!(out, "  {sequences} of {length} ({tokens_in_all}), vocabulary {}", tokens.vocabulary())?;
            Ok(())
        }
        PortType::Report => reports(out, &port.tree),
        PortType::Tokenizer | PortType::Model | PortType::Problems | PortType::Files => list(out, &port.tree),
    }
}

fn table(out: &mut impl Write, tree: &InputTree) -> Result<(), CommandError> {
    let table = tables::describe(tree)?;
    let columns: Vec<_> = table.columns.iter().map(|column| format!("{} {}", column.name, column.ty)).collect();
    writeln!(out, "  {}; columns: {}", figures::counted(table.rows, "row"), columns.join(", "))?;
    for (number, row) in table.sample.iter().enumerate() {
        writeln!(out, "  row {}", number + 1)?;
        for column in table.columns.iter().map(|column| &column.name) {
            let Some(value) = row.get(column) else { continue };
            let text = value.as_str().map_or_else(|| value.to_string(), |text| text.escape_debug().to_string());
            let cut: String = text.chars().take(CELL).collect();
            let dots = if cut.len() < text.len() { "…" } else { "" };
            writeln!(out, "    {column:<12} {cut}{dots}")?;
        }
    }
    Ok(())
}

/// Prints the Markdown of a report, else its JSON; other files by name.
fn reports(out: &mut impl Write, tree: &InputTree) -> Result<(), CommandError> {
    let markdown: Vec<_> = tree.files.iter().filter(|file| file.path.as_str().ends_with(".md")).collect();
    let shown = if markdown.is_empty() {
        tree.files.iter().filter(|file| file.path.as_str().ends_with(".json")).collect()
    } else {
        markdown
    };
    list(out, tree)?;
    for file in shown {
        let text = read(file)?;
        let cut = &text[..text.len().min(TEXT)];
        writeln!(out, "\n{}", String::from_utf8_lossy(cut).trim_end())?;
        if cut.len() < text.len() {
            writeln!(out, "… {} more", figures::size((text.len() - cut.len()) as u64))?;
        }
    }
    Ok(())
}

fn read(file: &InputFile) -> Result<Vec<u8>, CommandError> {
    fs::read(&file.location).map_err(CommandError::io(format!("read {}", file.location.display())))
}

fn list(out: &mut impl Write, tree: &InputTree) -> Result<(), CommandError> {
    tree.files.iter().try_for_each(|file| writeln!(out, "  {:>10}  {}", figures::size(file.size), file.path))?;
    Ok(())
}

fn as_json(port: &PortOutput) -> Result<Value, CommandError> {
    let file = |file: &InputFile| json!({ "path": file.path, "digest": file.digest, "size": file.size });
    let mut value = json!({
        "type": port.ty,
        "digest": port.tree.digest,
        "files": port.tree.files.iter().map(file).collect::<Vec<_>>(),
    });
    match port.ty {
        PortType::Documents | PortType::Rows => value["table"] = json!(tables::describe(&port.tree)?),
        PortType::Tokens => {
            let tokens = tokens::packed::PackedTokens::open(&port.tree)?;
            value["sequences"] = tokens.sequences().into();
            value["sequence_length"] = tokens.sequence_length().into();
            value["vocabulary"] = tokens.vocabulary().into();
        }
        PortType::Report => {
            for file in port.tree.files.iter().filter(|file| file.path.as_str().ends_with(".json")) {
                let report = serde_json::from_slice(&read(file)?)
                    .map_err(|error| CommandError::failed(format!("{} is not valid JSON: {error}", file.path)))?;
                value["reports"][file.path.as_str()] = report;
            }
        }
        PortType::Tokenizer | PortType::Model | PortType::Problems | PortType::Files => {}
    }
    Ok(value)
}
