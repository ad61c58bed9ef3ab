//! Turns decisions by rank into decisions by row number, with clusters.
//!
//! A cluster is a connected component over the verified pairs: each removed document and its witness, and the kept
//! documents that are near one removed document. Its name is its smallest id.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};

use contract::{Result, Unit};
use serde::Serialize;

use super::decide::Decisions;
use super::decision::{DocumentDecision, Rule};
use super::jaccard::Overlap;
use super::license_key::LicenseKey;
use super::positioned::read_at;
use super::ranked::Ranked;
use super::record::take;
use super::scratch::Scratch;
use super::sort::Sorter;

/// The decision on a document, as in the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowDecision {
    /// The smallest id of its cluster; `None` if it has no duplicate.
    pub cluster: Option<[u8; 32]>,
    /// The rule that removes it, the id of its witness, and the overlap with it; `None` if it is kept.
    pub removed: Option<(Rule, [u8; 32], Overlap)>,
}

/// The size of a decision in bytes: cluster (1 + 32), rule (1), witness (32), overlap (8).
const WIDTH: usize = 33 + 1 + 32 + 8;

/// The number of decisions that are read at once.
const CHUNK: u32 = 4096;

/// The decisions on all rows by number, in a scratch file.
#[derive(Debug)]
pub struct RowDecisions(File);

/// Clusters by size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Clusters {
    /// The number of clusters of two or more documents.
    pub clusters: u64,
    /// The number of documents in them.
    pub documents: u64,
    /// The number of documents in the largest cluster.
    pub largest: u64,
    /// The clusters by size, in powers of two.
    pub sizes: Vec<Sizes>,
}

/// Clusters of similar size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// The smallest size of a cluster.
    pub from: u64,
    /// The largest size of a cluster.
    pub to: u64,
    /// The number of clusters.
    pub clusters: u64,
    /// The number of documents in them.
    pub documents: u64,
}

/// Licenses of removed documents compared with those of their witnesses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Licenses {
    /// The number of removed documents with the license of their witness.
    pub same: u64,
    /// The number of removed documents with a different license from their witness.
    pub other: u64,
    /// The number of removed documents whose license is unknown or not permissive while their witness's license is permissive: others
    /// publish the text under stricter terms than those of the kept copy.
    pub stricter_than_kept: u64,
    /// Removed documents with a different license from their witness, by `removed license -> kept license`.
    pub pairs: BTreeMap<String, u64>,
}

impl RowDecisions {
    /// Writes the decisions on all rows.
    ///
    /// # Errors
    /// Returns an error if the scratch directory cannot be written or read, or the stage was asked to stop.
    pub fn find(ranked: &Ranked, decisions: &Decisions, scratch: &Scratch) -> Result<(Self, Clusters, Licenses)> {
        // root, id, number, then the decision without its cluster: sorts the members of a cluster together, the smallest id first.
        const HEAD: usize = 4 + 32 + 4;
        let mut members = Sorter::new(scratch, "members", HEAD + WIDTH - 33, 2);
        let (mut licenses, mut block, mut first) = (Licenses::default(), Vec::new(), 0);
        scratch.progress.start("find clusters", Unit::Rows, Some(u64::from(ranked.length())));
        ranked.each(scratch, |rank, document, _| {
            if rank as usize == first + block.len() {
                first = rank as usize;
                block = decisions.by_rank.read(rank, CHUNK.min(ranked.length() - rank))?;
            }
            let (root, removed) = match block[rank as usize - first] {
                DocumentDecision::Kept => (rank, None),
                DocumentDecision::Removed { rule, witness, overlap } => {
                    let kept = ranked.document(witness)?;
                    licenses.count(document.license, kept.license);
                    (witness, Some((rule, kept.id, overlap)))
                }
            };
            let mut record = Vec::with_capacity(HEAD + WIDTH);
            record.extend_from_slice(&decisions.linked.root(root).to_be_bytes());
            record.extend_from_slice(&document.id);
            record.extend_from_slice(&document.number.to_be_bytes());
            record.extend_from_slice(&RowDecision { cluster: None, removed }.to_bytes()[33..]);
            members.push(&record)
        })?;

        let mut members = members.finish()?;
        let mut sorted_rows = Sorter::new(scratch, "rows", 4 + WIDTH, 2);
        let mut clusters = BTreeMap::new();
        let mut cluster = Cluster::default();
        while let Some(record) = members.next()? {
            let root = u32::from_be_bytes(take(&mut &record[..]));
            if cluster.size > 0 && cluster.root != root {
                cluster.close(&mut sorted_rows, &mut clusters)?;
            }
            cluster.add(root, record, &mut sorted_rows)?;
        }
        cluster.close(&mut sorted_rows, &mut clusters)?;

        let mut sorted_rows = sorted_rows.finish()?;
        let mut writer = BufWriter::with_capacity(1 << 18, scratch.create("row-decisions")?);
        while let Some(record) = sorted_rows.next()? {
            writer.write_all(&record[4..])?;
        }
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((Self(file), Clusters::of(clusters), licenses))
    }

    /// Returns the decisions on `count` rows from number `first`.
    ///
    /// # Errors
    /// Returns an error if the scratch directory cannot be read.
    pub fn read(&self, first: u32, count: usize) -> io::Result<Vec<RowDecision>> {
        let mut bytes = vec![0; count * WIDTH];
        read_at(&self.0, &mut bytes, u64::from(first) * WIDTH as u64)?;
        Ok(bytes.chunks_exact(WIDTH).map(RowDecision::from_bytes).collect())
    }
}

/// The cluster whose members are being read.
#[derive(Debug, Default)]
struct Cluster {
    root: u32,
    id: [u8; 32],
    size: u64,
    /// The first member; it is written once a second member shows that it is in a cluster.
    first: Vec<u8>,
}

impl Cluster {
    fn add(&mut self, root: u32, mut record: &[u8], sorted_rows: &mut Sorter) -> Result<()> {
        record = &record[4..];
        let id = take(&mut record);
        self.size += 1;
        if self.size == 1 {
            (self.root, self.id) = (root, id);
            self.first = record.to_vec();
            return Ok(());
        }
        if self.size == 2 {
            sorted_rows.push(&clustered(&self.first, Some(&self.id)))?;
        }
        sorted_rows.push(&clustered(record, Some(&self.id)))
    }

    fn close(&mut self, sorted_rows: &mut Sorter, sizes: &mut BTreeMap<u32, (u64, u64, u64)>) -> Result<()> {
        if self.size == 1 {
            sorted_rows.push(&clustered(&self.first, None))?;
        }
        if self.size > 1 {
            let (clusters, documents, largest) = sizes.entry((self.size - 1).ilog2()).or_default();
            *clusters += 1;
            *documents += self.size;
            *largest = self.size.max(*largest);
        }
        self.size = 0;
        Ok(())
    }
}

/// Inserts the cluster into a record of a number and a decision without cluster.
fn clustered(record: &[u8], cluster: Option<&[u8; 32]>) -> Vec<u8> {
    let (number, rest) = record.split_at(4);
    [number, &[u8::from(cluster.is_some())], cluster.unwrap_or(&[0; 32]), rest].concat()
}

impl RowDecision {
    fn to_bytes(self) -> [u8; WIDTH] {
        let mut bytes = [0; WIDTH];
        if let Some(cluster) = self.cluster {
            bytes[0] = 1;
            bytes[1..33].copy_from_slice(&cluster);
        }
        if let Some((rule, witness, overlap)) = self.removed {
            bytes[33] = if rule == Rule::Exact { 1 } else { 2 };
            bytes[34..66].copy_from_slice(&witness);
            bytes[66..70].copy_from_slice(&overlap.both.to_be_bytes());
            bytes[70..].copy_from_slice(&overlap.either.to_be_bytes());
        }
        bytes
    }

    fn from_bytes(mut bytes: &[u8]) -> Self {
        let clustered = take::<1>(&mut bytes)[0] == 1;
        let cluster = clustered.then_some(take(&mut bytes));
        let rule = match take::<1>(&mut bytes)[0] {
            0 => return Self { cluster, removed: None },
            1 => Rule::Exact,
            _ => Rule::Near,
        };
        let witness = take(&mut bytes);
        let overlap =
            Overlap { both: u32::from_be_bytes(take(&mut bytes)), either: u32::from_be_bytes(take(&mut bytes)) };
        Self { cluster, removed: Some((rule, witness, overlap)) }
    }
}

impl Clusters {
    /// Sums up clusters and documents for each power of two, with the largest size.
    fn of(sizes: BTreeMap<u32, (u64, u64, u64)>) -> Self {
        let of = |(power, (clusters, documents, _)): (&u32, &(u64, u64, u64))| Sizes {
            from: (1 << power) + 1,
            to: 2 << power,
            clusters: *clusters,
            documents: *documents,
        };
        Self {
            clusters: sizes.values().map(|sizes| sizes.0).sum(),
            documents: sizes.values().map(|sizes| sizes.1).sum(),
            largest: sizes.values().map(|sizes| sizes.2).max().unwrap_or(0),
            sizes: sizes.iter().map(of).collect(),
        }
    }
}

impl Licenses {
    fn count(&mut self, removed: LicenseKey, kept: LicenseKey) {
        if removed == kept {
            self.same += 1;
            return;
        }
        self.other += 1;
        self.stricter_than_kept += u64::from(kept.is_permissive() && !removed.is_permissive());
        *self.pairs.entry(format!("{} -> {}", removed.key(), kept.key())).or_default() += 1;
    }
}
