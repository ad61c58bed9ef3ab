//! Completes prompts in batches.

use contract::{Cancel, Draw, Progress, Result, StageError};
use rayon::prelude::*;

use super::engine::Engine;
use super::sampling::Sampling;
use super::stops::Stops;
use crate::config::Gpt2Config;

/// A prompt to complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The ids.
    pub prompt: Vec<u32>,
    /// The maximum number of tokens, including the prompt (Hugging Face's `max_length`).
    pub maximum: usize,
}

/// The reason that a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The model generated the end-of-text token (which is not part of the completion).
    EndOfText,
    /// The completion contains a stop text.
    Stop,
    /// The completion has the maximum length that the request allows.
    Maximum,
    /// The completion has the maximum length that the model supports.
    Positions,
    /// The prompt leaves no room for a token.
    NoRoom,
}

/// The completion of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The new ids.
    pub tokens: Vec<u32>,
    /// The reason that it ended.
    pub end: End,
}

/// The settings of generation.
pub struct Generation<'a> {
    /// The settings for choosing a token.
    pub sampling: Sampling,
    /// The number of completions of each prompt.
    pub completions: usize,
    /// The maximum number of rows in a batch.
    pub batch: usize,
    /// The id that ends a text.
    pub end_of_text: Option<u32>,
    /// Texts that end a completion.
    pub stops: &'a Stops,
    /// The bytes of an id; called only if there are stops.
    pub bytes: &'a (dyn Fn(u32) -> &'a [u8] + Sync),
    /// The random draws; the identity of a draw is prompt, completion and position, each 8 little-endian bytes.
    pub draw: &'a Draw,
    /// The flag that asks the generation to stop.
    pub cancel: &'a Cancel,
    /// The progress, which counts finished completions.
    pub progress: &'a Progress,
}

/// A completion being generated.
struct Row {
    prompt: usize,
    completion: usize,
    /// The number of tokens of the prompt.
    before: usize,
    /// The maximum number of tokens of the sequence.
    limit: usize,
    /// The reason to report if it ends at the limit.
    at_limit: End,
    tokens: Vec<u32>,
    text: Vec<u8>,
    end: Option<End>,
}

/// A new token of a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewToken {
    /// The number of the request, from 0.
    pub prompt: usize,
    /// The number of the completion, from 0.
    pub completion: usize,
    /// The id.
    pub id: u32,
}

/// Generates the completions of each request, in order, and calls `each` with each new token.
pub(super) fn complete_all(
    config: &Gpt2Config,
    engine: &Engine,
    requests: &[Request],
    generation: &Generation<'_>,
    each: &mut dyn FnMut(NewToken) -> Result<()>,
) -> Result<Vec<Vec<Completion>>> {
    let mut rows = Vec::new();
    for (prompt, request) in requests.iter().enumerate() {
        check(config, prompt, request)?;
        rows.extend((0..generation.completions).map(|completion| Row::new(config, prompt, completion, request)));
    }
    for batch in rows.chunks_mut(generation.batch.max(1)) {
        complete(engine, requests, generation, batch, each)?;
    }
    let mut completions: Vec<Vec<Completion>> = requests.iter().map(|_| Vec::new()).collect();
    for row in rows {
        let end = row.end.ok_or_else(|| StageError::new("a completion has no end"))?;
        completions[row.prompt].push(Completion { tokens: row.tokens, end });
    }
    Ok(completions)
}

fn check(config: &Gpt2Config, prompt: usize, request: &Request) -> Result<()> {
    let number = prompt + 1;
    if request.prompt.is_empty() {
        return Err(StageError::new(format!("prompt {number} has no tokens"))
            .hint("a model needs at least one token to continue from, such as the end-of-text token"));
    }
    match request.prompt.iter().find(|&&id| id as usize >= config.vocabulary) {
        Some(id) => Err(StageError::new(format!(
            "prompt {number} has the id {id}, but the model's vocabulary has {} ids",
            config.vocabulary
        ))
        .hint("use the tokenizer that the model was trained with")),
        None => Ok(()),
    }
}

impl Row {
    fn new(config: &Gpt2Config, prompt: usize, completion: usize, request: &Request) -> Self {
        let limit = request.maximum.min(config.positions);
        let before = request.prompt.len();
        let end = (before >= limit).then_some(End::NoRoom);
        let at_limit = if request.maximum <= config.positions { End::Maximum } else { End::Positions };
        Self { prompt, completion, before, limit, at_limit, tokens: Vec::new(), text: Vec::new(), end }
    }

    /// Chooses the next token from its logits.
    fn grow(&mut self, generation: &Generation<'_>, logits: &[f32]) -> Result<()> {
        let position = self.before + self.tokens.len();
        let unit = if generation.sampling.draws() {
            let identity = [self.prompt, self.completion, position].map(|number| (number as u64).to_le_bytes());
            generation.draw.unit(identity.as_flattened())
        } else {
            0.0
        };
        let id = generation.sampling.choose(logits, unit).ok_or_else(|| {
            StageError::new(format!(
                "the model's logits at position {position} of prompt {} are not finite",
                self.prompt + 1
            ))
            .hint("its training has diverged: check its loss, and lower the learning rate")
        })?;
        if Some(id) == generation.end_of_text {
            self.end = Some(End::EndOfText);
            return Ok(());
        }
        self.tokens.push(id);
        let newest = (generation.bytes)(id);
        self.text.extend_from_slice(newest);
        if generation.stops.ends(&self.text, newest.len()) {
            self.end = Some(End::Stop);
        } else if position + 1 >= self.limit {
            self.end = Some(self.at_limit);
        }
        Ok(())
    }
}

/// Completes the rows of one batch.
fn complete(
    engine: &Engine,
    requests: &[Request],
    generation: &Generation<'_>,
    batch: &mut [Row],
    each: &mut dyn FnMut(NewToken) -> Result<()>,
) -> Result<()> {
    let without_room = batch.iter().filter(|row| row.end.is_some()).count();
    generation.progress.add(without_room as u64);
    let mut rows: Vec<&mut Row> = batch.iter_mut().filter(|row| row.end.is_none()).collect();
    if rows.is_empty() {
        return Ok(());
    }
    // Rows of one prompt are adjacent: it is read once for all of them.
    let prompts = rows.chunk_by(|one, other| one.prompt == other.prompt);
    let prompts: Vec<_> = prompts
        .map(|same| (requests[same[0].prompt].prompt.as_slice(), same.len(), same[0].limit - same[0].before))
        .collect();
    let (mut cached, mut logits) = engine.read_prompts(&prompts, generation.cancel)?;
    loop {
        generation.cancel.check()?;
        let vocabulary = logits.len() / rows.len();
        rows.par_iter_mut()
            .zip(logits.par_chunks_exact(vocabulary))
            .try_for_each(|(row, logits)| row.grow(generation, logits))?;
        for row in rows.iter().filter(|row| row.end != Some(End::EndOfText)) {
            if let Some(&id) = row.tokens.last() {
                each(NewToken { prompt: row.prompt, completion: row.completion, id })?;
            }
        }
        let left: Vec<usize> = (0..rows.len()).filter(|&row| rows[row].end.is_none()).collect();
        generation.progress.add((rows.len() - left.len()) as u64);
        if left.is_empty() {
            return Ok(());
        }
        if left.len() < rows.len() {
            cached.keep(&left);
            rows.retain(|row| row.end.is_none());
        }
        let newest: Vec<u32> = rows.iter().filter_map(|row| row.tokens.last().copied()).collect();
        logits = engine.step(&mut cached, &newest, generation.cancel)?;
    }
}
