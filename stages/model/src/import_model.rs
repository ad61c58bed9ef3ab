//! The stage kind `import-model`: a GPT-2 in Hugging Face's form, checked and written in this program's form, with its tokenizer.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use contract::{
    Context, Digest, Fact, Facts, Inferred, InputFacts, InputFile, InputTree, Needs, PortType, Ports, Result,
    SourceOrInput, SourcePattern, Stage, StageError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokens::text::{FILE, TextTokenizer};

use crate::folder::{self, CONFIG, ModelFolder, WEIGHTS};

/// The stage kind `import-model`.
#[derive(Debug)]
pub struct ImportModel;

/// Imports a GPT-2 that transformers saved: `config.json`, `model.safetensors` and `tokenizer.json` of one directory. The outputs are the input
/// `init` of a training that continues it, and the tokenizer with which its text is packed. Set either a `source` or an input `files`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "ImportModelSpec")]
pub struct Spec {}

/// The location of the files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "ImportModelExec")]
pub struct Exec {
    /// The files of the model's directory, for example `models/gpt2/*`. Files of other formats beside them are ignored.
    pub source: SourcePattern,
}

impl Exec {
    fn given(&self) -> SourceOrInput<'_> {
        SourceOrInput { source: &self.source, port: "files", example: "models/gpt2/*" }
    }
}

impl Stage for ImportModel {
    type Spec = Spec;
    type Exec = Exec;
    const KIND: &'static str = "import-model";
    const REVISION: u32 = 1;
    const NAMED_SOURCES: bool = true;

    fn ports() -> Ports {
        Ports::new()
            .optional_input("files", PortType::Files, "a directory that another stage wrote, instead of `source`")
            .output("model", PortType::Model, "config.json, model.safetensors and the tokenizer's files")
            .output("tokenizer", PortType::Tokenizer, "the tokenizer's files")
    }

    fn sources(_: &Spec, exec: &Exec) -> Vec<SourcePattern> {
        vec![exec.source.clone()]
    }

    fn infer(_: &Spec, exec: &Exec, inputs: &InputFacts) -> Inferred {
        let facts = || Facts { tokenizer: Some(Fact::own((), "")), ..Facts::default() };
        Inferred {
            outputs: [("model", facts()), ("tokenizer", facts())].into(),
            conflicts: exec.given().conflict(inputs).into_iter().collect(),
            ..Inferred::default()
        }
    }

    fn needs(_: &Spec, _: &Exec) -> Needs {
        Needs { threads: 1, ..Needs::default() }
    }

    fn run(_: &Spec, exec: &Exec, context: &Context) -> Result<()> {
        let files = tree(exec, context)?;
        let model = ModelFolder::of(&files)?;
        let config = model.config()?;
        let tokenizer = TextTokenizer::open(&files)?;
        if tokenizer.vocabulary() as usize > config.vocabulary {
            let (ids, vocabulary) = (tokenizer.vocabulary(), config.vocabulary);
            return Err(StageError::new(format!(
                "the tokenizer has {ids} ids, the model a vocabulary of {vocabulary}"
            ))
            .hint("the files must be of one model"));
        }
        context.progress.info(format!("{:.1}M parameters", config.parameters() as f64 / 1e6));
        let output = context.outputs.tree("model")?;
        folder::copy(&model, output, &context.cancel)?;
        folder::copy_tokenizer(Some(&config), &files, output)?;
        folder::copy_tokenizer(None, &files, context.outputs.tree("tokenizer")?)
    }
}

/// Returns the given files as a tree by their names: those that are a model's or a tokenizer's.
fn tree(exec: &Exec, context: &Context) -> Result<InputTree> {
    let mut files = Vec::new();
    for file in exec.given().files(context)? {
        let Some(name) = file.name.file_name().and_then(OsStr::to_str).filter(|name| is_read(name)) else { continue };
        let path = name.parse().map_err(|error| StageError::new(format!("{error}")))?;
        files.push(InputFile { path, location: file.location, digest: file.digest, size: file.size });
    }
    let names: BTreeSet<_> = files.iter().map(|file| file.path.as_str()).collect();
    if let Some(file) = files.iter().enumerate().find(|(at, file)| files[..*at].iter().any(|one| one.path == file.path))
    {
        return Err(StageError::new(format!("there are two files '{}'", file.1.path)).hint("give one directory"));
    }
    for (required, hint) in [
        (CONFIG, "save the model with save_pretrained of transformers"),
        (WEIGHTS, "save the model with save_pretrained of transformers, in one file"),
        (FILE, "save the tokenizer beside the model: AutoTokenizer.from_pretrained(NAME).save_pretrained(DIRECTORY)"),
    ] {
        if !names.contains(required) {
            return Err(StageError::new(format!("there is no file '{required}'")).hint(hint));
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(InputTree { digest: Digest::of(&[]), files })
}

fn is_read(name: &str) -> bool {
    name == CONFIG || name == WEIGHTS || folder::is_of_a_tokenizer(name)
}
