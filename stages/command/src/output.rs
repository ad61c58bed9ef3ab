//! Checks the files that a program wrote against the declared type of the output, before anything reads them.
//!
//! | type | files that the program writes | content of the output |
//! |---|---|---|
//! | `documents` | Parquet files with a column `content` | a table of documents ([`tables::documents_from`]) |
//! | `rows` | Parquet files of the same columns | a table of rows ([`tables::rows_from`]) |
//! | `tokenizer` | `tokenizer.json`, in the format of the library tokenizers | the files, unchanged |
//! | `tokens` | `tokens.bin`, in the format of the kind `pack` | the files, unchanged |
//! | `model` | `config.json` and `model.safetensors` | the files, unchanged |
//! | `report` | any files; those that end in `.json` must be JSON | the files, unchanged |
//! | `files` | any files | the files, unchanged |

use std::fs::File;
use std::io::{BufReader, Read};

use contract::error::Failure;
use contract::{Context, PortType, Result, StageError};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use tables::PlainFile;

use crate::workspace::{Workspace, Written};

/// The maximum header size of a safetensors file.
const LONGEST_HEADER: u64 = 100_000_000;

/// Adds the files of an output port of this type.
///
/// # Errors
/// Returns an error if the files are not valid for the type; it names the port, the file and what is missing.
pub fn take(context: &Context, workspace: &Workspace, port: &str, ty: PortType) -> Result<()> {
    let written = workspace.written(port)?;
    let tree = context.outputs.tree(port)?;
    let plain = || -> Vec<PlainFile> {
        let file = |file: &Written| PlainFile { name: file.name.clone(), location: file.location.clone() };
        written.iter().map(file).collect()
    };
    let taken = match ty {
        PortType::Documents => tables::documents_from(context, &plain(), tree).map(drop),
        PortType::Rows => tables::rows_from(context, &plain(), tree).map(drop),
        PortType::Tokenizer => tokenizer(&written),
        PortType::Tokens => tokens(&written),
        PortType::Model => model(&written),
        PortType::Problems => problems(&written),
        PortType::Report => report(&written),
        PortType::Files => Ok(()),
    };
    taken.map_err(|error| of_port(error, port, ty))?;
    match ty {
        PortType::Documents | PortType::Rows => Ok(()),
        _ => workspace.take(port, &written, tree),
    }
}

/// Adds the name of the output to a failure.
fn of_port(error: StageError, port: &str, ty: PortType) -> StageError {
    match error {
        StageError::Failed(failure) => {
            let Failure { message, hint, .. } = *failure;
            let error = StageError::new(format!("output '{port}' does not contain {}: {message}", article(ty)));
            match hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
        }
        error => error,
    }
}

fn article(ty: PortType) -> &'static str {
    match ty {
        PortType::Documents => "documents",
        PortType::Rows => "rows",
        PortType::Tokenizer => "a tokenizer",
        PortType::Tokens => "tokens",
        PortType::Model => "a model",
        PortType::Problems => "problems",
        PortType::Report => "a report",
        PortType::Files => "files",
    }
}

/// Returns the file of this name, which is required for the type.
fn required<'w>(written: &'w [Written], name: &str, hint: &str) -> Result<&'w Written> {
    let found = written.iter().find(|file| file.name == name);
    found.ok_or_else(|| StageError::new(format!("it has no file '{name}'")).hint(hint))
}

/// Checks that a file contains one JSON object.
fn object(file: &Written) -> Result<Map<String, Value>> {
    let reader = BufReader::new(File::open(&file.location)?);
    let value: Value = serde_json::from_reader(reader).map_err(|error| not_json(file, &error))?;
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(StageError::new(format!("file '{}' is not a JSON object", file.name))),
    }
}

fn not_json(file: &Written, error: &serde_json::Error) -> StageError {
    StageError::new(format!("file '{}' is not valid JSON: {error}", file.name))
}

fn problems(written: &[Written]) -> Result<()> {
    const HINT: &str = "declare the output with type = \"files\", and connect it to a stage of kind problems, which reads public forms";
    required(written, "problems.jsonl", HINT).map(drop)
}

fn tokenizer(written: &[Written]) -> Result<()> {
    const HINT: &str = "save the tokenizer with `tokenizer.save(\"tokenizer.json\")` of the library tokenizers";
    let file = required(written, "tokenizer.json", HINT)?;
    match object(file)?.get("model") {
        Some(Value::Object(_)) => Ok(()),
        _ => Err(StageError::new(format!("file '{}' has no object 'model'", file.name)).hint(HINT)),
    }
}

fn tokens(written: &[Written]) -> Result<()> {
    let file = required(written, tokens::packed::FILE, "the format is documented in stages/tokens/src/packed.rs")?;
    tokens::packed::check_file(&file.location)
}

/// Checks a configuration, and that the header of the tensors describes exactly the bytes that follow it.
fn model(written: &[Written]) -> Result<()> {
    const HINT: &str = "save the model with `model.save_pretrained(DIR)` of the library transformers";
    object(required(written, "config.json", HINT)?)?;
    let file = required(written, "model.safetensors", HINT)?;
    let wrong = |what: &str| StageError::new(format!("file '{}' is not a valid safetensors file: {what}", file.name));
    let mut reader = BufReader::new(File::open(&file.location)?);
    let size = reader.get_ref().metadata()?.len();
    let mut length = [0; 8];
    reader.read_exact(&mut length).map_err(|_| wrong("it ends inside its header"))?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_HEADER || length > size - 8 {
        return Err(wrong("it ends inside its header"));
    }
    let header: Map<String, Value> = serde_json::from_reader(reader.take(length))
        .map_err(|error| wrong(&format!("its header is invalid: {error}")))?;
    let end = |tensor: &Value| tensor.get("data_offsets")?.get(1)?.as_u64();
    let tensors = header.iter().filter(|(name, _)| *name != "__metadata__");
    let ends = tensors
        .map(|(name, tensor)| end(tensor).ok_or_else(|| wrong(&format!("tensor '{name}' has no valid data_offsets"))));
    let end = ends.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or(0);
    match size - 8 - length {
        bytes if bytes == end => Ok(()),
        bytes => Err(wrong(&format!("it has {bytes} bytes of tensors, but its header says {end}"))),
    }
}

fn report(written: &[Written]) -> Result<()> {
    for file in written.iter().filter(|file| file.name.ends_with(".json")) {
        let reader = BufReader::new(File::open(&file.location)?);
        serde_json::from_reader::<_, IgnoredAny>(reader).map_err(|error| not_json(file, &error))?;
    }
    Ok(())
}
