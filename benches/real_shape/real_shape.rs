//! Generates an export with the shape of the real one from a small one: 146,000 files per shard, any number of files.
//!
//! ```text
//! cargo bench --workspace --bench real_shape -- EXPORT OUT FILES [OPTION=VALUE ...]
//! ```
//!
//! `EXPORT` is a directory of JSON lines, gzip-compressed or not, in the layout of the GitHub query; the output in `OUT` is
//! `file-000000000000.json.gz` and so on.
//!
//! | option | default | what |
//! |---|---|---|
//! | `shard=` | 146000 | files per shard |
//! | `seed=` | 1 | another seed generates other files |
//! | `null_license=` | 0.01 | share of the repositories whose rows lack the key `license` (BigQuery omits nulls) |
//! | `text_mib=` | 512 | maximum text of `EXPORT` held in memory; further files are not used |
//! | `threads=` | all cores | shards written at a time |
//! | `check=` | no | `yes`: runs `import` and `dedup` over input and output and prints the rates of both |
//!
//! # Output
//! The output is a sequence of *copies* of the input; the first is the input itself. In copy `k` each word of a file's
//! identifiers and comments is replaced by another word of the input ([`words`]), the same one in all files of the copy, and
//! the repositories are renamed. Hence:
//! - Within a copy two files have the token similarity that they have in the input: exact and near-duplicates come in
//!   the input's proportion, with its similarities and its clusters.
//! - Files of different copies share keywords and punctuation, and few other tokens.
//! - Lengths, line lengths, licenses, `copies` and `size` have the input's distribution.
//!
//! The files of all copies are shuffled over the shards. A row is determined by the input, `seed` and its number alone, so
//! the bytes are the same for any number of threads. Memory: about 2.5 times `text_mib`, and a buffer for each thread.

mod check;
mod input;
mod words;

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use flate2::{Compression, GzBuilder};
use rayon::prelude::*;

use self::input::Input;

const USAGE: &str = "usage: real_shape EXPORT OUT FILES \
                     [shard=146000] [seed=1] [null_license=0.01] [text_mib=512] [threads=N] [check=yes]";

struct Arguments {
    export: PathBuf,
    out: PathBuf,
    files: u64,
    shard: u64,
    seed: u64,
    null_license: f64,
    text_mib: u64,
    threads: usize,
    check: bool,
}

impl Arguments {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let (mut positional, mut parsed) = (
            Vec::new(),
            Self {
                export: PathBuf::new(),
                out: PathBuf::new(),
                files: 0,
                shard: 146_000,
                seed: 1,
                null_license: 0.01,
                text_mib: 512,
                threads: 0,
                check: false,
            },
        );
        // `cargo bench` adds `--bench`.
        for argument in arguments.filter(|argument| argument != "--bench") {
            match argument.split_once('=') {
                Some(("shard", value)) => parsed.shard = value.parse()?,
                Some(("seed", value)) => parsed.seed = value.parse()?,
                Some(("null_license", value)) => parsed.null_license = value.parse()?,
                Some(("text_mib", value)) => parsed.text_mib = value.parse()?,
                Some(("threads", value)) => parsed.threads = value.parse()?,
                Some(("check", "yes")) => parsed.check = true,
                _ => positional.push(argument),
            }
        }
        let [export, out, files] = positional.as_slice() else { return Err(USAGE.into()) };
        (parsed.export, parsed.out, parsed.files) = (export.into(), out.into(), files.replace('_', "").parse()?);
        if parsed.files == 0 || parsed.shard == 0 || !(0.0..=1.0).contains(&parsed.null_license) {
            return Err(USAGE.into());
        }
        Ok(parsed)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    rayon::ThreadPoolBuilder::new().num_threads(arguments.threads).build_global()?;
    let started = Instant::now();
    let input = Input::read(&arguments.export, arguments.text_mib << 20)?;
    println!(
        "{}: {} files, {:.0} MiB of text, {:.2} % exact duplicates; read in {:.1} s",
        arguments.export.display(),
        input.rows.len(),
        input.text_bytes as f64 / (1u64 << 20) as f64,
        100.0 * input.exact_duplicates as f64 / input.rows.len() as f64,
        started.elapsed().as_secs_f64()
    );
    if input.unused > 0 {
        println!("{} more files are not used: they exceed text_mib = {}", input.unused, arguments.text_mib);
    }
    let started = Instant::now();
    let text = generate(&arguments, &input)?;
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{}: {} files in {} shards, {:.0} MiB of text; written in {seconds:.1} s, {:.0} files a minute",
        arguments.out.display(),
        arguments.files,
        arguments.files.div_ceil(arguments.shard),
        text as f64 / (1u64 << 20) as f64,
        60.0 * arguments.files as f64 / seconds
    );
    drop(input);
    if arguments.check { check::compare(&arguments.export, &arguments.out) } else { Ok(()) }
}

/// Writes all shards; returns the bytes of text in them.
fn generate(arguments: &Arguments, input: &Input) -> Result<u64, Box<dyn Error>> {
    fs::create_dir_all(&arguments.out)?;
    if fs::read_dir(&arguments.out)?.next().is_some() {
        return Err(format!("{} is not empty", arguments.out.display()).into());
    }
    let shuffle = Shuffle::new(arguments.files, arguments.seed);
    let text = AtomicU64::new(0);
    let shards = arguments.files.div_ceil(arguments.shard);
    (0..shards).into_par_iter().try_for_each(|shard| {
        let path = arguments.out.join(format!("file-{shard:012}.json.gz"));
        let numbers = shard * arguments.shard..arguments.files.min((shard + 1) * arguments.shard);
        let bytes = write_shard(&path, numbers.map(|number| shuffle.place(number)), arguments, input)?;
        text.fetch_add(bytes, Ordering::Relaxed);
        Ok::<_, std::io::Error>(())
    })?;
    Ok(text.into_inner())
}

fn write_shard(
    path: &Path,
    places: impl Iterator<Item = u64>,
    arguments: &Arguments,
    input: &Input,
) -> std::io::Result<u64> {
    let mut writer = GzBuilder::new().mtime(0).write(File::create(path)?, Compression::fast());
    let (mut line, mut bytes) = (Vec::new(), 0);
    let rows = input.rows.len() as u64;
    for place in places {
        // `place` is below the number of files, and the row below that of the rows: both fit.
        let (copy, row) = (place / rows, &input.rows[(place % rows) as usize]);
        line.clear();
        input.write_row(row, copy, arguments.seed, arguments.null_license, &mut line);
        writer.write_all(&line)?;
        bytes += row.text_bytes;
    }
    writer.finish()?;
    Ok(bytes)
}

/// A permutation of the numbers below `length`.
struct Shuffle {
    length: u64,
    factor: u64,
    offset: u64,
}

impl Shuffle {
    fn new(length: u64, seed: u64) -> Self {
        // Close to the golden section, neighbours are spread evenly; the first coprime factor from there gives a permutation.
        let golden = (length as f64 * 0.618_033_988_75) as u64;
        let factor = (golden.max(1)..).find(|&factor| gcd(factor, length) == 1).unwrap_or(1);
        Self { length, factor, offset: words::mix(seed) % length }
    }

    fn place(&self, number: u64) -> u64 {
        let product = u128::from(number) * u128::from(self.factor) + u128::from(self.offset);
        // The remainder is below `length`.
        (product % u128::from(self.length)) as u64
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
