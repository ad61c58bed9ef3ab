//! Packs one split: tokenises documents in parallel, sorts them, and cuts the stream into sequences.
//!
//! 1. The documents of each part are tokenised into a separate scratch file, each followed by the end-of-text token; a record of each
//!    document goes to the [`Recorder`]. Every document is decoded again and must match its bytes. One document in [`CHECK_ONE_IN`] and the
//!    first of each part, if not longer than [`CHECK_BYTES`], are also encoded by `tokenizers` and must have the same ids.
//! 2. The records are sorted and the tokens are joined into one stream, without the incomplete last sequence.
//! 3. The stream is written as the packed file, in order or, with shuffled sequences, in the order of the shuffle.
//!
//! Disk: twice the tokens, in scratch. Memory: a row group of text and its ids for each thread, and a part of the records.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use contract::{Context, Digest, Draw, OutputTree, Result, StageError, Unit};
use memmap2::Mmap;
use serde::Serialize;
use tables::{Part, Table, each_part};

use crate::documents;
use crate::index::{self, Entry, IndexWriter};
use crate::pack::order::{Record, Recorder};
use crate::pack::{Shuffle, Spec};
use crate::packed::{self, Header, PackedWriter};
use crate::permutation::Permutation;
use crate::splitter::pieces;
use crate::text::TextTokenizer;

/// The interval of documents that are also encoded by the reference.
const CHECK_ONE_IN: u64 = 2000;
/// The maximum length of texts that are checked with the reference, which takes seconds for longer texts, and much longer for one long
/// word.
const CHECK_BYTES: usize = 256 << 10;
/// The length above which texts are tokenised piece by piece.
const PIECE_BYTES: usize = 8 << 20;

/// The counts of every token of a split, computed from the tokens except for the number of documents, which is that of the table. Each
/// document has its end-of-text token, and `text_tokens + end_of_text_tokens = tokens = emitted + dropped`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Ledger {
    /// The number of documents in the table.
    pub documents: u64,
    /// The number of their characters.
    pub characters: u64,
    /// The number of their bytes.
    pub bytes: u64,
    /// The number of tokens of their text.
    pub text_tokens: u64,
    /// The number of end-of-text tokens: one per document.
    pub end_of_text_tokens: u64,
    /// The number of all input tokens.
    pub tokens: u64,
    /// The number of tokens in sequences.
    pub emitted: u64,
    /// The number of tokens in the incomplete last sequence.
    pub dropped: u64,
    /// The number of bytes of text of the tokens in sequences.
    pub emitted_bytes: u64,
    /// The number of sequences.
    pub sequences: u64,
    /// The share of the input tokens that is in sequences.
    pub utilisation: f64,
    /// The number of characters per token of text.
    pub characters_per_token: f64,
    /// The number of bytes per token of text.
    pub bytes_per_token: f64,
    /// The number of documents that `tokenizers` also encoded, to equal ids.
    pub checked: u64,
}

/// The settings and tokenizers with which all splits are packed.
pub struct Packer<'a> {
    pub spec: &'a Spec,
    pub context: &'a Context,
    pub tokenizer: &'a TextTokenizer,
    /// The tokenizer of `tokenizers`, which encodes special tokens in text as ordinary text.
    pub reference: &'a tokenizers::Tokenizer,
}

impl Packer<'_> {
    /// Packs a table into `tokens.bin` and `documents.bin` of an output.
    pub fn pack(&self, name: &str, table: &Table, output: &OutputTree) -> Result<Ledger> {
        let scratch = self.context.scratch.join(name);
        fs::create_dir_all(&scratch)?;
        let recorder = Recorder::create(&scratch.join("records"))?;
        self.context.progress.start(&format!("tokenise {name}"), Unit::Rows, Some(table.rows()));
        let parts: Vec<_> = table.parts().iter().zip(0u32..).collect();
        let ledgers =
            each_part(self.context, &parts, |(part, number)| self.tokenise(part, *number, &scratch, &recorder))?;
        let promised = Ledger { documents: table.rows(), ..Ledger::default() };
        let mut ledger = ledgers.into_iter().fold(promised, Ledger::plus);
        ledger.close(self.spec.sequence_length)?;
        let stream = scratch.join("stream");
        self.gather(&scratch, parts.len(), recorder, &stream, &mut ledger, output)?;
        self.write(name, &stream, &ledger, output)?;
        fs::remove_dir_all(&scratch)?;
        Ok(ledger)
    }

    fn tokenise(&self, part: &Part, number: u32, scratch: &Path, recorder: &Recorder) -> Result<Ledger> {
        let draw = Draw::new(self.context.seed, "pack documents");
        let check = Draw::new(self.context.seed, "pack check");
        let mut ledger = Ledger::default();
        let mut file = BufWriter::with_capacity(1 << 20, File::create(part_file(scratch, number))?);
        let (mut row, mut bytes, mut ids) = (0, Vec::new(), Vec::new());
        for batch in documents::texts(part)? {
            let (batch, texts) = batch?;
            let mut records = Vec::with_capacity(texts.iter().len());
            for (id, text) in batch.iter().zip(texts.iter()) {
                self.context.cancel.check()?;
                let digest: Digest = id.parse().map_err(|error| StageError::new(format!("{error}")))?;
                let start = ledger.tokens;
                let is_checked =
                    (row == 0 || check.bits(id.as_bytes()).is_multiple_of(CHECK_ONE_IN)) && text.len() <= CHECK_BYTES;
                ledger.checked += u64::from(is_checked);
                for piece in pieces(text, PIECE_BYTES) {
                    ids.clear();
                    ids.extend(self.tokenizer.encode(piece)?);
                    if is_checked {
                        self.compare(id, piece, &ids)?;
                    }
                    self.decodes(id, piece, &ids)?;
                    self.write_ids(&ids, &mut bytes, &mut file)?;
                    ledger.text_tokens += ids.len() as u64;
                    ledger.tokens += ids.len() as u64;
                }
                self.write_ids(&[self.tokenizer.end_of_text()], &mut bytes, &mut file)?;
                ledger.tokens += 1;
                ledger.end_of_text_tokens += 1;
                ledger.characters += text.chars().count() as u64;
                ledger.bytes += text.len() as u64;
                let key = match self.spec.shuffle {
                    Shuffle::None => u64::from(number) << 32 | row,
                    Shuffle::Documents | Shuffle::Sequences => draw.bits(id.as_bytes()),
                };
                records.push(Record { key, id: digest, part: number, start, tokens: ledger.tokens - start });
                row += 1;
            }
            recorder.add(&records)?;
            self.context.progress.add(records.len() as u64);
        }
        file.flush()?;
        Ok(ledger)
    }

    /// Checks that `tokenizers` encodes the text to the same ids.
    fn compare(&self, id: &str, text: &str, ids: &[u32]) -> Result<()> {
        let encoding = self.reference.encode_fast(text, false);
        let encoding = encoding.map_err(|error| StageError::new(format!("tokenizers cannot encode {id}: {error}")))?;
        if encoding.get_ids() == ids {
            return Ok(());
        }
        Err(StageError::new(format!("document {id}: the encoder and tokenizers return different ids"))
            .hint("this is a bug in the encoder: please report it, with the tokenizer and the document"))
    }

    /// Checks that the ids decode to the text.
    fn decodes(&self, id: &str, text: &str, ids: &[u32]) -> Result<()> {
        let mut rest = text.as_bytes();
        for token in ids {
            rest = rest.strip_prefix(self.tokenizer.token_bytes(*token)).ok_or_else(|| {
                StageError::new(format!("document {id} does not decode to its text"))
                    .hint("the tokenizer lacks bytes: train one with a stage of kind 'tokenizer'")
            })?;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(StageError::new(format!("document {id} lost text when it was encoded")))
        }
    }

    fn width(&self) -> usize {
        self.header(&Ledger::default()).width()
    }

    fn write_ids(&self, ids: &[u32], bytes: &mut Vec<u8>, file: &mut impl Write) -> Result<()> {
        bytes.clear();
        packed::encode_ids(ids, self.width(), bytes);
        Ok(file.write_all(bytes)?)
    }

    /// Joins the documents in order, without the incomplete last sequence.
    fn gather(
        &self,
        scratch: &Path,
        parts: usize,
        recorder: Recorder,
        stream: &Path,
        ledger: &mut Ledger,
        output: &OutputTree,
    ) -> Result<()> {
        let width = self.width();
        let maps = (0u32..).take(parts).map(|number| map(&part_file(scratch, number))).collect::<Result<Vec<_>>>()?;
        let mut file = BufWriter::with_capacity(1 << 20, File::create(stream)?);
        let head = index::Header {
            documents: ledger.documents,
            sequences: ledger.sequences,
            permutation: (self.spec.shuffle == Shuffle::Sequences).then(|| self.permutation_key()),
        };
        let mut index = IndexWriter::new(output.create(index::FILE)?, head)?;
        self.context.progress.start("merge documents", Unit::Rows, Some(ledger.documents));
        let (mut at, mut dropped_bytes, mut ids) = (0, 0, Vec::new());
        recorder.in_order(self.context.resources.memory / 4, |record| {
            self.context.cancel.check()?;
            let place = record.start as usize * width..(record.start + record.tokens) as usize * width;
            let map = maps[record.part as usize].as_deref().unwrap_or_default();
            let bytes = map.get(place).ok_or_else(|| StageError::new("a scratch file changed while the stage ran"))?;
            let kept = record.tokens.min(ledger.emitted.saturating_sub(at)) as usize * width;
            file.write_all(&bytes[..kept])?;
            ids.clear();
            packed::decode_ids(&bytes[kept..], width, &mut ids);
            let text = ids.iter().filter(|id| **id != self.tokenizer.end_of_text());
            dropped_bytes += text.map(|id| self.tokenizer.token_bytes(*id).len() as u64).sum::<u64>();
            index.push(Entry { id: record.id, start: at, tokens: record.tokens })?;
            at += record.tokens;
            self.context.progress.add(1);
            Ok(())
        })?;
        file.flush()?;
        index.finish()?.finish()?;
        if at != ledger.tokens {
            return Err(StageError::new(format!("{at} of {} tokens were read back in order", ledger.tokens)));
        }
        ledger.emitted_bytes = ledger.bytes - dropped_bytes;
        Ok(())
    }

    fn header(&self, ledger: &Ledger) -> Header {
        Header {
            vocabulary: self.tokenizer.vocabulary(),
            end_of_text: self.tokenizer.end_of_text(),
            sequence_length: self.spec.sequence_length.into(),
            sequences: ledger.sequences,
            documents: ledger.documents,
            text_bytes: ledger.emitted_bytes,
        }
    }

    fn permutation_key(&self) -> u64 {
        Draw::new(self.context.seed, "pack sequences").bits(b"")
    }

    /// Writes the packed file from the stream.
    fn write(&self, name: &str, stream: &Path, ledger: &Ledger, output: &OutputTree) -> Result<()> {
        let header = self.header(ledger);
        let size = header.sequence_length as usize * header.width();
        let map = map(stream)?;
        let stream = map.as_deref().unwrap_or_default();
        let order = Permutation::new(self.permutation_key(), ledger.sequences);
        self.context.progress.start(&format!("write {name}"), Unit::Tokens, Some(ledger.emitted));
        let mut writer = PackedWriter::new(output.create(packed::FILE)?, header)?;
        let mut ids = Vec::new();
        for sequence in 0..ledger.sequences {
            self.context.cancel.check()?;
            let from = if self.spec.shuffle == Shuffle::Sequences { order.apply(sequence) } else { sequence };
            let place = from as usize * size..(from as usize + 1) * size;
            let bytes =
                stream.get(place).ok_or_else(|| StageError::new("a scratch file changed while the stage ran"))?;
            ids.clear();
            packed::decode_ids(bytes, header.width(), &mut ids);
            writer.push(&ids)?;
            self.context.progress.add(header.sequence_length);
        }
        writer.finish()?.finish()?;
        Ok(())
    }
}

impl Ledger {
    fn plus(self, other: Self) -> Self {
        Self {
            characters: self.characters + other.characters,
            bytes: self.bytes + other.bytes,
            text_tokens: self.text_tokens + other.text_tokens,
            end_of_text_tokens: self.end_of_text_tokens + other.end_of_text_tokens,
            tokens: self.tokens + other.tokens,
            checked: self.checked + other.checked,
            ..self
        }
    }

    /// Counts the tokens in sequences and checks that none is lost.
    fn close(&mut self, sequence_length: u32) -> Result<()> {
        let length = u64::from(sequence_length);
        self.sequences = self.tokens / length;
        self.emitted = self.sequences * length;
        self.dropped = self.tokens - self.emitted;
        let ratio = |numerator: u64, denominator: u64| numerator as f64 / denominator.max(1) as f64;
        self.utilisation = ratio(self.emitted, self.tokens);
        self.characters_per_token = ratio(self.characters, self.text_tokens);
        self.bytes_per_token = ratio(self.bytes, self.text_tokens);
        let conserved = self.text_tokens + self.end_of_text_tokens == self.tokens
            && self.end_of_text_tokens == self.documents
            && self.dropped < length;
        if conserved { Ok(()) } else { Err(StageError::new(format!("the token counts do not add up: {self:?}"))) }
    }
}

fn part_file(scratch: &Path, number: u32) -> PathBuf {
    scratch.join(format!("part-{number}"))
}

/// Maps a scratch file; `None` if it is empty, which cannot be mapped.
fn map(path: &Path) -> Result<Option<Mmap>> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(None);
    }
    // SAFETY: the file is in the stage's own scratch directory, which only one process at a time uses under the lock of its key; this
    // stage has written it completely and does not write to it any more.
    Ok(Some(unsafe { Mmap::map(&file) }?))
}
