//! Compares generation on the CPU with Hugging Face transformers: same model, prompts, number of tokens and threads, greedy sampling.
//!
//! The model has random weights and is written to a temporary directory in Hugging Face format, which the peer
//! (`transformers_generation.py`) loads. Ours and the peer take turns, and the ratio is the median over the turns, so that other load on
//! the machine affects both equally. Both must generate the same tokens, or the program fails. Without transformers it prints `skipped:
//! transformers is not installed`, and its own figures.
//!
//! ```text
//! cargo bench --workspace --bench transformers_generation -- [LAYERS WIDTH HEADS VOCABULARY PROMPT NEW THREADS TURNS]
//! PYTHON=venv/bin/python cargo bench --workspace --bench transformers_generation     # another Python than python3
//! ```

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use burn::tensor::Device;
use contract::{Cancel, Draw, Progress, Result, StageError};
use model::generate::{Generation, Generator, Request, Sampling, Stops};
use model::initial::initial_values;
use model::{Gpt2, Gpt2Config, folder};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Layers, width, heads, vocabulary, prompt tokens, new tokens, threads, turns.
const DEFAULT: [usize; 8] = [12, 768, 12, 50_257, 64, 128, 2, 3];
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/model/transformers_generation.py");

fn main() -> Result<()> {
    let mut sizes = DEFAULT;
    let numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    sizes.iter_mut().zip(numbers).for_each(|(size, number)| *size = number);
    let [layers, width, heads, vocabulary, prompt, new, threads, turns] = sizes;
    let config = Gpt2Config { vocabulary, positions: prompt + new, width, layers, heads, end_of_text: None };
    println!(
        "{:.1}M parameters, prompts of {prompt} tokens, {new} new tokens, {threads} threads",
        config.parameters() as f64 / 1e6
    );
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| StageError::new(error.to_string()))?.install(|| {
        let model = random_model(&config)?;
        let dir = tempfile::tempdir().map_err(|error| StageError::io("create a directory", &error))?;
        write_model(&config, &model, dir.path()).map_err(|error| StageError::io("write the model", &error))?;
        let mut peer = Peer::start(dir.path(), threads);
        match &peer {
            Some(peer) => println!("{}", peer.version),
            None => println!("skipped: transformers is not installed"),
        }
        let generator = Generator::new(config, model)?;
        for rows in [1, 16] {
            compare(&generator, &mut peer, [rows, prompt, new, turns])?;
        }
        Ok(())
    })
}

/// Measures `rows` prompts at a time, in turns.
fn compare(generator: &Generator, peer: &mut Option<Peer>, sizes: [usize; 4]) -> Result<()> {
    let [rows, prompt, new, turns] = sizes;
    let prompts: Vec<Vec<u32>> = (0..rows).map(|row| ids(row, prompt, generator.config().vocabulary)).collect();
    let speed = |seconds: f64| (rows * new) as f64 / seconds;
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // The first turn warms both up.
    for turn in 0..=turns {
        let started = Instant::now();
        let tokens = complete(generator, &prompts, new)?;
        let seconds = started.elapsed().as_secs_f64();
        let of_peer = peer.as_mut().map(|peer| peer.complete(&prompts, new)).transpose()?;
        if let Some((_, others)) = &of_peer
            && *others != tokens
        {
            return Err(StageError::new("transformers generated other tokens"));
        }
        if turn > 0 {
            ours.push(speed(seconds));
            theirs.extend(of_peer.iter().map(|(seconds, _)| speed(*seconds)));
            ratios.extend(of_peer.iter().map(|(peer, _)| peer / seconds));
        }
    }
    println!("batch {rows}");
    println!("  pipeline     {:8.1} tokens/s", median(&mut ours));
    if !ratios.is_empty() {
        println!("  transformers {:8.1} tokens/s", median(&mut theirs));
        println!("  ratio        {:8.2}", median(&mut ratios));
    }
    Ok(())
}

fn complete(generator: &Generator, prompts: &[Vec<u32>], new: usize) -> Result<Vec<Vec<u32>>> {
    let requests: Vec<Request> =
        prompts.iter().map(|prompt| Request { prompt: prompt.clone(), maximum: prompt.len() + new }).collect();
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
    let completions = generator.complete(&requests, &generation)?;
    Ok(completions.into_iter().flatten().map(|completion| completion.tokens).collect())
}

fn random_model(config: &Gpt2Config) -> Result<Gpt2> {
    Gpt2::new(config, &Device::flex(), |tensor| Ok(initial_values(config, 1, tensor)))
}

fn write_model(config: &Gpt2Config, model: &Gpt2, dir: &Path) -> std::io::Result<()> {
    std::fs::write(dir.join("config.json"), folder::config_json(config).to_string())?;
    let mut file = std::io::BufWriter::new(std::fs::File::create(dir.join("model.safetensors"))?);
    folder::write_weights(config, model, &mut file).map_err(|error| std::io::Error::other(error.to_string()))?;
    file.flush()
}

/// Returns ids that differ between rows.
fn ids(row: usize, count: usize, vocabulary: usize) -> Vec<u32> {
    (0..count).map(|at| ((row * 7919 + at * 104_729) % vocabulary) as u32).collect()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The running peer.
struct Peer {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    version: String,
}

impl Peer {
    /// Starts the peer; `None` if it does not start, which Python explains on standard error.
    fn start(model: &Path, threads: usize) -> Option<Self> {
        let python = std::env::var_os("PYTHON").unwrap_or_else(|| OsString::from("python3"));
        let mut command = Command::new(python);
        command.arg(PEER).arg(model).arg(threads.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().ok()?;
        let (requests, answers) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        let mut peer = Self { child, requests, answers, version: String::new() };
        peer.version = peer.answer().ok()?["version"].as_str()?.to_owned();
        Some(peer)
    }

    /// Returns the seconds and the new tokens of each prompt.
    fn complete(&mut self, prompts: &[Vec<u32>], new: usize) -> Result<(f64, Vec<Vec<u32>>)> {
        writeln!(self.requests, "{}", json!({ "prompts": prompts, "new": new }))
            .map_err(|error| StageError::io("write to transformers", &error))?;
        let answer = self.answer()?;
        let tokens = serde_json::from_value(answer["tokens"].clone());
        let tokens = tokens.map_err(|error| StageError::new(format!("transformers prints {error}")))?;
        Ok((answer["seconds"].as_f64().unwrap_or(f64::NAN), tokens))
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|error| StageError::io("read from transformers", &error))?;
        serde_json::from_str(&line)
            .map_err(|error| StageError::new(format!("transformers printed invalid JSON: {error}")))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
