//! A loaded model with the settings of the command line.

use std::io::{self, Write};

use contract::{Cancel, Draw, Progress, StageError};
use evaluate::completed::CompletionText;
use evaluate::completions::check_vocabulary;
use evaluate::prompts::default_stops;
use model::generate::{Completion, Generation, Generator, NewToken, Request, Sampling, Stops, TextStream};
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokens::text::TextTokenizer;

use super::arguments::GenerateArguments;
use super::source::ModelSource;
use crate::commands::CommandError;

/// The number of completions that are generated in one batch.
const BATCH: usize = 16;

/// A loaded model with the settings of the command line.
pub(super) struct Session<'a> {
    arguments: &'a GenerateArguments,
    /// The number of completions of a prompt.
    pub(super) completions: u16,
    tokenizer: TextTokenizer,
    generator: Generator,
    stops: Stops,
    /// The device on which the model computes.
    threads: ThreadPool,
}

impl<'a> Session<'a> {
    /// Finds and loads the model, to make this number of completions of a prompt.
    pub(super) fn open(arguments: &'a GenerateArguments, completions: u16) -> Result<Self, CommandError> {
        let device =
            model::device::resolve(arguments.device).map_err(|error| CommandError::usage(error.to_string()))?;
        let source = ModelSource::find(arguments)?;
        check_vocabulary(&source.tokenizer, source.folder.config()?.vocabulary)?;
        let threads = ThreadPoolBuilder::new().build();
        let threads = threads.map_err(|error| CommandError::failed(format!("cannot start threads: {error}")))?;
        let generator = threads.install(|| {
            let (config, model) = source.folder.load(&device)?;
            Generator::new(config, model)
        })?;
        let stops = match (&arguments.stop[..], arguments.no_stop) {
            (_, true) => Vec::new(),
            ([], false) => default_stops(),
            (stops, false) => stops.to_vec(),
        };
        let stops = Stops::new(stops.iter().map(String::as_str));
        Ok(Self { arguments, completions, tokenizer: source.tokenizer, generator, stops, threads })
    }

    /// Completes a prompt; returns `None` if `cancel` was set meanwhile.
    pub(super) fn complete(&self, prompt: &str, cancel: &Cancel) -> Result<Option<Vec<CompletionText>>, CommandError> {
        match self.generate(prompt, cancel, &mut |_| Ok(())) {
            Ok(completions) => Ok(Some(completions.iter().map(|completion| self.text(completion)).collect())),
            Err(Failure::Generation(StageError::Interrupted)) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Writes `before`, the completion of a prompt as it is generated, and a newline. Returns the completion;
    /// `None` if `cancel` was set meanwhile.
    pub(super) fn print(
        &self,
        prompt: &str,
        before: &str,
        out: &mut (impl Write + Send),
        cancel: &Cancel,
    ) -> Result<Option<CompletionText>, CommandError> {
        let mut stream = TextStream::new(&self.stops);
        let mut pending = before.to_owned();
        let mut write = |piece: &str| {
            pending.push_str(piece);
            if pending.is_empty() {
                return Ok(());
            }
            out.write_all(std::mem::take(&mut pending).as_bytes())?;
            out.flush()
        };
        let generated =
            self.generate(prompt, cancel, &mut |token| write(&stream.push(self.tokenizer.token_bytes(token.id))));
        match generated {
            Ok(completions) => {
                write(&(stream.finish() + "\n"))?;
                Ok(completions.first().map(|completion| self.text(completion)))
            }
            Err(Failure::Generation(StageError::Interrupted)) => {
                write("\n")?;
                Ok(None)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    fn text(&self, completion: &Completion) -> CompletionText {
        CompletionText::new(completion, &self.stops, &self.tokenizer)
    }

    /// Generates the completions of a prompt, and calls `each` with each new token.
    fn generate(
        &self,
        prompt: &str,
        cancel: &Cancel,
        each: &mut (dyn FnMut(NewToken) -> io::Result<()> + Send),
    ) -> Result<Vec<Completion>, Failure> {
        let request = self.request(prompt)?;
        let mut not_written = None;
        let mut each = |token| {
            each(token).map_err(|error| {
                not_written = Some(error);
                StageError::Interrupted
            })
        };
        let arguments = self.arguments;
        let completions = self.threads.install(|| {
            let generation = Generation {
                sampling: Sampling {
                    temperature: arguments.temperature,
                    top_p: arguments.top_p,
                    top_k: arguments.top_k,
                },
                completions: self.completions.into(),
                batch: BATCH,
                end_of_text: Some(self.tokenizer.end_of_text()),
                stops: &self.stops,
                bytes: &|id| self.tokenizer.token_bytes(id),
                draw: &Draw::new(arguments.seed, "completions"),
                cancel,
                progress: &Progress::default(),
            };
            self.generator.stream(&[request], &generation, &mut each)
        });
        match (not_written, completions) {
            (Some(error), _) => Err(Failure::Command(error.into())),
            (None, completions) => Ok(completions.map_err(Failure::Generation)?.into_iter().flatten().collect()),
        }
    }

    /// Encodes a prompt, and checks that the model has room to complete it.
    fn request(&self, prompt: &str) -> Result<Request, CommandError> {
        let ids = self.tokenizer.encode_prompt(prompt)?;
        let (tokens, positions) = (ids.len(), self.generator.config().positions);
        if tokens >= positions {
            let message = format!("the prompt has {tokens} tokens, but the model reads at most {positions}");
            return Err(CommandError::usage(message).hint("shorten the prompt"));
        }
        let maximum = match self.arguments.max_length {
            Some(length) => length as usize,
            None => tokens.saturating_add(self.arguments.max_tokens as usize),
        };
        if tokens >= maximum {
            let message = format!(
                "the prompt has {tokens} tokens, which leaves no room for a completion within --max-length {maximum}"
            );
            return Err(
                CommandError::usage(message).hint("raise it, or use --max-tokens, which does not count the prompt")
            );
        }
        Ok(Request { prompt: ids, maximum })
    }
}

/// The reason that there are no completions.
enum Failure {
    Generation(StageError),
    Command(CommandError),
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

impl From<Failure> for CommandError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Generation(error) => error.into(),
            Failure::Command(error) => error,
        }
    }
}

/// Writes completions, each after `before`; several completions are numbered.
pub(super) fn print_all(before: &str, texts: &[CompletionText], out: &mut impl Write) -> io::Result<()> {
    for (number, completion) in (1..).zip(texts) {
        if texts.len() > 1 {
            writeln!(out, "{}== {number} of {}", if number > 1 { "\n" } else { "" }, texts.len())?;
        }
        writeln!(out, "{before}{}", completion.text)?;
    }
    Ok(())
}
