//! Groups of repositories that clusters connect.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use contract::{Context, Draw, Result, StageError};
use datafusion::arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::functions_aggregate::expr_fn::{count, min, sum};
use datafusion::logical_expr::{Expr, when};
use datafusion::prelude::{col, lit};
use tables::{CLUSTER, ID, REPO_NAME, SIZE, Session, Table, plan_error};

use super::{has_clusters, text};

/// The name of the column with the number of documents in an aggregate.
const ROWS: &str = "rows";

/// Documents and their bytes, by `size`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub rows: u64,
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

/// The group with the most bytes.
pub(super) struct LargestGroup {
    /// The number ([`Groups::of`]).
    pub group: u32,
    pub repositories: u64,
    pub amount: Amount,
}

/// The groups of a table, by union-find over its repositories. Memory: 24 bytes per repository and cluster, and 80 per
/// repository for its smallest id and its amount.
pub(super) struct Groups {
    /// The index of each repository in `parent`, by the first 128 bits of the hash of its name.
    repositories: HashMap<u128, u32>,
    /// The root of each repository.
    root: Vec<u32>,
    /// The smallest id of each root's documents.
    identity: BTreeMap<u32, String>,
    /// The documents and bytes of each repository, by its index.
    amounts: Vec<Amount>,
}

impl Groups {
    /// Aggregates the table by repository (and cluster), and joins connected repositories.
    pub(super) fn read(table: &Table, context: &Context) -> Result<Self> {
        let mut keys: Vec<Expr> = vec![col(REPO_NAME)];
        if has_clusters(table) {
            keys.push(col(CLUSTER));
        }
        let session = Session::new(context)?;
        let sums = [amounts()?, vec![min(col(ID)).alias(ID)]].concat();
        let plan = session.documents(table)?.aggregate(keys, sums).map_err(plan_error)?;
        let mut forest = Forest::default();
        session.stream(plan, |batch| forest.add(&batch))?;
        Ok(forest.groups())
    }

    /// Returns the number of groups.
    pub(super) fn len(&self) -> u64 {
        self.identity.len() as u64
    }

    /// Returns the group of a repository.
    pub(super) fn of(&self, repository: &str) -> u32 {
        // Every repository of the table has been read.
        self.repositories.get(&hash(repository)).map_or(u32::MAX, |place| self.root[*place as usize])
    }

    /// Returns the largest group; `None` if there is none.
    pub(super) fn largest(&self) -> Option<LargestGroup> {
        let mut sums: BTreeMap<u32, (Amount, u64)> = BTreeMap::new();
        for (amount, root) in self.amounts.iter().zip(&self.root) {
            let (sum, repositories) = sums.entry(*root).or_default();
            sum.add(*amount);
            *repositories += 1;
        }
        // Ties go to the smallest id, because positions depend on the order of the rows.
        let rank = |root: &u32, amount: &Amount| (amount.bytes, amount.rows, Reverse(self.identity.get(root)));
        let (group, (amount, repositories)) =
            sums.iter().max_by(|(a, (x, _)), (b, (y, _))| rank(a, x).cmp(&rank(b, y)))?;
        Some(LargestGroup { group: *group, repositories: *repositories, amount: *amount })
    }

    /// Returns the groups that go to validation.
    pub(super) fn valid(&self, fraction: f64, seed: u64) -> HashSet<u32> {
        let draw = Draw::new(seed, "split repository");
        let drawn = |id: &str| draw.unit(id.as_bytes());
        let mut order: Vec<_> = self.identity.iter().map(|(root, id)| (drawn(id), id, *root)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));
        let below = order.iter().filter(|(number, ..)| *number < fraction).count();
        let count = match order.len() {
            0 | 1 => 0,
            groups => below.clamp(1, groups - 1),
        };
        order[..count].iter().map(|(_, _, root)| *root).collect()
    }
}

/// Returns the repository with the most bytes (ties: the first by name); `None` if there is none.
pub(super) fn largest_repository(table: &Table, context: &Context) -> Result<Option<(String, Amount)>> {
    let session = Session::new(context)?;
    let order = vec![col(SIZE).sort(false, false), col(ROWS).sort(false, false), col(REPO_NAME).sort(true, false)];
    let plan = session.documents(table)?.aggregate(vec![col(REPO_NAME)], amounts()?);
    let plan = plan.and_then(|plan| plan.sort(order)?.limit(0, Some(1))).map_err(plan_error)?;
    let mut largest = None;
    session.stream(plan, |batch| {
        if batch.num_rows() > 0 {
            let names = batch.column_by_name(REPO_NAME).and_then(|column| column.as_string_opt::<i32>());
            let names = names.ok_or_else(|| StageError::new("the plan returned no repositories"))?;
            largest = Some((names.value(0).to_owned(), amount(&batch, 0)?));
        }
        Ok(())
    })?;
    Ok(largest)
}

/// Returns the aggregates for documents and bytes, named [`ROWS`] and [`SIZE`].
fn amounts() -> Result<Vec<Expr>> {
    let size = when(col(SIZE).gt(lit(0i64)), col(SIZE)).otherwise(lit(0i64)).map_err(plan_error)?;
    Ok(vec![count(lit(1i64)).alias(ROWS), sum(size).alias(SIZE)])
}

/// Returns a row of [`amounts`].
fn amount(batch: &RecordBatch, index: usize) -> Result<Amount> {
    let number = |name: &str| {
        let column: Option<&Int64Array> =
            batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
        let column = column.ok_or_else(|| StageError::new(format!("the plan returned no column '{name}'")))?;
        // Neither is negative.
        Ok::<_, StageError>(column.value(index).max(0) as u64)
    };
    Ok(Amount { rows: number(ROWS)?, bytes: number(SIZE)? })
}

/// Identifies a repository by 128 bits of the blake3 hash of its name.
fn hash(name: &str) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&blake3::hash(name.as_bytes()).as_bytes()[..16]);
    u128::from_le_bytes(bytes)
}

/// Groups being joined.
#[derive(Default)]
struct Forest {
    repositories: HashMap<u128, u32>,
    /// One repository of each cluster.
    clusters: HashMap<u128, u32>,
    parent: Vec<u32>,
    smallest: Vec<String>,
    amounts: Vec<Amount>,
}

impl Forest {
    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let column = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let missing = || StageError::new("the plan returned no groups");
        let (names, ids) = (column(REPO_NAME).ok_or_else(missing)?, column(ID).ok_or_else(missing)?);
        let clusters: Option<&StringArray> = column(CLUSTER);
        for index in 0..batch.num_rows() {
            let place = self.place(names.value(index), ids.value(index))?;
            self.amounts[place as usize].add(amount(batch, index)?);
            if let Some(cluster) = clusters.and_then(|clusters| text(clusters, index)) {
                let other = *self.clusters.entry(hash(cluster)).or_insert(place);
                self.join(place, other);
            }
        }
        Ok(())
    }

    fn place(&mut self, name: &str, id: &str) -> Result<u32> {
        let next = u32::try_from(self.parent.len()).map_err(|_| StageError::new("more than 2^32 repositories"))?;
        let place = *self.repositories.entry(hash(name)).or_insert(next);
        if place == next {
            self.parent.push(next);
            self.smallest.push(id.to_owned());
            self.amounts.push(Amount::default());
        } else if *id < *self.smallest[place as usize] {
            id.clone_into(&mut self.smallest[place as usize]);
        }
        Ok(place)
    }

    fn root(&mut self, mut place: u32) -> u32 {
        while self.parent[place as usize] != place {
            let up = self.parent[place as usize];
            self.parent[place as usize] = self.parent[up as usize];
            place = up;
        }
        place
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.parent[a.max(b) as usize] = a.min(b);
    }

    fn groups(mut self) -> Groups {
        let root: Vec<u32> = (0..self.parent.len() as u32).map(|place| self.root(place)).collect();
        let mut identity: BTreeMap<u32, String> = BTreeMap::new();
        for (place, id) in self.smallest.into_iter().enumerate() {
            let known = identity.entry(root[place]).or_insert_with(|| id.clone());
            if id < *known {
                *known = id;
            }
        }
        Groups { repositories: self.repositories, root, identity, amounts: self.amounts }
    }
}
