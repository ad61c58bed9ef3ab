//! The stage kind `eval-completions`: completes prompts with a model.
//!
//! Each prompt is completed several times by nucleus sampling, as `transformers`' text generation does it, and each
//! completion is truncated at the start of the next block of code. Generation stops at that point, which does not change the result.
//! A completion that contains only white space is marked as blank.
//!
//! Prompts may have tests: then each completion is run in a sandbox, and the report contains the number of each prompt's completions that passed
//! ([`crate::completion_tests`]).
//!
//! The random numbers of a completion depend on the run's seed, the prompt's number and the completion's number, so adding a prompt at the
//! end or requesting more completions does not change the others. `batch` is part of the key, because on a GPU a matrix product of a
//! different size may change the last bits of a logit and, rarely, the choice of a token.

use std::collections::{BTreeMap, BTreeSet};

use contract::figures::{count, counted};
use contract::{
    ConflictText, Context, Draw, Fact, Inferred, InputFacts, InputTree, MachineCheck, Needs, PortType, Ports, Problem,
    Result, Stage, StageError, Unit,
};
use model::folder::ModelFolder;
use model::generate::{Generation, Generator, Request, Sampling, Stops};
use sandbox::{Layer, Settings};
use schemars::JsonSchema;
use score::evaluator::check_machine;
use score::interpreter;
use score::settings::{PYTHON, layers};
use serde::{Deserialize, Serialize};
use tokens::text::TextTokenizer;

use crate::completed::{Completed, CompletionText, Report};
use crate::completion_tests::{CompletionTests, WithoutSandbox};
use crate::cost::Sizes;
use crate::default_prompts::default_prompts;
use crate::prompts::{Prompt, default_stops};
use crate::threads::on_threads;

/// The maximum number of completions: all are kept in memory until they are written.
const MAX_COMPLETIONS: usize = 100_000;

/// The stage kind `eval-completions`.
#[derive(Debug)]
pub struct EvalCompletions;

/// Completes prompts with a model, truncates each completion after the first block, and writes a report for people to read. Completions of
/// prompts with tests are run in a sandbox, which needs Linux and Python.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "EvalCompletionsSpec")]
#[serde(default)]
pub struct Spec {
    /// The prompts to complete.
    #[schemars(length(min = 1, max = 10_000))]
    pub prompts: Vec<Prompt>,
    /// The maximum number of tokens of every prompt and its completion together, instead of each prompt's own `max_length`.
    #[schemars(range(min = 1, max = 1 << 20))]
    pub max_length: Option<usize>,
    /// The number of completions of each prompt.
    #[schemars(range(min = 1, max = 10_000))]
    pub completions: usize,
    /// Sampling temperature; 0 always picks the most probable token.
    #[schemars(range(min = 0, max = 1000))]
    pub temperature: f64,
    /// Sample only from the smallest set of tokens whose total probability is at least this value; 1 keeps all tokens.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub top_p: f64,
    /// Sample only from this many of the most probable tokens; 0 keeps all tokens.
    #[schemars(range(max = 1 << 20))]
    pub top_k: usize,
    /// Texts at which completions are truncated: each completion ends before the first occurrence of any of them.
    #[schemars(inner(length(min = 1)))]
    pub stops: Vec<String>,
    /// The number of completions that are generated in one batch. A larger batch is faster and needs more memory.
    #[schemars(range(min = 1, max = 1 << 20))]
    pub batch: usize,
    /// What to do if prompts have tests but the sandbox is not available on this machine: `skip` writes the completions without testing them, `fail` fails.
    pub without_sandbox: WithoutSandbox,
    /// Layers of the sandbox to switch off if the kernel refuses them. docs/sandbox.md lists the attacks that each layer stops; without it, every
    /// tested completion can use them.
    #[schemars(schema_with = "layers")]
    pub dangerously_run_without: BTreeSet<Layer>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            prompts: default_prompts(),
            max_length: None,
            completions: 4,
            temperature: 0.4,
            top_p: 0.95,
            top_k: 0,
            stops: default_stops(),
            batch: 16,
            without_sandbox: WithoutSandbox::default(),
            dangerously_run_without: BTreeSet::new(),
        }
    }
}

/// Settings for testing completions, which are not in the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "EvalCompletionsExec")]
pub struct Exec {
    /// The Python interpreter for prompts with tests, 3.9 or later: a path, or a name that is looked up in `PATH`. Its version is part of the
    /// key if a prompt has tests.
    #[schemars(length(min = 1))]
    pub python: String,
}

impl Default for Exec {
    fn default() -> Self {
        Self { python: PYTHON.to_owned() }
    }
}

impl Spec {
    fn sampling(&self) -> Sampling {
        Sampling { temperature: self.temperature, top_p: self.top_p, top_k: self.top_k }
    }

    /// Returns the prompts with the lengths that apply.
    fn prompts(&self) -> Vec<Prompt> {
        let of =
            |prompt: &Prompt| Prompt { max_length: self.max_length.unwrap_or(prompt.max_length), ..prompt.clone() };
        self.prompts.iter().map(of).collect()
    }
}

impl Stage for EvalCompletions {
    type Spec = Spec;
    type Exec = Exec;
    const KIND: &'static str = "eval-completions";
    // The sandbox's verdicts are in the output. Both numbers only increase, and so does their sum.
    const REVISION: u32 = 4 + sandbox::REVISION;
    const SEEDED: bool = true;

    fn ports() -> Ports {
        Ports::new()
            .input("model", PortType::Model, "the model")
            .input("tokenizer", PortType::Tokenizer, "the tokenizer that it was trained with")
            .output("report", PortType::Report, "completions.json and completions.md")
    }

    fn infer(spec: &Spec, _: &Exec, inputs: &InputFacts) -> Inferred {
        let mut inferred = Inferred::default();
        let (model, tokenizer) = (inputs.port("model"), inputs.port("tokenizer"));
        inferred.same_tokenizer("tokenizer", &model, &tokenizer, "the model and this evaluation have");
        let each = spec.prompts.iter().enumerate();
        let each = each
            .map(|(at, prompt)| (format!("prompts[{at}].max_length"), format!("prompt {}", at + 1), prompt.max_length));
        let lengths = match spec.max_length {
            Some(length) => vec![("max_length".to_owned(), "a prompt".to_owned(), length)],
            None => each.collect(),
        };
        for (setting, prompt, length) in lengths {
            let length = Fact::own(length as u64, setting.as_str());
            inferred.compare(
                &setting,
                Some(&length),
                model.positions.as_ref(),
                |length, positions| length.value <= positions.value,
                |length, positions| ConflictText {
                    message: format!("{prompt} may grow to {length} tokens, but the model reads at most {positions}"),
                    label: format!("{positions} tokens"),
                    hint: format!("lower max_length to at most {positions}"),
                },
            );
        }
        if let (Some(sizes), Some(positions)) = (Sizes::of(&model), &model.positions) {
            let prompts = spec.prompts();
            let lengths: Vec<_> = prompts.iter().map(|prompt| positions.value.min(prompt.max_length as u64)).collect();
            inferred.cost = sizes.complete(spec.batch as u64, spec.completions as u64, &lengths);
        }
        inferred
    }

    fn observe(facts: &mut InputFacts, input: &dyn Fn(&str) -> Option<InputTree>) {
        ModelFolder::observe(facts, "model", input);
    }

    fn check(spec: &Spec, _: &Exec) -> Vec<Problem> {
        let tests = spec.prompts.iter().enumerate();
        let mut problems: Vec<_> =
            tests.flat_map(|(number, prompt)| prompt.check(&format!("prompts[{number}]"))).collect();
        let (prompts, completions) = (spec.prompts.len(), spec.completions);
        if prompts.saturating_mul(completions) > MAX_COMPLETIONS {
            let most = MAX_COMPLETIONS / prompts.max(1);
            let message = format!(
                "must be at most {most} for {prompts} prompts, not {completions}: the maximum is {MAX_COMPLETIONS} \
                 completions in total"
            );
            problems.push(Problem::new("completions", message).depends_on("prompts"));
        }
        problems
    }

    fn check_machine(spec: &Spec, exec: &Exec) -> Vec<MachineCheck> {
        if !spec.prompts.iter().any(Prompt::is_tested) {
            return Vec::new();
        }
        let (python, dangerously_run_without) = (exec.python.clone().into(), spec.dangerously_run_without.clone());
        let otherwise = (spec.without_sandbox == WithoutSandbox::Skip).then_some("completions will not be tested");
        vec![check_machine(Settings { python, dangerously_run_without }, otherwise)]
    }

    fn machine_facts(spec: &Spec, exec: &Exec) -> BTreeMap<String, String> {
        match spec.prompts.iter().any(Prompt::is_tested) {
            true => interpreter::facts(&exec.python),
            false => BTreeMap::new(),
        }
    }

    fn needs(_: &Spec, _: &Exec) -> Needs {
        Needs { gpu: true, memory: 1 << 30, ..Needs::default() }
    }

    fn run(spec: &Spec, exec: &Exec, context: &Context) -> Result<()> {
        let folder = ModelFolder::of(context.inputs.tree("model")?)?;
        let tokenizer = TextTokenizer::open(context.inputs.tree("tokenizer")?)?;
        let config = folder.config()?;
        check_vocabulary(&tokenizer, config.vocabulary)?;
        let Spec { dangerously_run_without: without, without_sandbox, .. } = spec;
        let prompts = spec.prompts();
        let threads = context.resources.threads;
        let tests = CompletionTests::prepare(&prompts, &exec.python, without, *without_sandbox, threads)?;
        tests.as_ref().map_or(Ok(()), |tests| tests.check_python(&context.machine_facts))?;
        let requests = requests(&prompts, &tokenizer, context, config.positions)?;
        context.progress.start("", Unit::Completions, Some((requests.len() * spec.completions) as u64));
        let stops = Stops::new(spec.stops.iter().map(String::as_str));
        let completions = on_threads(context, || {
            let (config, model) = folder.load(&model::device::resolve(context.resources.device)?)?;
            let generation = Generation {
                sampling: spec.sampling(),
                completions: spec.completions,
                batch: spec.batch,
                end_of_text: Some(tokenizer.end_of_text()),
                stops: &stops,
                bytes: &|id| tokenizer.token_bytes(id),
                draw: &Draw::new(context.seed, "completions"),
                cancel: &context.cancel,
                progress: &context.progress,
            };
            Generator::new(config, model)?.complete(&requests, &generation)
        })?;
        let text = |completion| CompletionText::new(completion, &stops, &tokenizer);
        let prompts = prompts.iter().zip(&requests).zip(&completions).map(|((prompt, request), completions)| {
            Completed::new(prompt, request.prompt.len(), completions.iter().map(text).collect())
        });
        let mut report = Report::new(spec.sampling(), context.seed, prompts.collect());
        if let Some(tests) = tests {
            let (facts, results) = tests.run(&report.sources(), &context.cancel, &context.progress)?;
            report.set_tests(facts, results);
        }
        write(&report, context)
    }
}

/// Checks that the model supports all ids of the tokenizer.
///
/// # Errors
/// Returns an error if the tokenizer has an id that the model does not support.
pub fn check_vocabulary(tokenizer: &TextTokenizer, vocabulary: usize) -> Result<()> {
    if tokenizer.vocabulary() as usize <= vocabulary {
        return Ok(());
    }
    Err(StageError::new(format!(
        "the tokenizer has {} ids, but the model's vocabulary has {vocabulary}",
        tokenizer.vocabulary()
    ))
    .hint("connect the tokenizer that the model was trained with"))
}

/// Encodes the prompts; warns about a prompt that leaves no room for a completion.
fn requests(
    prompts: &[Prompt],
    tokenizer: &TextTokenizer,
    context: &Context,
    positions: usize,
) -> Result<Vec<Request>> {
    let request = |(number, prompt): (usize, &Prompt)| {
        let ids = tokenizer.encode_prompt(&prompt.text)?;
        let limit = prompt.max_length.min(positions);
        if ids.len() >= limit {
            let tokens = counted(ids.len() as u64, "token");
            context.progress.warn(if prompt.max_length <= positions {
                format!("prompt {number} has {tokens}: its max_length of {limit} leaves no room to complete it")
            } else {
                format!(
                    "prompt {number} has {tokens}: the model reads at most {limit}, which leaves no room to complete it"
                )
            });
        }
        Ok(Request { prompt: ids, maximum: prompt.max_length })
    };
    (1..).zip(prompts).map(request).collect()
}

fn write(report: &Report, context: &Context) -> Result<()> {
    let mut line =
        format!("{}, {} of them blank", counted(report.completions as u64, "completion"), count(report.blank as u64));
    if let Some((passed, tested)) = report.passed() {
        line += &format!("; {} of {} passed their tests", count(passed as u64), count(tested as u64));
        context.progress.metric(tested as u64, "passed", passed as f64);
    }
    context.progress.info(line);
    let output = context.outputs.tree("report")?;
    output.write_json("completions.json", report)?;
    output.write("completions.md", report.markdown().as_bytes())
}
