//! One shard, from its bytes to its parts.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use contract::figures::counted;
use contract::{Context, GivenFile, Progress, Result, StageError};
use tables::{Document, ShardWriter};

use super::Spec;
use super::column;
use super::form::Form;
use super::lines::{Line, Lines};
use super::members::Members;
use super::row::Row;
use super::shard_result::{BadRow, ShardResult, Tables};

/// The number of bytes read from a file, and decoded, at a time.
const BUFFER: usize = 256 << 10;
/// The maximum number of bytes of a bad row that are shown.
const EXCERPT: usize = 160;
/// The number of bytes that a line may have beyond its content.
const OTHER_COLUMNS: u64 = 1 << 20;
/// The hint if no unreadable shard is allowed.
const SKIP: &str = "download the file again, or set max_bad_shards to skip such shards";

/// Returns whether a file of this name has no header, and so may be empty.
pub(super) fn is_plain(file: &GivenFile) -> bool {
    !file.has_extension("gz") && !file.has_extension("parquet")
}

/// Reads a shard of this format and writes its parts.
///
/// # Errors
/// Returns an error for more bad rows or unreadable shards than allowed, an error of the operating system, or an error if the stage was asked to
/// stop.
pub(super) fn import(spec: &Spec, source: &GivenFile, form: &Form, context: &Context) -> Result<ShardResult> {
    let failed = |error: io::Error| StageError::io("read", &error).in_file(&source.name);
    let file = File::open(&source.location).map_err(failed)?;
    let reader = |file| BufReader::with_capacity(BUFFER, Counted { file, progress: &context.progress });
    let mut shard = Shard::new(spec, source, context)?;
    match form {
        Form::Lines => shard.lines(reader(file), false)?,
        Form::Gzip => shard.lines(BufReader::with_capacity(BUFFER, Members::new(reader(file))), true)?,
        Form::Parquet => {
            column::read(file, spec.max_line, &mut shard)?;
            context.progress.add(source.size);
        }
        Form::Other(other) => {
            shard.break_off(bad_shard(1, other.kind, other.reason()))?;
            context.progress.add(source.size);
        }
    }
    shard.finish()
}

/// Returns the row of `rejected` for a shard that cannot be read from this line on.
pub(super) fn bad_shard(line: u64, kind: &'static str, reason: String) -> BadRow {
    BadRow { line, kind, reason, excerpt: String::new() }
}

/// A shard being read.
pub(super) struct Shard<'a> {
    spec: &'a Spec,
    source: &'a GivenFile,
    context: &'a Context,
    documents: ShardWriter<'a>,
    tables: Tables<'a>,
    result: ShardResult,
    /// The reason of the first malformed row.
    first_fault: Option<String>,
}

impl<'a> Shard<'a> {
    fn new(spec: &'a Spec, source: &'a GivenFile, context: &'a Context) -> Result<Self> {
        Ok(Self {
            spec,
            source,
            context,
            documents: ShardWriter::new(context.outputs.tree("documents")?, source.digest),
            tables: Tables::new(context, source.digest)?,
            result: ShardResult::default(),
            first_fault: None,
        })
    }

    fn finish(self) -> Result<ShardResult> {
        self.documents.finish()?;
        self.tables.finish()?;
        Ok(self.result)
    }

    fn lines(&mut self, reader: impl BufRead, gzip: bool) -> Result<()> {
        // JSON writes a byte as at most six bytes: `\u0001`.
        let limit = self.spec.max_line.saturating_mul(6).saturating_add(OTHER_COLUMNS);
        let mut lines = Lines::new(reader, limit);
        loop {
            self.context.cancel.check()?;
            // The line borrows the reader, so the number is read first.
            let number = lines.number() + 1;
            let bad = |kind, reason: String, line: &[u8]| BadRow { line: number, kind, reason, excerpt: excerpt(line) };
            let line = match lines.next() {
                Ok(None) => return self.end_of_lines(),
                Ok(Some(line)) => line,
                Err(error) if gzip && error.kind() == ErrorKind::UnexpectedEof => {
                    let reason = "the gzip file is truncated here".to_owned();
                    return self.break_off(bad_shard(number, "gzip", reason));
                }
                Err(error) if gzip && matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput) => {
                    let reason = format!("the gzip file cannot be read further: {error}");
                    return self.break_off(bad_shard(number, "gzip", reason));
                }
                Err(error) => return Err(StageError::io("read", &error).at(&self.source.name, number)),
            };
            match line {
                Line::Whole(line) if line.iter().all(u8::is_ascii_whitespace) => self.result.blank_lines += 1,
                Line::Whole(line) => match std::str::from_utf8(line) {
                    Err(error) => {
                        let at = error.valid_up_to();
                        self.reject(bad("utf-8", format!("no UTF-8 at byte {at} of the line"), line))?;
                    }
                    Ok(text) => match Row::parse(text) {
                        Ok(row) => match row.too_long(self.spec.max_line) {
                            None => self.keep_or_drop(&row)?,
                            Some(reason) => self.reject(bad("long line", reason, line))?,
                        },
                        Err(reason) => self.reject(bad("json", format!("not a row: {reason}"), line))?,
                    },
                },
                Line::TooLong(start, length) => {
                    let max = self.spec.max_line;
                    let reason = format!("the line has {length} bytes, more than max_line = {max} allows ({limit})");
                    self.reject(bad("long line", reason, start))?;
                }
            }
        }
    }

    /// Counts a bad row, and fails if it exceeds the limit.
    pub(super) fn reject(&mut self, row: BadRow) -> Result<()> {
        *self.result.rejected.entry(row.kind).or_default() += 1;
        self.first_fault.get_or_insert_with(|| row.reason.clone());
        if self.result.rejected_rows() <= self.spec.max_bad_rows {
            return self.tables.reject(row);
        }
        let hint = match self.spec.max_bad_rows {
            0 => "set max_bad_rows to write such rows to the output 'rejected' instead".to_owned(),
            limit => format!("it is one more than max_bad_rows = {limit}"),
        };
        Err(StageError::new(row.reason).at(&self.source.name, row.line).hint(hint))
    }

    /// Rejects a file without any valid row: it does not contain JSON lines, or is not from this export.
    fn end_of_lines(&mut self) -> Result<()> {
        let rejected = self.result.rejected_rows();
        if self.result.attrition.rows > 0 || rejected == 0 {
            return Ok(());
        }
        let reason = self.first_fault.take().unwrap_or_default();
        let reason = format!("none of {} is a row; the first: {reason}", counted(rejected, "line"));
        self.break_off(bad_shard(1, "no rows", reason))
    }

    /// Counts the shard as unreadable from this line on. Fails if no unreadable shard is allowed, otherwise warns about the lost rows.
    pub(super) fn break_off(&mut self, row: BadRow) -> Result<()> {
        let (name, line) = (self.source.name.display(), row.line);
        if self.spec.max_bad_shards == 0 {
            return Err(StageError::new(row.reason).at(&self.source.name, line).hint(SKIP));
        }
        let kept = match self.result.attrition.kept {
            0 => "nothing of the file is kept".to_owned(),
            1 => "the 1 row before it that passed is kept, the rest of the file is lost".to_owned(),
            rows => {
                let rows = counted(rows, "row");
                format!("the {rows} before it that passed are kept, the rest of the file is lost")
            }
        };
        self.context.progress.warn(format!("{name}:{line}: {}: {kept}", row.reason));
        self.result.unreadable = Some(row.kind);
        self.tables.reject(row)
    }

    /// Applies the query's WHERE to a row.
    pub(super) fn keep_or_drop(&mut self, row: &Row<'_>) -> Result<()> {
        let Spec { suffix, min_size, max_size, allow_binary, .. } = self.spec;
        let document = Document {
            repo_name: &row.repo_name,
            path: &row.path,
            copies: row.copies,
            size: row.size,
            license: row.license.as_deref(),
            content: &row.content,
        };
        let result = &mut self.result;
        result.attrition.rows += 1;
        result.rows_with_extra_columns += u64::from(row.extra_columns > 0);
        result.size_mismatches += u64::from(usize::try_from(row.size) != Ok(row.content.len()));
        let in_range = u64::try_from(row.size).is_ok_and(|size| (*min_size..=*max_size).contains(&size));
        let dropped = if !row.path.ends_with(suffix.as_str()) {
            Some(("suffix", format!("not {suffix}")))
        } else if !in_range {
            Some(("size", row.size.to_string()))
        } else if !allow_binary && row.content.as_bytes().contains(&0) {
            Some(("binary", "NUL".to_owned()))
        } else {
            None
        };
        let bytes = row.content.len() as u64;
        match dropped {
            Some((rule, detail)) => {
                result.attrition.drop_rows(rule, 1, bytes);
                self.tables.drop_row(&document, rule, detail)
            }
            None => {
                result.attrition.kept += 1;
                result.attrition.kept_bytes += bytes;
                self.documents.push(&document)
            }
        }
    }

    /// Returns an error if the stage was asked to stop; to be called between batches.
    pub(super) fn check(&self) -> Result<()> {
        self.context.cancel.check()
    }
}

/// Returns the beginning of a line, for messages.
pub(super) fn excerpt(line: &[u8]) -> String {
    let cut = &line[..EXCERPT.min(line.len())];
    String::from_utf8_lossy(cut).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A reader that reports the bytes read from a file as progress.
struct Counted<'a> {
    file: File,
    progress: &'a Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.progress.add(read as u64);
        Ok(read)
    }
}
