//! `import`: reads a GitHub query export into a table of documents, in one streaming pass.
//!
//! A shard is one file of the export. Its format is detected by its first bytes, not by its name:
//!
//! | first bytes | format |
//! |---|---|
//! | `1f 8b` | gzip of JSON lines, of one or more members |
//! | `PAR1` | Parquet |
//! | those of another format ([`form`]) | not read |
//! | anything else | JSON lines |
//!
//! Every row needs the columns `repo_name, path, copies, size, content`; `license` may be null or, as in BigQuery's exports, missing.
//! `copies` and `size` are numbers or, as BigQuery exports INT64, strings. Other columns are ignored and counted. So documents that
//! `pipeline export` wrote as JSON lines or Parquet can be imported again: the rows are the same, with equal ids. A byte-order mark at the
//! start of a shard, `\r` at the end of a line, and blank lines (counted) are accepted.
//!
//! # Malformed rows and unreadable shards
//! **A malformed row**: bad JSON, bad UTF-8, half a surrogate pair, a column missing, twice or of the wrong type, `copies` or `size` below
//! 0, content of more than `max_line` bytes. JSON may write a byte as six bytes (`\u0001`), so a line may have 6 × `max_line` bytes and 1
//! MiB for the other columns; a longer line is malformed, and is not kept in memory. Without `max_bad_rows`, the first malformed row fails
//! the stage with file, line and reason; with it, malformed rows go to the output `rejected`: `rows = kept + dropped + rejected`.
//!
//! **An unreadable shard** has a separate limit, `max_bad_shards`:
//!
//! | shard | |
//! |---|---|
//! | other compression (zstd, xz, bzip2, zip, gzip twice and so on), UTF-16, HTML, CSV, a JSON array, ... ([`form`]) | all shards are checked before any is read |
//! | an empty file named `.gz` or `.parquet` (a file of JSON lines may be empty) | likewise |
//! | gzip or Parquet that is truncated or corrupt, or gzip with other bytes after it | the rows before are kept |
//! | Parquet without a column, or with one of another type | |
//! | JSON lines, none of which is a row | its lines are malformed rows as well |
//!
//! Without `max_bad_shards`, the first one fails the stage; with it, the rest of the shard is skipped, with a warning that
//! names the file and the kept part, a line in `rejected`, and a separate count in the report.
//!
//! Both counts are added up in the order of the shards' digests, and the stage fails as soon as one passes its limit: no
//! further shard is read, and the message is the same for any number of threads.
//!
//! The query's `WHERE` follows, in this order: the rules `suffix`, `size` (by the column, as the query does) and
//! `binary` (content with a NUL). Dropped rows are written to the output `dropped`.
//!
//! Shards are identified by content alone: two equal files are one shard, read once and reported. File names and
//! times do not affect outputs, so renaming shards changes nothing. A part is named after its shard's digest, and contains rows in the
//! shard's order, for Parquet files and JSON lines alike. Shards are read in parallel. Each needs memory for one line (at
//! most 6 × `max_line` and 1 MiB) or, for Parquet, 32 MiB of rows, one row group of text, and decoder buffers.

mod column;
mod form;
mod lines;
mod members;
mod report;
mod row;
mod shard;
mod shard_result;

use std::sync::{Mutex, MutexGuard, PoisonError};

use contract::figures::{count, counted};
use contract::{
    Context, Digest, GivenFile, Inferred, InputFacts, Inputs, PortType, Ports, Problem, Result, SourceOrInput,
    SourcePattern, Stage, StageError, Unit,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::form::Form;
use self::report::Report;
use self::shard_result::ShardResult;

/// The domain of the pinned digest: blake3 `derive_key` of the shards' digests, sorted and concatenated.
const SOURCES_DOMAIN: &str = "pipeline 2026 import sources v1";

/// The stage kind `import`.
#[derive(Debug)]
pub struct Import;

/// Reads a GitHub query export (BigQuery's `.json.gz`, JSON lines or Parquet) into a table of documents, and applies the
/// query's WHERE rules. Set either a `source` or an input `export`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Spec {
    /// Keep files whose path ends with this.
    pub suffix: String,
    /// Keep files whose `size` is at least this many bytes.
    #[schemars(range(max = i64::MAX))]
    pub min_size: u64,
    /// Keep files whose `size` is at most this many bytes.
    #[schemars(range(max = i64::MAX))]
    pub max_size: u64,
    /// Keep files with NUL bytes in their content.
    pub allow_binary: bool,
    /// The maximum number of malformed rows, over all shards; they are written to the output `rejected`. With more, the stage fails.
    #[schemars(range(max = 1_000_000_000_000u64))]
    pub max_bad_rows: u64,
    /// The maximum number of shards that cannot be read completely; they are skipped. With more, the stage fails.
    #[schemars(range(max = 1_000_000_000_000u64))]
    pub max_bad_shards: u64,
    /// The maximum size of the content, in bytes; a row with more is malformed. A line of JSON may have six times as many bytes, for
    /// escapes, and 1 MiB for the other columns; a longer line is skipped without being read into memory.
    #[schemars(range(min = 1, max = i32::MAX / 2))]
    pub max_line: u64,
    /// The digest that the sources must have; the report of an earlier import contains it (`sources`).
    pub blake3: Option<String>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            suffix: ".py".to_owned(),
            min_size: 1024,
            max_size: 1_048_575,
            allow_binary: false,
            max_bad_rows: 0,
            max_bad_shards: 0,
            max_line: 64 << 20,
            blake3: None,
        }
    }
}

/// The location of the shards.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Exec {
    /// A glob pattern that matches the export's shards, for example `data/file-*.json.gz`.
    pub source: SourcePattern,
}

impl Exec {
    fn given(&self) -> SourceOrInput<'_> {
        SourceOrInput { source: &self.source, port: "export", example: "data/file-*.json.gz" }
    }
}

impl Stage for Import {
    type Spec = Spec;
    type Exec = Exec;

    const KIND: &'static str = "import";
    const REVISION: u32 = 2;

    fn ports() -> Ports {
        Ports::new()
            .optional_input("export", PortType::Files, "shards that another stage wrote, instead of `source`")
            .output("documents", PortType::Documents, "the documents")
            .output("dropped", PortType::Rows, "the rows that the WHERE rules removed")
            .output(
                "rejected",
                PortType::Rows,
                "malformed rows and unreadable shards, with shard, line, reason and excerpt",
            )
            .output("report", PortType::Report, "counts")
    }

    fn check(spec: &Spec, _: &Exec) -> Vec<Problem> {
        let mut problems = Vec::new();
        if spec.min_size > spec.max_size {
            let message = format!("{} is more than max_size = {}", spec.min_size, spec.max_size);
            problems.push(Problem::new("min_size", message).depends_on("max_size"));
        }
        if let Some(Err(error)) = spec.blake3.as_ref().map(|digest| digest.parse::<Digest>()) {
            problems.push(
                Problem::new("blake3", error.to_string()).hint("copy `sources` from the report of an earlier import"),
            );
        }
        problems
    }

    /// Returns the pattern. An empty one means that the source is not set yet; it is ignored if `export` is connected.
    fn sources(_: &Spec, exec: &Exec) -> Vec<SourcePattern> {
        vec![exec.source.clone()]
    }

    fn infer(_: &Spec, exec: &Exec, inputs: &InputFacts) -> Inferred {
        Inferred { conflicts: exec.given().conflict(inputs).into_iter().collect(), ..Inferred::default() }
    }

    fn compare(before: &Inputs, after: &Inputs) -> Option<String> {
        tables::rows_compared(before, after)
    }

    fn run(spec: &Spec, exec: &Exec, context: &Context) -> Result<()> {
        let mut sources = sources(exec, context)?;
        let digest = sources_digest(&sources);
        if let Some(pinned) = spec.blake3.as_ref().filter(|pinned| **pinned != digest.to_string()) {
            return Err(StageError::new(format!("the digest of the sources is {digest}, expected {pinned}"))
                .hint("if the new sources are intended, set 'blake3' to their digest"));
        }
        let files = sources.len();
        sources.dedup_by_key(|source| source.digest);
        let forms = forms(spec, &sources)?;
        let bytes = sources.iter().map(|source| source.size).sum();
        context.progress.start("", Unit::Bytes, Some(bytes));

        let limits = Limits::new(spec, sources.len());
        let items: Vec<_> = sources.iter().zip(&forms).enumerate().collect();
        let shards = tables::each_part(context, &items, |(index, (source, form))| {
            limits.check(&limits.found().all)?;
            let result = shard::import(spec, source, form, context)?;
            limits.add(*index, &result)?;
            Ok(result)
        })?;
        let unreadable = shards.iter().filter(|shard| shard.unreadable.is_some()).count() as u64;
        shard_result::close(context)?;
        let report = Report::new(digest, files, &sources, &shards);
        if report.rows == 0 {
            context.progress.warn("the export has no rows: the table is empty");
        }
        if report.identical_shards > 0 {
            let equal = report.identical_shards;
            context.progress.warn(format!("{} identical to another, read once", counted(equal as u64, "shard")));
        }
        let (kept, rows, shards) = (report.kept, report.rows, sources.len() as u64);
        let empty = sources.iter().filter(|source| source.size == 0).count();
        if empty > 0 {
            context.progress.warn(format!("{} of {shards} without content", counted(empty as u64, "file")));
        }
        let rejected: u64 = report.rejected.values().sum();
        if rejected > 0 {
            context.progress.warn(format!(
                "{} rejected (output 'rejected' says which and why)",
                counted(rejected, "malformed row")
            ));
        }
        if unreadable > 0 {
            context.progress.warn(format!(
                "{} of {shards} skipped or read in part (output 'rejected' says which and why)",
                counted(unreadable, "unreadable shard")
            ));
        }
        context.progress.info(format!(
            "{} of {} kept, {} rejected, from {}",
            count(kept),
            counted(rows, "row"),
            count(rejected),
            counted(shards, "shard")
        ));
        context.outputs.tree("report")?.write_json("report.json", &report)
    }
}

/// Checks the numbers of malformed rows and unreadable shards against their limits.
struct Limits<'a> {
    spec: &'a Spec,
    found: Mutex<Found>,
}

/// The number of malformed rows and unreadable shards.
#[derive(Clone, Copy, Default)]
struct Faults {
    rows: u64,
    shards: u64,
}

/// The faults of the finished shards.
struct Found {
    of_shards: Vec<Option<Faults>>,
    /// The total over all finished shards.
    all: Faults,
    /// The faults of the first shards, up to one that is not finished, and the number of these shards.
    first: Faults,
    first_shards: usize,
}

impl Faults {
    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.shards += other.shards;
    }
}

impl<'a> Limits<'a> {
    fn new(spec: &'a Spec, shards: usize) -> Self {
        let (all, first) = (Faults::default(), Faults::default());
        Self { spec, found: Mutex::new(Found { of_shards: vec![None; shards], all, first, first_shards: 0 }) }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, faults: &Faults) -> Result<()> {
        let Spec { max_bad_rows, max_bad_shards, .. } = *self.spec;
        if faults.shards > max_bad_shards {
            let shards = counted(faults.shards, "unreadable shard");
            return Err(StageError::new(format!("{shards}, more than max_bad_shards = {max_bad_shards}"))
                .hint("download these files again, or raise max_bad_shards"));
        }
        if faults.rows > max_bad_rows {
            let rows = counted(faults.rows, "malformed row");
            return Err(StageError::new(format!("{rows}, more than max_bad_rows = {max_bad_rows}"))
                .hint("raise max_bad_rows, or look at the export"));
        }
        Ok(())
    }

    /// Adds a finished shard. The shard that exceeds a limit does not depend on threads, because the counts are added up in order. A shard
    /// that is started after a limit was exceeded fails too, but the shard that exceeded it comes first, and its failure is reported.
    fn add(&self, index: usize, result: &ShardResult) -> Result<()> {
        let faults = Faults { rows: result.rejected_rows(), shards: u64::from(result.unreadable.is_some()) };
        let mut found = self.found();
        found.all.add(faults);
        found.of_shards[index] = Some(faults);
        while let Some(Some(faults)) = found.of_shards.get(found.first_shards).copied() {
            found.first_shards += 1;
            found.first.add(faults);
            self.check(&found.first)?;
        }
        Ok(())
    }
}

/// Returns the shards, sorted by digest.
fn sources(exec: &Exec, context: &Context) -> Result<Vec<GivenFile>> {
    let mut sources = exec.given().files(context)?;
    // Of several equal files, the first is read. Of several empty files, that is one whose name says that it must not be empty.
    sources.sort_by_cached_key(|source| (source.digest, shard::is_plain(source), source.name.clone()));
    Ok(sources)
}

/// Detects the formats of all shards.
///
/// # Errors
/// Returns an error if more than `max_bad_shards` have an unsupported format, or a file cannot be read.
fn forms(spec: &Spec, sources: &[GivenFile]) -> Result<Vec<Form>> {
    let form =
        |source: &GivenFile| Form::of(source).map_err(|error| StageError::io("read", &error).in_file(&source.name));
    let forms: Vec<Form> = sources.iter().map(form).collect::<Result<_>>()?;
    let mut others: Vec<_> = sources
        .iter()
        .zip(&forms)
        .filter_map(|(source, form)| match form {
            Form::Other(other) => Some((&source.name, other)),
            _ => None,
        })
        .collect();
    others.sort_by_key(|(name, _)| *name);
    match others.first() {
        Some((name, other)) if others.len() as u64 > spec.max_bad_shards => {
            let all = match others.len() {
                1 => String::new(),
                count => format!("; {count} of {} cannot be read", counted(sources.len() as u64, "shard")),
            };
            Err(StageError::new(format!("{}{all}", other.reason()))
                .in_file(name)
                .hint(format!("{}, or set max_bad_shards to skip such shards", other.hint)))
        }
        _ => Ok(forms),
    }
}

/// Returns the digest that the setting `blake3` pins.
fn sources_digest(sources: &[GivenFile]) -> Digest {
    let digests: Vec<u8> = sources.iter().flat_map(|source| *source.digest.as_bytes()).collect();
    Digest::of_record(SOURCES_DOMAIN, &digests)
}
