//! The input export in memory, ready to be written again: strings escaped as in JSON, with the positions of their
//! words.

use std::collections::HashSet;
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::Value;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::words::{Collector, Found, Words, mix};

/// The files of an export.
pub struct Input {
    /// In the order of the export.
    pub rows: Vec<Row>,
    /// Bytes of text in all rows.
    pub text_bytes: u64,
    /// Rows whose content equals that of an earlier row.
    pub exact_duplicates: u64,
    /// Rows that were not read.
    pub unused: u64,
    words: Words,
}

/// A row; all strings are escaped as in JSON, without quotes.
pub struct Row {
    repo_name: String,
    path: String,
    copies: String,
    size: String,
    content: String,
    license: Option<String>,
    /// Bytes of content before escaping.
    pub text_bytes: u64,
    /// The words of the escaped content, in order.
    words: Vec<Found>,
}

#[derive(Deserialize)]
struct Line {
    repo_name: String,
    path: String,
    copies: Value,
    size: Value,
    content: String,
    license: Option<String>,
}

impl Input {
    /// Reads files in the order of their names, up to `limit` bytes of text.
    pub fn read(export: &Path, limit: u64) -> Result<Self, Box<dyn Error>> {
        let mut shards: Vec<PathBuf> =
            fs::read_dir(export)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        shards.retain(|path| path.is_file());
        shards.sort();
        let (mut collector, mut contents) = (Collector::new(), HashSet::new());
        let (mut rows, mut text_bytes, mut exact_duplicates, mut unused) = (Vec::new(), 0, 0, 0);
        for shard in &shards {
            for (index, line) in lines(shard)?.lines().enumerate() {
                let at = |error: &dyn Error| format!("{}:{}: {error}", shard.display(), index + 1);
                let line = line.map_err(|error| at(&error))?;
                let line: Line = serde_json::from_str(&line).map_err(|error| at(&error))?;
                if text_bytes + line.content.len() as u64 > limit {
                    unused += 1;
                    continue;
                }
                text_bytes += line.content.len() as u64;
                exact_duplicates += u64::from(!contents.insert(xxh3_128(line.content.as_bytes())));
                rows.push(Row::new(line, u32::try_from(rows.len())?, &mut collector)?);
            }
        }
        if rows.is_empty() {
            return Err(format!("{} has no rows", export.display()).into());
        }
        Ok(Self { rows, text_bytes, exact_duplicates, unused, words: collector.finish() })
    }

    /// Appends the line of `row` in copy number `copy`.
    pub fn write_row(&self, row: &Row, copy: u64, seed: u64, null_license: f64, line: &mut Vec<u8>) {
        let key = mix(seed ^ mix(copy));
        line.extend_from_slice(b"{\"repo_name\":\"");
        let repository = line.len();
        let (owner, name) = row.repo_name.split_at(row.repo_name.find('/').unwrap_or(row.repo_name.len()));
        line.extend_from_slice(owner.as_bytes());
        if copy > 0 {
            line.extend_from_slice(format!("-{copy}").as_bytes());
        }
        line.extend_from_slice(name.as_bytes());
        let draw = mix(seed ^ xxh3_64(&line[repository..]));
        line.extend_from_slice(b"\",\"path\":\"");
        line.extend_from_slice(row.path.as_bytes());
        line.extend_from_slice(
            format!("\",\"copies\":\"{}\",\"size\":\"{}\",\"content\":\"", row.copies, row.size).as_bytes(),
        );
        let content = line.len();
        line.extend_from_slice(row.content.as_bytes());
        if copy > 0 {
            for found in &row.words {
                self.words.replace(found.word, key, &mut line[content + found.at as usize..]);
            }
        }
        line.push(b'"');
        let kept = draw as f64 >= null_license * u64::MAX as f64;
        if let Some(license) = row.license.as_ref().filter(|_| kept) {
            line.extend_from_slice(b",\"license\":\"");
            line.extend_from_slice(license.as_bytes());
            line.push(b'"');
        }
        line.extend_from_slice(b"}\n");
    }
}

impl Row {
    fn new(line: Line, number: u32, collector: &mut Collector) -> Result<Self, Box<dyn Error>> {
        let text = |value: Value| match value {
            Value::String(text) => text,
            value => value.to_string(),
        };
        let (mut content, mut words) = (String::with_capacity(line.content.len() * 17 / 16), Vec::new());
        // The text is scanned as it is escaped: words need no escapes.
        let mut copied = 0;
        collector.scan(line.content.as_bytes(), number, |at, word| {
            escape(&line.content[copied..at], &mut content);
            copied = at;
            words.push((content.len(), word));
        });
        escape(&line.content[copied..], &mut content);
        content.shrink_to_fit();
        let place = |(at, word)| Ok(Found { at: u32::try_from(at)?, word });
        let words = words.into_iter().map(place).collect::<Result<_, std::num::TryFromIntError>>()?;
        Ok(Self {
            repo_name: escaped(&line.repo_name),
            path: escaped(&line.path),
            copies: escaped(&text(line.copies)),
            size: escaped(&text(line.size)),
            text_bytes: line.content.len() as u64,
            content,
            license: line.license.as_deref().map(escaped),
            words,
        })
    }
}

/// The lines of a shard, gzip-compressed or not.
fn lines(shard: &Path) -> std::io::Result<Box<dyn BufRead>> {
    let mut reader = BufReader::with_capacity(1 << 18, File::open(shard)?);
    Ok(match reader.fill_buf()?.starts_with(b"\x1f\x8b") {
        true => Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(reader))) as Box<dyn BufRead>,
        false => Box::new(reader),
    })
}

fn escaped(text: &str) -> String {
    let mut to = String::new();
    escape(text, &mut to);
    to
}

/// Appends `text` escaped as BigQuery does.
fn escape(text: &str, to: &mut String) {
    for c in text.chars() {
        match c {
            '"' => to.push_str("\\\""),
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '\r' => to.push_str("\\r"),
            '\t' => to.push_str("\\t"),
            '\u{8}' => to.push_str("\\b"),
            '\u{c}' => to.push_str("\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '=' | '\'' | '\u{7f}' | '\u{2028}' | '\u{2029}' => {
                to.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => to.push(c),
        }
    }
}
