//! `license`: keeps documents of repositories with an allowed license.
//!
//! The keys are the 15 of GitHub's BigQuery data set ([`KEYS`]). Case and surrounding spaces in a document's license are ignored. A license
//! that is null, `unknown` or not one of the keys is never allowed, so the document is dropped. The report counts every license in the
//! input, kept or dropped.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use contract::{Context, Inputs, PortType, Ports, Result, Stage, StageError};
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::prelude::{Expr, btrim, col, lit, lower, when};
use datafusion::scalar::ScalarValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use tables::{Attrition, DETAIL, LICENSE, RULE, Table};

/// The license keys of GitHub's BigQuery data set.
pub const KEYS: [&str; 15] = [
    "agpl-3.0",
    "apache-2.0",
    "artistic-2.0",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc0-1.0",
    "epl-1.0",
    "gpl-2.0",
    "gpl-3.0",
    "isc",
    "lgpl-2.1",
    "lgpl-3.0",
    "mit",
    "mpl-2.0",
    "unlicense",
];

/// The stage kind `license`.
#[derive(Debug)]
pub struct License;

/// Keeps documents whose repository has one of the licenses in `allow`; a document without a known license is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Spec {
    /// The license keys to keep, from: agpl-3.0, apache-2.0, artistic-2.0, bsd-2-clause, bsd-3-clause, cc0-1.0, epl-1.0,
    /// gpl-2.0, gpl-3.0, isc, lgpl-2.1, lgpl-3.0, mit, mpl-2.0, unlicense. Their order has no effect.
    #[serde(serialize_with = "sorted")]
    #[schemars(extend("items" = { "type": "string", "enum": KEYS }, "minItems" = 1, "uniqueItems" = true))]
    pub allow: Vec<String>,
}

/// There are no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Exec {}

/// Serializes the list sorted: its order is not part of the setting.
fn sorted<S: Serializer>(allow: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    let mut allow = allow.to_vec();
    allow.sort_unstable();
    allow.serialize(serializer)
}

/// The report of a run.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    attrition: Attrition,
    /// The counts by license, as in the documents (`null` if they have none).
    licenses: BTreeMap<String, Count>,
}

/// The number of documents with one license.
#[derive(Debug, Default, Serialize)]
struct Count {
    kept: u64,
    dropped: u64,
}

impl Stage for License {
    type Spec = Spec;
    type Exec = Exec;

    const KIND: &'static str = "license";
    const REVISION: u32 = 2;

    fn ports() -> Ports {
        Ports::new()
            .input("documents", PortType::Documents, "documents with their licenses")
            .output("documents", PortType::Documents, "the documents under an allowed license")
            .output("dropped", PortType::Rows, "the removed documents, with their license")
            .output("report", PortType::Report, "counts by license")
    }

    fn compare(before: &Inputs, after: &Inputs) -> Option<String> {
        tables::rows_compared(before, after)
    }

    fn run(spec: &Spec, _: &Exec, context: &Context) -> Result<()> {
        let table = Table::open(context.inputs.tree("documents")?)?;
        let licenses: Mutex<BTreeMap<String, Count>> = Mutex::default();
        let attrition = tables::filter(
            context,
            &table,
            |documents| documents.with_column(RULE, rule(&spec.allow)?)?.with_column(DETAIL, col(LICENSE)),
            |batch| count(batch, &mut licenses.lock().unwrap_or_else(PoisonError::into_inner)),
        )?;
        if attrition.rows > 0 && attrition.kept == 0 {
            context.progress.warn("no document has an allowed license: the table is empty");
        }
        let licenses = licenses.into_inner().unwrap_or_else(PoisonError::into_inner);
        context.outputs.tree("report")?.write_json("report.json", &Report { attrition, licenses })
    }
}

/// Returns `license` if the license is not allowed, otherwise null.
fn rule(allow: &[String]) -> Result<Expr, datafusion::error::DataFusionError> {
    let keys = allow.iter().map(|key| lit(key.as_str())).collect();
    let allowed = lower(btrim(vec![col(LICENSE)])).in_list(keys, false).is_true();
    when(allowed, lit(ScalarValue::Utf8(None))).otherwise(lit("license"))
}

fn count(batch: &RecordBatch, licenses: &mut BTreeMap<String, Count>) -> Result<()> {
    let column = |name: &str| {
        let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        column.ok_or_else(|| StageError::new(format!("the plan returned no string column '{name}'")))
    };
    let (license, rule) = (column(LICENSE)?, column(RULE)?);
    for index in 0..batch.num_rows() {
        let name = if license.is_null(index) { "null" } else { license.value(index) };
        if !licenses.contains_key(name) {
            licenses.insert(name.to_owned(), Count::default());
        }
        if let Some(count) = licenses.get_mut(name) {
            if rule.is_null(index) { count.kept += 1 } else { count.dropped += 1 }
        }
    }
    Ok(())
}
