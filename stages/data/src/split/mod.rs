//! `split`: training and validation documents.
//!
//! **By repository** (the default). A group is the documents that are connected by repository and, if the table has a column `cluster`
//! (which `dedup` writes), by near-duplicate cluster: no repository and no cluster is on both sides. A group's identity is the smallest id
//! of its documents, and it goes to validation if the number in `[0, 1)` drawn from hash(seed, identity) is below `fraction`: so adding or
//! removing a group moves no other group. If no number is below `fraction`, the group with the smallest number goes to validation; if all
//! are, the group with the largest number stays in training. A single group is used for training, with a warning: training is empty only if
//! the input is empty.
//!
//! So `fraction` applies to the groups, and the share of documents and bytes in validation depends on their
//! sizes. The report contains both shares, the largest repository and the largest group. If a share is more than twice
//! `fraction`, or less than half of it, the stage warns.
//!
//! **By shard.** The shard whose digest sorts last, or whose digest begins with `valid_shard`, is the validation set; file names have no
//! effect. A single shard is used for training, with a warning.

mod groups;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use contract::figures::{count, counted};
use contract::{Context, Inputs, PortType, Ports, Problem, Result, Stage, StageError, Unit};
use datafusion::arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::{filter_record_batch, not};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tables::{CLUSTER, Part, REPO_NAME, RowsPart, SIZE, Table, each_part};

use self::groups::{Amount, Groups, largest_repository};

/// The stage kind `split`.
#[derive(Debug)]
pub struct Split;

/// Divides documents into training and validation, so that no repository and no near-duplicate cluster is on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Spec {
    /// How documents are assigned to validation: `repository`, random whole repositories and clusters; `shard`, one shard of the export.
    pub by: By,
    /// With `repository`: the share of groups that are assigned to validation, above 0 and below 1.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub fraction: f64,
    /// With `shard`: the first digits of the digest of the validation shard; by default, the shard whose digest sorts last.
    pub valid_shard: Option<String>,
}

/// The unit of the split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Whole repositories, and near-duplicate clusters if they are known.
    Repository,
    /// Shards of the export.
    Shard,
}

impl Default for Spec {
    fn default() -> Self {
        Self { by: By::Repository, fraction: 0.05, valid_shard: None }
    }
}

/// There are no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Exec {}

/// The counts of each side.
#[derive(Debug, Default, Serialize)]
struct Report {
    rows: u64,
    train: Side,
    valid: Side,
    /// With `repository`: the groups of repositories and clusters.
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<u64>,
    /// With `repository`: the requested fraction, the actual shares, and the largest pieces.
    #[serde(skip_serializing_if = "Option::is_none")]
    shares: Option<Shares>,
    /// With `shard`: the first digits of the validation shard's digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_shard: Option<String>,
}

/// Shares of the whole input, from 0 to 1; bytes by `size`.
#[derive(Debug, Serialize)]
struct Shares {
    /// The value of the setting.
    fraction: f64,
    valid: Share,
    largest_repository: Option<Piece>,
    largest_group: Option<Piece>,
}

/// A part of the input.
#[derive(Debug, Clone, Copy, Serialize)]
struct Share {
    documents: f64,
    bytes: f64,
}

/// A repository or group, which is entirely on one side.
#[derive(Debug, Serialize)]
struct Piece {
    #[serde(skip_serializing_if = "Option::is_none")]
    repo_name: Option<String>,
    /// The number of repositories in the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    repositories: Option<u64>,
    #[serde(flatten)]
    share: Share,
    /// Whether it is for validation.
    valid: bool,
}

impl Shares {
    /// Returns a warning if validation has far more or less than the fraction.
    fn warning(&self) -> Option<String> {
        let Share { documents, bytes } = self.valid;
        let fits = |share: f64| (self.fraction / 2.0..=self.fraction * 2.0).contains(&share);
        if fits(documents) && fits(bytes) {
            return None;
        }
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let side = |piece: &Piece| if piece.valid { "validation" } else { "training" };
        let mut text = format!(
            "fraction = {}, but validation has {} of the documents and {} of their bytes: a repository is never split",
            self.fraction,
            percent(documents),
            percent(bytes)
        );
        if let Some(piece) = &self.largest_repository {
            let name = piece.repo_name.as_deref().unwrap_or_default();
            text += &format!(
                "; the largest, '{name}', has {} of the bytes, in {}",
                percent(piece.share.bytes),
                side(piece)
            );
        }
        if let Some(piece) = self.largest_group.as_ref().filter(|piece| piece.repositories > Some(1)) {
            text += &format!(
                "; the largest group, {} repositories that share near-duplicates, has {} of the bytes, in {}",
                count(piece.repositories.unwrap_or(0)),
                percent(piece.share.bytes),
                side(piece)
            );
        }
        Some(text)
    }
}

/// The counts of one side.
#[derive(Debug, Default, Serialize)]
struct Side {
    rows: u64,
    bytes: u64,
    /// With `repository`: the number of groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<u64>,
}

impl Stage for Split {
    type Spec = Spec;
    type Exec = Exec;

    const KIND: &'static str = "split";
    const REVISION: u32 = 2;
    const SEEDED: bool = true;

    fn ports() -> Ports {
        Ports::new()
            .input("documents", PortType::Documents, "documents")
            .output("train", PortType::Documents, "documents to train on")
            .output("valid", PortType::Documents, "documents for validation")
            .output("report", PortType::Report, "counts of training and validation")
    }

    fn check(spec: &Spec, _: &Exec) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(shard) = &spec.valid_shard {
            let digits = shard.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
            if !digits || shard.is_empty() || shard.len() > 64 {
                let hint = "copy the first digits of a shard's digest from the import's report";
                problems.push(
                    Problem::new("valid_shard", format!("'{shard}' is not the beginning of a digest")).hint(hint),
                );
            } else if spec.by != By::Shard {
                problems.push(Problem::new("valid_shard", "requires by = \"shard\"").depends_on("by"));
            }
        }
        problems
    }

    fn compare(before: &Inputs, after: &Inputs) -> Option<String> {
        tables::rows_compared(before, after)
    }

    fn run(spec: &Spec, _: &Exec, context: &Context) -> Result<()> {
        let table = Table::open(context.inputs.tree("documents")?)?;
        let report = match spec.by {
            By::Repository => by_repository(spec, &table, context)?,
            By::Shard => by_shard(spec, &table, context)?,
        };
        if report.rows != table.rows() || report.rows != report.train.rows + report.valid.rows {
            return Err(StageError::new("training and validation together do not contain all rows"));
        }
        if report.rows == 0 {
            context.progress.warn("there are no documents to split: both outputs are empty");
        } else if report.valid.rows == 0 {
            context.progress.warn("no validation documents: all documents form one group, which is used for training");
        } else if let Some(warning) = report.shares.as_ref().and_then(Shares::warning) {
            context.progress.warn(warning);
        }
        let (train, valid) = (report.train.rows, report.valid.rows);
        context.progress.info(format!("{} to train on, {} to validate with", counted(train, "document"), count(valid)));
        context.outputs.tree("report")?.write_json("report.json", &report)
    }
}

fn by_repository(spec: &Spec, table: &Table, context: &Context) -> Result<Report> {
    let groups = Groups::read(table, context)?;
    let valid = groups.valid(spec.fraction, context.seed);
    let mut report = divide(table, context, |_, batch| {
        let repositories = batch.column_by_name(REPO_NAME).and_then(|column| column.as_string_opt::<i32>());
        let repositories = repositories.ok_or_else(|| StageError::new("the table has no repositories"))?;
        Ok(repositories.iter().map(|name| Some(valid.contains(&groups.of(name.unwrap_or_default())))).collect())
    })?;
    report.groups = Some(groups.len());
    report.valid.groups = Some(valid.len() as u64);
    report.train.groups = Some(groups.len() - valid.len() as u64);
    report.shares = Some(shares(spec, table, context, &groups, &valid, &report)?);
    Ok(report)
}

fn shares(
    spec: &Spec,
    table: &Table,
    context: &Context,
    groups: &Groups,
    valid: &HashSet<u32>,
    report: &Report,
) -> Result<Shares> {
    let whole = Amount { rows: report.rows, bytes: report.train.bytes + report.valid.bytes };
    let part = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let share =
        |amount: Amount| Share { documents: part(amount.rows, whole.rows), bytes: part(amount.bytes, whole.bytes) };
    let largest_repository = largest_repository(table, context)?.map(|(name, amount)| Piece {
        valid: valid.contains(&groups.of(&name)),
        repo_name: Some(name),
        repositories: None,
        share: share(amount),
    });
    let largest_group = groups.largest().map(|largest| Piece {
        valid: valid.contains(&largest.group),
        repo_name: None,
        repositories: Some(largest.repositories),
        share: share(largest.amount),
    });
    let of_valid = share(Amount { rows: report.valid.rows, bytes: report.valid.bytes });
    Ok(Shares { fraction: spec.fraction, valid: of_valid, largest_repository, largest_group })
}

fn by_shard(spec: &Spec, table: &Table, context: &Context) -> Result<Report> {
    let shard = |part: &Part| part.name.split('-').next().unwrap_or_default().to_owned();
    let shards: BTreeSet<String> = table.parts().iter().map(shard).collect();
    let valid = match &spec.valid_shard {
        Some(wanted) => {
            // A part's name contains the first 16 digits.
            let wanted = &wanted[..wanted.len().min(16)];
            let found: Vec<_> = shards.iter().filter(|shard| shard.starts_with(wanted)).collect();
            match found.as_slice() {
                [shard] => Some((*shard).clone()),
                found => {
                    let listed = shards.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                    let found = counted(found.len() as u64, "shard");
                    return Err(StageError::new(format!("valid_shard = '{wanted}' names {found} of the input"))
                        .hint(format!("the shards are {listed}")));
                }
            }
        }
        None => shards.last().filter(|_| shards.len() > 1).cloned(),
    };
    let mut report = divide(table, context, |part, batch| {
        let is_valid = valid.as_ref().is_some_and(|valid| *valid == shard(part));
        Ok(BooleanArray::from(vec![is_valid; batch.num_rows()]))
    })?;
    if report.train.rows == 0 && report.rows > 0 {
        return Err(StageError::new("valid_shard is the only shard, so nothing is left to train on"));
    }
    report.valid_shard = valid;
    Ok(report)
}

/// Writes each part's rows to validation if `is_valid` returns true, otherwise to training.
fn divide(
    table: &Table,
    context: &Context,
    is_valid: impl Fn(&Part, &RecordBatch) -> Result<BooleanArray> + Sync,
) -> Result<Report> {
    let outputs = BTreeMap::from([(false, context.outputs.tree("train")?), (true, context.outputs.tree("valid")?)]);
    context.progress.start("write", Unit::Rows, Some(table.rows()));
    let parts = each_part(context, table.parts(), |part| {
        let mut report = Report::default();
        let schema = part.rows_schema();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let mut train = RowsPart::new(outputs[&false], part, schema.clone());
        let mut valid = RowsPart::new(outputs[&true], part, schema.clone());
        for batch in part.read(&names)? {
            context.cancel.check()?;
            let batch = batch?;
            let mask = is_valid(part, &batch)?;
            let arrow = |error| StageError::new(format!("cannot divide rows: {error}"));
            let other = not(&mask).map_err(arrow)?;
            for (mask, side, part) in [(&other, &mut report.train, &mut train), (&mask, &mut report.valid, &mut valid)]
            {
                let rows = filter_record_batch(&batch, mask).map_err(arrow)?;
                side.rows += rows.num_rows() as u64;
                side.bytes += bytes(&rows);
                part.write(&rows)?;
            }
            report.rows += batch.num_rows() as u64;
            context.progress.add(batch.num_rows() as u64);
        }
        train.finish()?;
        valid.finish()?;
        Ok(report)
    })?;
    outputs.values().try_for_each(|side| tables::close(side, table.rows_schema(), PortType::Documents))?;
    let mut report = Report::default();
    for part in parts {
        report.rows += part.rows;
        for (side, more) in [(&mut report.train, part.train), (&mut report.valid, part.valid)] {
            side.rows += more.rows;
            side.bytes += more.bytes;
        }
    }
    Ok(report)
}

/// Returns the total `size` of the documents, in bytes.
fn bytes(rows: &RecordBatch) -> u64 {
    let sizes = rows
        .column_by_name(SIZE)
        .and_then(|column| column.as_primitive_opt::<datafusion::arrow::datatypes::Int64Type>());
    sizes.map_or(0, |sizes| sizes.iter().flatten().map(|size| size.max(0) as u64).sum())
}

/// Returns whether the table contains near-duplicate clusters.
fn has_clusters(table: &Table) -> bool {
    table.has_column(CLUSTER)
}

/// Returns a value of a column that may be null.
fn text(column: &datafusion::arrow::array::StringArray, index: usize) -> Option<&str> {
    (!column.is_null(index)).then(|| column.value(index))
}
