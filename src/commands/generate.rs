//! `pipeline generate`: completes a prompt with a model.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use contract::{Device, Digest, Draw, InputFile, InputTree, PortType, Progress};
use evaluate::completed::CompletionText;
use evaluate::completions::check_vocabulary;
use evaluate::prompts::default_stops;
use model::folder::ModelFolder;
use model::generate::{Generation, Generator, Request, Sampling, Stops};
use serde_json::json;
use tokens::text::{CONFIG_FILE, FILE, TextTokenizer};

use super::CommandError;
use super::arguments::{ManifestOptions, is_manifest};
use super::build_output::StageOutput;
use super::project::Project;
use super::signals::stop_on_signals;
use super::stdout::{print_json, stdout};
use crate::exit::Exit;
use crate::stderr::stderr;

/// The longest prompt that is read from a file.
const MAX_PROMPT: u64 = 16 << 20;

/// Arguments of `generate`.
#[derive(Debug, Args)]
pub struct GenerateArguments {
    /// A directory with a GPT-2 as transformers saves it (config.json, model.safetensors, tokenizer.json), or a manifest.
    pub model: PathBuf,
    /// The text to complete [default: that of --file, else of standard input].
    pub prompt: Option<String>,
    /// The stage of the manifest whose model is used [default: the last one that gives a model].
    #[arg(long, value_name = "STAGE")]
    pub stage: Option<String>,
    /// Complete the text of this file.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub file: Option<PathBuf>,
    /// Completions.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub completions: u16,
    /// Tokens of the longest completion; the model may read fewer.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: u32,
    /// Divides the logits; 0 takes the most probable token every time.
    #[arg(long, value_name = "T", default_value_t = 0.4, value_parser = at_least_zero)]
    pub temperature: f64,
    /// Draws from the fewest tokens that have this probability together; 1 keeps all.
    #[arg(long, value_name = "P", default_value_t = 0.95, value_parser = share)]
    pub top_p: f64,
    /// Draws from this many of the most probable tokens; 0 keeps all.
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub top_k: usize,
    /// End a completion at this text; may be repeated [default: where the next block of Python begins].
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// End a completion at no text.
    #[arg(long, conflicts_with = "stop")]
    pub no_stop: bool,
    /// Seeds the choices.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// The compute device: cpu, cuda:N or auto.
    #[arg(long, default_value = "auto")]
    pub device: Device,
    #[command(flatten)]
    pub options: ManifestOptions,
    /// Print the completions as JSON.
    #[arg(long)]
    pub json: bool,
}

fn at_least_zero(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| (0.0..=1000.0).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 1000".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| *number > 0.0 && *number <= 1.0);
    number.ok_or_else(|| "expected a number above 0, and at most 1".to_owned())
}

pub(super) fn run(arguments: &GenerateArguments) -> Result<Exit, CommandError> {
    let cancel = stop_on_signals()?;
    let model = &arguments.model;
    if model.is_dir() {
        return complete(arguments, &ModelFolder::at(model), &tokenizer_in(model)?, &cancel);
    }
    if !model.to_str().is_some_and(is_manifest) {
        let error = CommandError::usage(format!("'{}' is neither a directory nor a manifest", model.display()));
        return Err(error.hint("name a directory with config.json and model.safetensors, or a file that ends in .toml"));
    }
    let project = Project::load(model, &arguments.options)?;
    let store = project.read_store()?;
    let _guard = store.leases.guard()?;
    let output = StageOutput::find(&project, &store, &model_output(&project, arguments.stage.as_deref())?)?;
    if let Some(stale) = &output.stale {
        stderr!("note: the model is that of the last build of {}, which {stale}", output.stage);
    }
    let port = output.ports.iter().find(|port| port.ty == PortType::Model);
    let tree = &port.ok_or_else(|| CommandError::failed(format!("stage '{}' gave no model", output.stage)))?.tree;
    let tokenizer = TextTokenizer::open(tree).map_err(|error| {
        CommandError::from(error).hint("connect the tokenizer to the train stage, so that the model contains it")
    })?;
    complete(arguments, &ModelFolder::of(tree)?, &tokenizer, &cancel)
}

/// Returns the output that gives the model, as `STAGE.PORT`.
fn model_output(project: &Project, stage: Option<&str>) -> Result<String, CommandError> {
    let named = stage.map(|name| project.stage(name)).transpose()?;
    let order = project.manifest.graph.order();
    let candidates = order.iter().rev().filter(|name| named.as_ref().is_none_or(|named| named == *name));
    let port = |name| {
        let ports = &project.manifest.stages[name].ports.outputs;
        ports.iter().find(|port| port.ty == PortType::Model).map(|port| format!("{name}.{}", port.name))
    };
    candidates.into_iter().find_map(port).ok_or_else(|| match stage {
        Some(name) => CommandError::usage(format!("stage '{name}' gives no model")),
        None => CommandError::usage("no stage of the manifest gives a model"),
    })
}

/// Opens the tokenizer of a directory.
fn tokenizer_in(dir: &Path) -> Result<TextTokenizer, CommandError> {
    let file = |name: &str| {
        let location = dir.join(name);
        let size = fs::metadata(&location).ok()?.len();
        // Nothing compares digests here.
        Some(InputFile { path: name.parse().ok()?, location, digest: Digest::of(b""), size })
    };
    let files: Vec<_> = [FILE, CONFIG_FILE].into_iter().filter_map(file).collect();
    if files.iter().all(|file| file.path.as_str() != FILE) {
        return Err(CommandError::failed(format!("'{}' has no {FILE}", dir.display())));
    }
    Ok(TextTokenizer::open(&InputTree { digest: Digest::of(b""), files })?)
}

/// Returns the prompt of the command line, a file or standard input.
fn prompt(arguments: &GenerateArguments) -> Result<String, CommandError> {
    let read = |name: &str, source: &mut dyn Read| {
        let mut text = String::new();
        let read = source.take(MAX_PROMPT + 1).read_to_string(&mut text);
        read.map_err(CommandError::io(format!("read the prompt from {name}")))?;
        match text.len() as u64 > MAX_PROMPT {
            true => Err(CommandError::usage(format!("the prompt in {name} has more than {MAX_PROMPT} bytes"))),
            false => Ok(text),
        }
    };
    match (&arguments.prompt, &arguments.file) {
        (Some(prompt), _) => Ok(prompt.clone()),
        (None, Some(path)) => {
            let name = format!("'{}'", path.display());
            let mut file = fs::File::open(path).map_err(CommandError::io(format!("open {name}")))?;
            read(&name, &mut file)
        }
        (None, None) => read("standard input", &mut io::stdin().lock()),
    }
}

fn complete(
    arguments: &GenerateArguments,
    folder: &ModelFolder,
    tokenizer: &TextTokenizer,
    cancel: &contract::Cancel,
) -> Result<Exit, CommandError> {
    check_vocabulary(tokenizer, folder.config()?.vocabulary)?;
    let prompt = prompt(arguments)?;
    let ids = tokenizer.encode_prompt(&prompt)?;
    let stops = match (&arguments.stop[..], arguments.no_stop) {
        (_, true) => Vec::new(),
        ([], false) => default_stops(),
        (stops, false) => stops.to_vec(),
    };
    let stops = Stops::new(stops.iter().map(String::as_str));
    let device = model::device::resolve(arguments.device).map_err(|error| CommandError::usage(error.to_string()))?;
    let (config, model) = folder.load(&device)?;
    if ids.len() >= config.positions {
        let message = format!("the prompt has {} tokens, and the model reads {}", ids.len(), config.positions);
        return Err(CommandError::usage(message).hint("shorten the prompt"));
    }
    let generator = Generator::new(config, model)?;
    let request = Request { maximum: ids.len().saturating_add(arguments.max_tokens as usize), prompt: ids };
    let generation = Generation {
        sampling: Sampling { temperature: arguments.temperature, top_p: arguments.top_p, top_k: arguments.top_k },
        completions: arguments.completions.into(),
        batch: 16,
        end_of_text: Some(tokenizer.end_of_text()),
        stops: &stops,
        bytes: &|id| tokenizer.token_bytes(id),
        draw: &Draw::new(arguments.seed, "completions"),
        cancel,
        progress: &Progress::default(),
    };
    let completions = match generator.complete(&[request], &generation) {
        Err(contract::StageError::Interrupted) => return Ok(Exit::Interrupted),
        completions => completions?,
    };
    let texts: Vec<_> =
        completions.iter().flatten().map(|completion| CompletionText::new(completion, &stops, tokenizer)).collect();
    if arguments.json {
        return Ok(print_json(&json!({ "prompt": prompt, "completions": texts }))?);
    }
    let mut out = stdout();
    for (number, completion) in (1..).zip(&texts) {
        if texts.len() > 1 {
            writeln!(out, "{}== {number} of {}", if number > 1 { "\n" } else { "" }, texts.len())?;
        }
        writeln!(out, "{prompt}{}", completion.text)?;
    }
    Ok(Exit::Done)
}
