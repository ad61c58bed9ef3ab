//! Repositories that hang together by clusters.

use std::collections::{BTreeMap, HashMap, HashSet};

use contract::{Context, Draw, Result, StageError};
use datafusion::arrow::array::{AsArray, RecordBatch, StringArray};
use datafusion::functions_aggregate::expr_fn::min;
use datafusion::logical_expr::Expr;
use datafusion::prelude::col;
use tables::{ID, REPO_NAME, Session, Table, plan_error};

use super::{CLUSTER, has_clusters, text};

/// The groups of a table, by union-find over its repositories. Memory: 24 bytes a repository and cluster, and 64 a
/// repository for its smallest id.
pub(super) struct Groups {
    /// The first 128 bits of the hash of a repository's name, to its place in `parent`.
    repositories: HashMap<u128, u32>,
    /// The root of each repository.
    root: Vec<u32>,
    /// The smallest id of each root's documents.
    identity: BTreeMap<u32, String>,
}

impl Groups {
    /// Aggregates the table by repository (and cluster), and joins what hangs together.
    pub(super) fn read(table: &Table, context: &Context) -> Result<Self> {
        let mut keys: Vec<Expr> = vec![col(REPO_NAME)];
        if has_clusters(table) {
            keys.push(col(CLUSTER));
        }
        let session = Session::new(context)?;
        let plan = session.documents(table)?.aggregate(keys, vec![min(col(ID)).alias(ID)]).map_err(plan_error)?;
        let mut forest = Forest::default();
        session.stream(plan, |batch| forest.add(&batch))?;
        Ok(forest.groups())
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.identity.len() as u64
    }

    /// The group of a repository.
    pub(super) fn of(&self, repository: &str) -> u32 {
        // Every repository of the table was read.
        self.repositories.get(&hash(repository)).map_or(u32::MAX, |place| self.root[*place as usize])
    }

    /// The groups that go to validation.
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

/// Names of repositories are told apart by 128 bits of blake3.
fn hash(name: &str) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&blake3::hash(name.as_bytes()).as_bytes()[..16]);
    u128::from_le_bytes(bytes)
}

/// Groups being joined.
#[derive(Default)]
struct Forest {
    repositories: HashMap<u128, u32>,
    /// A repository of each cluster.
    clusters: HashMap<u128, u32>,
    parent: Vec<u32>,
    smallest: Vec<String>,
}

impl Forest {
    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let column = |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        let missing = || StageError::new("the plan gives no groups");
        let (names, ids) = (column(REPO_NAME).ok_or_else(missing)?, column(ID).ok_or_else(missing)?);
        let clusters: Option<&StringArray> = column(CLUSTER);
        for index in 0..batch.num_rows() {
            let place = self.place(names.value(index), ids.value(index))?;
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
        Groups { repositories: self.repositories, root, identity }
    }
}
