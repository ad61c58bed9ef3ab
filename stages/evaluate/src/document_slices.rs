//! The slices of the documents that are in packed tokens.
//!
//! The index of the tokens ([`tokens::index`]) contains the id of each token's document; the inputs `documents` and `contaminated` contain
//! the properties of an id. The slices of each document are stored in a scratch file of [`RECORD`] bytes per document, in the order of the
//! index, in which the documents of a sequence are adjacent.
//!
//! The file is filled in passes: a pass keeps as many ids of the index in memory as fit in a part of the stage's memory (all of them, unless there are
//! millions), sorted, and reads the inputs once. A pass covers a range of ids, so that no id is missed. Memory: that part, a row group of
//! text, and 32 bytes per repository.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use contract::figures::{count, counted};
use contract::{Context, Digest, InputTree, Result, StageError, shortened};
use datafusion::arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::functions_aggregate::expr_fn::count as rows;
use datafusion::prelude::{col, lit};
use tables::{CONTENT, ID, LICENSE, REPO_NAME, Session, Table, plan_error, read_rows};
use tokens::index::DocumentIndex;
use tokens::packed::PackedTokens;

use crate::slices::{SliceSettings, slice_of};

/// The size of a document's record in the scratch file: four 16-bit numbers, little-endian. The first is the slice of its license plus one, or zero
/// if no table was read; then the slices of its repository and its length, and a number that is not zero if it is contaminated.
const RECORD: usize = 8;
/// The offset of the last number.
const CONTAMINATED: u64 = 6;
/// The memory of an id and its number, in bytes.
const ID_BYTES: u64 = 40;
/// The part of the stage's memory for ids.
const PART_OF_MEMORY: u64 = 8;
/// The minimum number of ids in a pass.
const LEAST_IDS: u64 = 1024;

/// The name of the column with the number of rows in an aggregate.
const ROWS: &str = "rows";

/// The slices of documents, on disk.
#[derive(Debug)]
pub struct DocumentSlices {
    index: DocumentIndex,
    file: File,
    /// The names of the slices by license, if a table of documents was read.
    licenses: Vec<String>,
    has_contamination: bool,
}

/// The slices of one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OneDocument {
    /// The slices that depend on the table of documents.
    pub facts: Option<Facts>,
    /// Whether it is contaminated.
    pub is_contaminated: bool,
}

/// Slices by properties in the table of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The slice by license.
    pub license: u16,
    /// The slice by the number of files of its repository.
    pub repository_files: u16,
    /// The slice by its size in bytes.
    pub file_bytes: u16,
}

impl DocumentSlices {
    /// Reads the inputs `documents` and `contaminated` of the stage; `None` if neither is connected.
    ///
    /// # Errors
    /// Returns an error if the tokens have no index, an input cannot be read, or `documents` lacks a document of the tokens.
    pub fn read(context: &Context, settings: &SliceSettings, tokens: &PackedTokens) -> Result<Option<Self>> {
        let (documents, contaminated) = (context.inputs.get("documents"), context.inputs.get("contaminated"));
        if documents.is_none() && contaminated.is_none() {
            return Ok(None);
        }
        let packed = |error: StageError| error.hint("connect tokens that a stage of kind pack wrote");
        let index = DocumentIndex::open(context.inputs.tree("tokens")?).map_err(packed)?;
        check_index(&index, tokens).map_err(packed)?;
        let path = context.scratch.join("slices");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.map_err(|error| StageError::io("create it", &error).in_file(&path))?;
        file.set_len((index.documents() * RECORD) as u64)?;
        let mut slices = Self { index, file, licenses: Vec::new(), has_contamination: contaminated.is_some() };
        if let Some(tree) = documents {
            slices.add_documents(context, settings, &Table::open(tree)?)?;
        }
        if let Some(tree) = contaminated {
            slices.add_contaminated(context, tree)?;
        }
        Ok(Some(slices))
    }

    /// Returns the names of the slices by license; empty without a table of documents.
    pub fn licenses(&self) -> &[String] {
        &self.licenses
    }

    /// Returns whether a table of documents was read.
    pub fn has_facts(&self) -> bool {
        !self.licenses.is_empty()
    }

    /// Returns whether a table of contaminated documents was read.
    pub fn has_contamination(&self) -> bool {
        self.has_contamination
    }

    /// Calls `each` for each document of a sequence, in order, with its tokens among the `predictions` of the sequence.
    ///
    /// # Errors
    /// Returns an error if the scratch file cannot be read.
    pub fn of_sequence(
        &self,
        sequence: u64,
        predictions: usize,
        mut each: impl FnMut(Range<usize>, OneDocument),
    ) -> Result<()> {
        // The first token of a sequence is not predicted.
        let first = self.index.stream_sequence(sequence) * (predictions as u64 + 1) + 1;
        let mut done = 0;
        let start = self.index.at(first).map(|(document, _)| document);
        for document in start.into_iter().flat_map(|start| start..) {
            let Some(entry) = self.index.get(document).filter(|_| done < predictions) else { break };
            let left = entry.start + entry.tokens - (first + done as u64);
            let end = predictions.min(done.saturating_add(usize::try_from(left).unwrap_or(usize::MAX)));
            each(done..end, self.get(document as u64)?);
            done = end;
        }
        if done == predictions {
            Ok(())
        } else {
            Err(malformed("a sequence contains tokens that belong to no document"))
        }
    }

    fn get(&self, document: u64) -> Result<OneDocument> {
        let mut record = [0; RECORD];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(document * RECORD as u64))?;
        file.read_exact(&mut record)?;
        Ok(OneDocument::decode(record))
    }

    fn put(&self, document: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(document * RECORD as u64 + offset))?;
        Ok(file.write_all(bytes)?)
    }

    fn add_documents(&mut self, context: &Context, settings: &SliceSettings, table: &Table) -> Result<()> {
        let named = named_licenses(context, table, settings.licenses)?;
        let places: HashMap<&str, u16> = (1..).zip(&named).map(|(place, name)| (name.as_str(), place)).collect();
        let of_license = |name: &str| places.get(name).copied().unwrap_or(named.len() as u16 + 1);
        let files = files_of_repositories(context, table)?;
        self.passes(context).each(|ids| {
            for part in table.parts() {
                for batch in part.read(&[ID, REPO_NAME, LICENSE, CONTENT])? {
                    context.cancel.check()?;
                    let batch = batch?;
                    let [id, repository, license, content] =
                        [ID, REPO_NAME, LICENSE, CONTENT].map(|name| text(&batch, name));
                    let (id, repository, license, content) = (id?, repository?, license?, content?);
                    for row in 0..batch.num_rows() {
                        let files = files.get(&identity(repository.value(row))).copied().unwrap_or(0);
                        let facts = Facts {
                            license: if license.is_null(row) { 0 } else { of_license(license.value(row)) },
                            repository_files: slice_of(&settings.repository_files, files),
                            file_bytes: slice_of(&settings.file_bytes, content.value(row).len() as u64),
                        };
                        // If several rows have the same id, and thus equal texts and repositories, the last one is used.
                        let id = digest(id.value(row))?;
                        ids.of(&id).try_for_each(|document| self.put(document, 0, &facts.encode()))?;
                    }
                }
            }
            Ok(())
        })?;
        self.licenses = [vec!["no license".to_owned()], named, vec!["other licenses".to_owned()]].concat();
        match self.count(|document| document.facts.is_none())? {
            0 => Ok(()),
            missing => Err(StageError::new(format!(
                "the table 'documents' lacks {} of the {} of the tokens",
                count(missing),
                counted(self.index.documents() as u64, "document")
            ))
            .hint("connect the table that the pack stage reads, such as split.valid")),
        }
    }

    fn add_contaminated(&self, context: &Context, tree: &InputTree) -> Result<()> {
        let mut named = 0;
        let passes = self.passes(context);
        passes.each(|ids| {
            named = 0;
            for batch in read_rows(tree)? {
                context.cancel.check()?;
                let batch = batch?;
                named += batch.num_rows() as u64;
                let ids_of_rows =
                    text(&batch, ID).map_err(|error| error.hint("it names contaminated documents by their ids"))?;
                for id in ids_of_rows.iter().flatten() {
                    ids.of(&digest(id)?).try_for_each(|document| self.put(document, CONTAMINATED, &[1, 0]))?;
                }
            }
            Ok(())
        })?;
        let found = self.count(|document| document.is_contaminated)?;
        context.progress.info(format!(
            "{} of {} are contaminated; 'contaminated' has {}",
            count(found),
            counted(self.index.documents() as u64, "document"),
            counted(named, "row"),
        ));
        Ok(())
    }

    /// Counts documents; reads the file from its beginning.
    fn count(&self, mut is: impl FnMut(OneDocument) -> bool) -> Result<u64> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let (mut record, mut number) = ([0; RECORD], 0);
        for _ in 0..self.index.documents() {
            reader.read_exact(&mut record)?;
            number += u64::from(is(OneDocument::decode(record)));
        }
        Ok(number)
    }

    fn passes(&self, context: &Context) -> Passes<'_> {
        let most = (context.resources.memory / PART_OF_MEMORY / ID_BYTES).max(LEAST_IDS);
        Passes { index: &self.index, count: (self.index.documents() as u64).div_ceil(most).max(1) }
    }
}

impl Facts {
    fn encode(self) -> [u8; CONTAMINATED as usize] {
        let [a, b, c] = [self.license + 1, self.repository_files, self.file_bytes].map(u16::to_le_bytes);
        [a[0], a[1], b[0], b[1], c[0], c[1]]
    }
}

impl OneDocument {
    fn decode(record: [u8; RECORD]) -> Self {
        let number = |at: usize| u16::from_le_bytes([record[at], record[at + 1]]);
        let facts = |license| Facts { license, repository_files: number(2), file_bytes: number(4) };
        Self { facts: number(0).checked_sub(1).map(facts), is_contaminated: number(CONTAMINATED as usize) != 0 }
    }
}

/// The ids of an index, in passes over equal ranges with about equally many ids.
struct Passes<'i> {
    index: &'i DocumentIndex,
    count: u64,
}

/// The ids of a pass, sorted, with the documents that have them.
struct Ids(Vec<(Digest, u64)>);

impl Passes<'_> {
    fn each(&self, mut pass: impl FnMut(&Ids) -> Result<()>) -> Result<()> {
        for number in 0..self.count {
            let entry = |document| Some((self.index.get(document)?.id, document as u64));
            let of_pass = |(id, _): &(Digest, u64)| self.of(id) == number;
            let mut ids: Vec<_> = (0..self.index.documents()).filter_map(entry).filter(of_pass).collect();
            ids.sort_unstable();
            pass(&Ids(ids))?;
        }
        Ok(())
    }

    /// Returns the pass of an id.
    fn of(&self, id: &Digest) -> u64 {
        let first = id.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        ((u128::from(first) * u128::from(self.count)) >> 64) as u64
    }
}

impl Ids {
    /// Returns the documents with an id: several if rows of the table are equal, none if they belong to another pass.
    fn of(&self, id: &Digest) -> impl Iterator<Item = u64> {
        let first = self.0.partition_point(|(other, _)| other < id);
        self.0[first..].iter().take_while(move |(other, _)| other == id).map(|(_, document)| *document)
    }
}

/// Checks that an index belongs to packed tokens.
fn check_index(index: &DocumentIndex, tokens: &PackedTokens) -> Result<()> {
    let needed = tokens.sequences() as u64 * tokens.sequence_length() as u64;
    let last = index.documents().checked_sub(1).and_then(|last| index.get(last));
    match index.sequences() == tokens.sequences() as u64 && last.is_some_and(|last| last.start + last.tokens >= needed)
    {
        true => Ok(()),
        false => Err(malformed("it is not the index of these tokens")),
    }
}

fn malformed(problem: &str) -> StageError {
    StageError::new(format!("{} does not fit {}: {problem}", tokens::index::FILE, tokens::packed::FILE))
}

/// Returns the licenses with the most documents; ties are ordered by name.
fn named_licenses(context: &Context, table: &Table, most: u16) -> Result<Vec<String>> {
    let mut named = BTreeSet::new();
    each_value(context, table, LICENSE, |license, rows| {
        named.insert((Reverse(rows), license.to_owned()));
        if named.len() > usize::from(most) {
            named.pop_last();
        }
    })?;
    Ok(named.into_iter().map(|(_, license)| license).collect())
}

/// Returns the number of rows of each repository, by the hash of its name.
fn files_of_repositories(context: &Context, table: &Table) -> Result<HashMap<u128, u64>> {
    let mut files = HashMap::new();
    each_value(context, table, REPO_NAME, |name, rows| {
        files.insert(identity(name), rows);
    })?;
    Ok(files)
}

/// Calls `each` with every distinct value of a string column and the number of its rows, in any order.
fn each_value(context: &Context, table: &Table, column: &str, mut each: impl FnMut(&str, u64)) -> Result<()> {
    let session = Session::new(context)?;
    let plan = session.documents(table)?.aggregate(vec![col(column)], vec![rows(lit(1i64)).alias(ROWS)]);
    session.stream(plan.map_err(plan_error)?, |batch| {
        let values = text(&batch, column)?;
        let counts = batch.column_by_name(ROWS).and_then(|rows| rows.as_primitive_opt::<Int64Type>());
        let counts: &Int64Array = counts.ok_or_else(|| StageError::new("the plan returned no row count"))?;
        for (value, rows) in values.iter().zip(counts.values()) {
            if let Some(value) = value {
                each(value, u64::try_from(*rows).unwrap_or(0));
            }
        }
        Ok(())
    })
}

/// Identifies a repository by 128 bits of the hash of its name.
fn identity(repository: &str) -> u128 {
    let digest = Digest::of(repository.as_bytes());
    digest.as_bytes().first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes))
}

/// Returns a string column, whatever its layout.
fn text(batch: &RecordBatch, name: &str) -> Result<StringArray> {
    let column = batch.column_by_name(name).and_then(|column| cast(column, &DataType::Utf8).ok());
    let column = column.and_then(|column| column.as_string_opt::<i32>().cloned());
    column.ok_or_else(|| StageError::new(format!("the table has no column '{name}' of text")))
}

fn digest(id: &str) -> Result<Digest> {
    let invalid = || StageError::new(format!("'{}' is not the id of a document", shortened(id)));
    id.parse()
        .map_err(|_| invalid().hint("an id has 64 hexadecimal digits; it is the column id of tables of documents"))
}
