//! The kind `dedup`: removes exact and near duplicates, each removal with its witness.
//!
//! # Promises
//! - A document is removed only because of a document that is *kept*, its witness. Exact duplicates are removed first: rule `exact`, an
//!   earlier document has the same fingerprint ([`fingerprint`]: the content without white space, or its bytes). Then rule `near`: the
//!   Jaccard similarity of its token set and that of the witness ([`tokens`], [`jaccard`]) is at least `threshold`, computed on the sets
//!   and not estimated. `dropped` contains the rule, the witness and the similarity for each document.
//! - How many and which documents are exact duplicates depends on the content and on `exact` and `prefer` alone, not on the threshold. The
//!   witness of an exact duplicate is the copy that is kept; if that copy is itself removed as a near-duplicate, the witness is the copy's
//!   witness (so the similarity can then be below the threshold).
//! - No two kept documents that share a bucket ([`bands`]) reach the threshold. The number of pairs that reach it without sharing a bucket
//!   is measured ([`audit`]) and reported beside the theoretical figure.
//! - `prefer` determines the kept copy ([`preference`]); documents are decided in that order, each once ([`decide`]).
//! - A document of fewer than `min_tokens` tokens can only have exact duplicates.
//! - The bytes of all outputs are the same for any number of threads, order of parts, or memory.
//!
//! # Steps
//! | step | module | memory |
//! |---|---|---|
//! | read each document once: fingerprint, token set, signature, buckets | [`collect`] | a batch per thread |
//! | sort the documents by preference | [`sort`] | external |
//! | find equal fingerprints, equal sets, shared buckets | [`groups`] | external, and one bit per document |
//! | decide each document in order | [`decide`] | [`u32_array`] in memory or in a file, and a [`cache`] per thread |
//! | name clusters, sort decisions by row | [`row_decision`] | external |
//! | measure recall | [`audit`] | the sample |
//! | write rows; text is linked | [`write`] | a batch per thread |
//!
//! The text is read once. Everything else works on scratch files of about 3 KiB per document. The memory that grows with
//! the table is one bit per document, and [`disjoint_set`]: a few bytes for each kept document that a removed one joins to another.
//!
//! # Columns
//! `documents` gains `cluster`: the smallest id of the document's cluster ([`row_decision`]), null where the document has no
//! duplicate. A split must not divide a cluster. `dropped` has `id`, `repo_name`, `path`, `rule`, `witness` (the id of the
//! kept document) and `jaccard`.

pub mod audit;
pub mod bands;
pub mod cache;
pub mod collect;
pub mod decide;
pub mod decision;
pub mod disjoint_set;
pub mod fingerprint;
pub mod groups;
pub mod jaccard;
pub mod license_key;
pub mod positioned;
pub mod preference;
pub mod ranked;
mod read;
pub mod record;
pub mod report;
pub mod row_decision;
pub mod scratch;
pub mod signature;
pub mod sort;
pub mod tokens;
pub mod u32_array;
mod write;

use contract::{Context, Inputs, PortType, Ports, Result, Stage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tables::Table;

use self::audit::Audit;
use self::bands::Bands;
use self::collect::SignatureSettings;
use self::decide::{BLOCK, decide};
use self::fingerprint::Exact;
use self::groups::Groups;
use self::preference::Preference;
use self::report::{Near, Report};
use self::row_decision::RowDecisions;
use self::scratch::Scratch;

/// Removes exact duplicates and near-duplicates. Each removal is verified against a kept document, whose id is recorded.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Spec {
    /// The definition of exact duplicates: `whitespace`, documents that are equal without white space, or `bytes`, documents with the same
    /// bytes.
    pub exact: Exact,
    /// Whether to remove near-duplicates as well.
    pub near: bool,
    /// The minimum Jaccard similarity of the token sets of near-duplicates, above 0 and at most 1.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub threshold: f64,
    /// The number of tokens in an element of the sets: 1 for single tokens, n for runs of n tokens.
    #[schemars(range(min = 1, max = 64))]
    pub shingle: usize,
    /// The minimum number of tokens, with repetitions, of documents that are compared; shorter documents have no near-duplicates.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub min_tokens: usize,
    /// Which copy is kept: the first of these keys that differs decides, then the smallest id.
    #[schemars(extend("uniqueItems" = true))]
    pub prefer: Vec<Preference>,
    /// The minimum probability that two documents exactly at the threshold are compared. A higher value needs more
    /// comparisons.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub recall: f64,
    /// The number of documents that are compared with all others to measure the recall; 0 disables the measurement.
    #[schemars(range(max = 10_000))]
    pub audit: usize,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            exact: Exact::Whitespace,
            near: true,
            threshold: 0.85,
            shingle: 1,
            min_tokens: 10,
            prefer: vec![Preference::License, Preference::Copies, Preference::Larger, Preference::Path],
            recall: 0.999,
            audit: 200,
        }
    }
}

impl Spec {
    fn signature_settings(&self) -> SignatureSettings {
        let bands = if self.near { Bands::choose(self.threshold, self.recall) } else { Bands { bands: 0, rows: 1 } };
        SignatureSettings {
            exact: self.exact,
            shingle: self.shingle,
            min_tokens: if self.near { self.min_tokens } else { usize::MAX },
            bands,
            prefer: self.prefer.clone(),
        }
    }
}

/// There are no settings that do not change the output.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Exec {}

/// The stage kind `dedup`.
#[derive(Debug)]
pub struct Dedup;

impl Stage for Dedup {
    type Spec = Spec;
    type Exec = Exec;

    const KIND: &'static str = "dedup";
    const REVISION: u32 = 2;

    fn ports() -> Ports {
        Ports::new()
            .input("documents", PortType::Documents, "the documents")
            .output("documents", PortType::Documents, "the kept documents, with their cluster")
            .output("dropped", PortType::Rows, "the removed documents, each with its witness and their similarity")
            .output("report", PortType::Report, "counts, bands, measured recall, clusters, licenses")
    }

    fn compare(before: &Inputs, after: &Inputs) -> Option<String> {
        tables::rows_compared(before, after)
    }

    fn run(spec: &Spec, _: &Exec, context: &Context) -> Result<()> {
        let table = Table::open(context.inputs.tree("documents")?)?;
        let scratch = Scratch::open(context)?;
        let settings = spec.signature_settings();
        let ranked = read::read(context, &table, &settings, &scratch)?;
        let mut groups = Groups::find(&ranked, &scratch)?;
        let decisions = decide(&ranked, &mut groups, spec.threshold, BLOCK, &scratch)?;
        let audit = match spec.near && spec.audit > 0 {
            true => Some(Audit::of(spec.audit, &ranked, &groups, &decisions.by_rank, spec.threshold, &scratch)?),
            false => None,
        };
        let (row_decisions, clusters, licenses) = RowDecisions::find(&ranked, &decisions, &scratch)?;
        let documents = write::write(context, &table, &row_decisions)?;
        let near = spec.near.then(|| Near::new(spec.threshold, settings.bands, &groups, &decisions));
        let report = Report { documents, near, audit, clusters, licenses };
        report.announce(&context.progress);
        context.outputs.tree("report")?.write_json("report.json", &report)?;
        Ok(scratch.close()?)
    }
}
