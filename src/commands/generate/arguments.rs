//! The arguments of `generate`.

use std::path::PathBuf;

use clap::Args;
use contract::Device;

use crate::commands::arguments::ManifestOptions;

/// The default number of completions of a prompt that is given.
const COMPLETIONS: u16 = 4;

/// Arguments of `generate`.
#[derive(Debug, Args)]
pub struct GenerateArguments {
    /// The model: a directory with a GPT-2 model as transformers saves it (config.json, model.safetensors, tokenizer.json), a
    /// manifest, or a run: `quickstart.3`.
    pub model: String,
    /// The text to complete [default: the content of --file, else standard input; on a terminal, prompts are read interactively].
    pub prompt: Option<String>,
    /// The stage of the manifest or the run whose model is used [default: the last one that produces a model].
    #[arg(long, value_name = "STAGE")]
    pub stage: Option<String>,
    /// Read the prompt from this file.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub file: Option<PathBuf>,
    /// Number of completions [default: 4; 1 for prompts that are read interactively, and with --temperature 0, where all are the same]. One
    /// completion is printed while it is generated, several when all are complete.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub completions: Option<u16>,
    /// Maximum number of tokens in a completion, not counting the prompt, so that a long prompt leaves as much room as a short one; the context
    /// of the model may allow fewer.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_tokens: u32,
    /// Maximum number of tokens in prompt and completion together; replaces --max-tokens.
    #[arg(long, value_name = "N", conflicts_with = "max_tokens", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_length: Option<u32>,
    /// Sampling temperature; 0 always picks the most probable token.
    #[arg(long, value_name = "T", default_value_t = 0.4, allow_negative_numbers = true, value_parser = at_least_zero)]
    pub temperature: f64,
    /// Sample only from the smallest set of tokens whose total probability is at least this value; 1 keeps all tokens.
    #[arg(long, value_name = "P", default_value_t = 0.95, allow_negative_numbers = true, value_parser = share)]
    pub top_p: f64,
    /// Sample only from this many of the most probable tokens; 0 keeps all tokens.
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub top_k: usize,
    /// Stop at this text (repeatable) [default: the start of the next block of Python code].
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Do not stop at any text.
    #[arg(long, conflicts_with = "stop")]
    pub no_stop: bool,
    /// Random seed for sampling.
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

impl GenerateArguments {
    /// Returns the number of completions of a prompt.
    pub(super) fn completions(&self, is_interactive: bool) -> u16 {
        let default = if is_interactive || self.temperature == 0.0 { 1 } else { COMPLETIONS };
        self.completions.unwrap_or(default)
    }
}

fn at_least_zero(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| (0.0..=1000.0).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 1000".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| *number > 0.0 && *number <= 1.0);
    number.ok_or_else(|| "expected a number above 0, and at most 1".to_owned())
}
