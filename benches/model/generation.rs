//! Compares generation with the key-value cache to plain forward passes, with the same model, prompts and greedy sampling.
//!
//! `plain` is generation without a cache: each sequence alone, and the whole sequence read again for each new token. Both must generate the
//! same tokens, or the program fails. It prints seconds, tokens per second and the ratio.
//!
//! ```text
//! cargo bench --workspace --bench generation -- [LAYERS WIDTH HEADS VOCABULARY PROMPT TOTAL ROWS]
//! ```

use std::time::Instant;

use burn::tensor::{Device, Int, Tensor, TensorData};
use contract::{Cancel, Draw, Progress, Result, StageError};
use model::generate::{Generation, Generator, Request, Sampling, Stops};
use model::initial::initial_values;
use model::{Gpt2, Gpt2Config};

/// Layers, width, heads, vocabulary, prompt tokens, total tokens, rows.
const DEFAULT: [usize; 7] = [6, 384, 6, 8192, 32, 128, 16];

fn main() -> Result<()> {
    let mut sizes = DEFAULT;
    let numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    sizes.iter_mut().zip(numbers).for_each(|(size, number)| *size = number);
    let [layers, width, heads, vocabulary, prompt, total, rows] = sizes;
    let config = Gpt2Config { vocabulary, positions: total, width, layers, heads, end_of_text: None };
    let model = Gpt2::new(&config, &Device::flex(), |tensor| Ok::<_, StageError>(initial_values(&config, 1, tensor)))?;
    let requests: Vec<Request> = (0..rows)
        .map(|row| Request { prompt: ids(row, prompt - row % (prompt / 2).max(1), vocabulary), maximum: total })
        .collect();
    println!(
        "{:.1}M parameters, {rows} rows, prompts of at most {prompt} tokens, {total} in all",
        config.parameters() as f64 / 1e6
    );

    let generator = Generator::new(config, model.clone())?;
    let (cached, cached_seconds) = timed(|| with_cache(&generator, &requests))?;
    let (plain, plain_seconds) = timed(|| without_cache(&model, &requests))?;
    if cached != plain {
        return Err(StageError::new("the cache changes the generated tokens"));
    }
    let tokens: usize = cached.iter().map(Vec::len).sum();
    for (name, seconds) in [("plain", plain_seconds), ("cached", cached_seconds)] {
        println!("{name:>7} {seconds:8.2} s {:10.1} tokens/s", tokens as f64 / seconds);
    }
    println!("  ratio {:8.1}", plain_seconds / cached_seconds);
    Ok(())
}

/// Returns ids that differ between rows.
fn ids(row: usize, count: usize, vocabulary: usize) -> Vec<u32> {
    (0..count).map(|at| ((row * 7919 + at * 104_729) % vocabulary) as u32).collect()
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let started = Instant::now();
    let done = work()?;
    Ok((done, started.elapsed().as_secs_f64()))
}

fn with_cache(generator: &Generator, requests: &[Request]) -> Result<Vec<Vec<u32>>> {
    let generation = Generation {
        sampling: Sampling::GREEDY,
        completions: 1,
        batch: requests.len(),
        end_of_text: None,
        stops: &Stops::default(),
        bytes: &|_| b"",
        draw: &Draw::new(1, "bench"),
        cancel: &Cancel::default(),
        progress: &Progress::default(),
    };
    let completions = generator.complete(requests, &generation)?;
    Ok(completions.into_iter().flatten().map(|completion| completion.tokens).collect())
}

fn without_cache(model: &Gpt2, requests: &[Request]) -> Result<Vec<Vec<u32>>> {
    let complete = |request: &Request| {
        let mut ids: Vec<i32> = request.prompt.iter().map(|&id| id as i32).collect();
        while ids.len() < request.maximum {
            let data = TensorData::new(ids.clone(), [1, ids.len()]);
            let features = model.features(Tensor::<2, Int>::from_data(data, &Device::flex()), model::Precision::F32);
            let [_, tokens, width] = features.dims();
            let last = features.slice([0..1, tokens - 1..tokens]).reshape([1, width]);
            let logits = model::parameters::host_values(model.head(last).flatten::<1>(0, 1))?;
            let id = Sampling::GREEDY.choose(&logits, 0.0).ok_or_else(|| StageError::new("logits are not finite"))?;
            ids.push(id as i32);
        }
        Ok(ids[request.prompt.len()..].iter().map(|&id| id as u32).collect())
    };
    requests.iter().map(complete).collect()
}
