//! Checks and measures training on a device, for `check.sh`. Each command prints JSON objects, one per line.
//!
//! `cargo bench --workspace --bench gpu -- COMMAND` (`--features cuda` for a GPU). If it is started under the name `pipeline`, it runs as
//! that program: a build with CUDA is large, so the bundle for a GPU machine contains it only once.

mod compare;
mod curve;
#[cfg(feature = "cuda")]
mod kernels;
mod operations;
mod parity;
#[cfg(feature = "cuda")]
mod prepare;
mod products;
mod report;
mod smoke;
mod speed;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use burn::tensor::Device;
use clap::{Args, Parser, Subcommand};
use contract::{Result, StageError};
use model::train::adamw::AdamWSettings;
use model::{Gpt2Config, Precision};
use serde_json::Value;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Program {
    #[command(subcommand)]
    command: Command,
    /// `cpu`, `cuda:N` or `auto`.
    #[arg(long, global = true, default_value = "auto")]
    device: contract::Device,
}

#[derive(Subcommand)]
enum Command {
    /// Compares one matrix product with the host's, and runs one training step of a tiny model.
    Smoke,
    /// Each operation of training alone, with its gradients, against the CPU.
    Operations,
    /// Repeats recorded runs of transformers on PyTorch in `f32`.
    Parity { folders: Vec<PathBuf> },
    /// Measures each matrix product of a training step alone, in TFLOP/s.
    Products {
        #[command(flatten)]
        sizes: Sizes,
        /// Also measures a square product of this size.
        #[arg(long, default_value_t = 8192, value_parser = from_one)]
        square: usize,
    },
    /// Measures the training speed in tokens per second, and the time of each part of a step.
    Speed {
        #[command(flatten)]
        sizes: Sizes,
        #[command(flatten)]
        speed: speed::Speed,
    },
    /// Compiles the kernels of a training step and all candidates for tuning, without computing anything.
    #[cfg(feature = "cuda")]
    Prepare {
        #[command(flatten)]
        sizes: Sizes,
        #[arg(long, default_value = "f32", value_parser = speed::precision)]
        precision: Precision,
        /// Saves all kernels compiled so far to this file.
        #[arg(long)]
        save: Option<PathBuf>,
    },
    /// Lists every kernel of one training step, with its launches and its time.
    #[cfg(feature = "cuda")]
    Kernels {
        #[command(flatten)]
        sizes: Sizes,
        #[arg(long, default_value = "f32", value_parser = speed::precision)]
        precision: Precision,
    },
    /// Measures the memory that two training steps reserve, without computing anything.
    #[cfg(feature = "cuda")]
    Memory {
        #[command(flatten)]
        sizes: Sizes,
        #[arg(long, default_value = "f32", value_parser = speed::precision)]
        precision: Precision,
    },
    /// Writes docs/gpu-checks.md from `check.sh --list` and a `summary.jsonl`.
    Report { list: PathBuf, summary: PathBuf },
    /// Compares one number in two JSON files.
    Compare {
        /// JSON pointer to the number.
        pointer: String,
        /// Largest allowed difference.
        within: f64,
        one: PathBuf,
        other: PathBuf,
        /// Whether the difference is relative to the first number.
        #[arg(long)]
        relative: bool,
    },
    /// Checks that one number of a JSON file is at most a given fraction of another.
    Fell {
        /// JSON pointers to the numbers.
        first: String,
        last: String,
        share: f64,
        file: PathBuf,
    },
    /// Compares the loss curves of both precisions from the same initial weights.
    Curve {
        #[command(flatten)]
        sizes: Sizes,
        #[arg(long, default_value_t = 200, value_parser = from_one)]
        steps: usize,
        /// The file of token ids in a directory of packed tokens.
        #[arg(long)]
        tokens: Option<PathBuf>,
    },
}

impl Command {
    /// Returns the sizes to compute with, if the command takes any.
    fn sizes(&self) -> Option<Sizes> {
        match self {
            Self::Products { sizes, .. } | Self::Speed { sizes, .. } | Self::Curve { sizes, .. } => Some(*sizes),
            #[cfg(feature = "cuda")]
            Self::Prepare { sizes, .. } | Self::Kernels { sizes, .. } | Self::Memory { sizes, .. } => Some(*sizes),
            _ => None,
        }
    }
}

/// The sizes of a model and of its micro-batch.
#[derive(Args, Clone, Copy)]
struct Sizes {
    #[arg(long, default_value_t = 12, value_parser = from_one)]
    layers: usize,
    /// A multiple of the heads.
    #[arg(long, default_value_t = 768, value_parser = from_one)]
    width: usize,
    #[arg(long, default_value_t = 12, value_parser = from_one)]
    heads: usize,
    #[arg(long, default_value_t = 32_768, value_parser = from_one)]
    vocabulary: usize,
    /// Two or more.
    #[arg(long, default_value_t = 1024, value_parser = from_one)]
    sequence: usize,
    #[arg(long, default_value_t = 12, value_parser = from_one)]
    batch: usize,
}

/// Parses a size or a number of steps.
fn from_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size @ 1..=0x7fff_ffff) => Ok(size),
        _ => Err("expected a whole number from 1 to 2147483647".to_owned()),
    }
}

impl Sizes {
    /// Returns an error for sizes that no model can have.
    fn check(self) -> Result<()> {
        let Self { width, heads, sequence, .. } = self;
        if width % heads != 0 {
            return Err(StageError::new(format!("--width {width} must be a multiple of --heads {heads}")));
        }
        if sequence < 2 {
            return Err(StageError::new("a sequence of one token predicts nothing: --sequence must be 2 or more"));
        }
        Ok(())
    }

    fn config(self) -> Gpt2Config {
        let Self { layers, width, heads, vocabulary, sequence, .. } = self;
        Gpt2Config { vocabulary, positions: sequence, width, layers, heads, end_of_text: None }
    }
}

/// The AdamW settings of CodeParrot's training.
const ADAMW: AdamWSettings = AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1, clip: 1.0 };

fn main() -> ExitCode {
    let name = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    if name.file_stem().is_some_and(|stem| stem == "pipeline") {
        return pipeline::commands::main().into();
    }
    // `cargo bench` adds an argument of its own.
    let arguments = std::env::args_os().filter(|argument| argument != "--bench");
    let program = Program::parse_from(arguments);
    match run(&program) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Runs a command. Returns whether its check passed.
fn run(program: &Program) -> Result<bool> {
    program.command.sizes().map_or(Ok(()), Sizes::check)?;
    let device = || model::device::resolve(program.device);
    match &program.command {
        Command::Report { list, summary } => {
            let read =
                |file: &Path| std::fs::read_to_string(file).map_err(|e| StageError::io("read it", &e).in_file(file));
            print!("{}", report::document(&read(list)?, &read(summary)?).map_err(std::io::Error::from)?);
            Ok(true)
        }
        Command::Compare { pointer, within, one, other, relative } => {
            compare::run(pointer, *within, *relative, [one, other])
        }
        Command::Fell { first, last, share, file } => compare::fell(first, last, *share, file),
        Command::Smoke => smoke::run(&device()?),
        Command::Operations => operations::run(&device()?),
        Command::Parity { folders } => {
            // Checks every directory, even after a failure.
            let device = device()?;
            let right: Vec<_> = folders.iter().map(|folder| parity_of(folder, &device)).collect();
            Ok(!right.is_empty() && right.into_iter().all(|right| right))
        }
        Command::Products { sizes, square } => products::run(&device()?, *sizes, *square),
        Command::Speed { sizes, speed } => speed::run(&device()?, *sizes, speed),
        #[cfg(feature = "cuda")]
        Command::Prepare { sizes, precision, save } => prepare::run(&device()?, *sizes, *precision, save.as_deref()),
        #[cfg(feature = "cuda")]
        Command::Kernels { sizes, precision } => kernels::run(&device()?, *sizes, *precision),
        #[cfg(feature = "cuda")]
        Command::Memory { sizes, precision } => prepare::memory(&device()?, *sizes, *precision),
        Command::Curve { sizes, steps, tokens } => curve::run(&device()?, *sizes, *steps, tokens.as_deref()),
    }
}

fn parity_of(folder: &Path, device: &Device) -> bool {
    let (mut line, equal) = match parity::differences(folder, device) {
        Ok(differences) => (serde_json::json!(differences), differences.are_small()),
        Err(error) => (serde_json::json!({ "error": error.to_string() }), false),
    };
    line["folder"] = folder.file_name().map(|name| name.to_string_lossy().into()).unwrap_or_default();
    line["equal"] = equal.into();
    print_line(&line);
    equal
}

/// Prints a line of the output: a JSON object.
fn print_line(line: &Value) {
    println!("{line}");
}

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

/// Waits until the device has finished all queued work.
fn wait(device: &Device) -> Result<()> {
    device.sync().map_err(|error| StageError::new(format!("the device failed: {error:?}")))
}
