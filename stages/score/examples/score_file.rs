//! Scores a file of samples without truncation, prints the scores and the samples per second, and writes the report's page.
//!
//! `cargo run --release -p score --example score_file -- SAMPLES PROBLEMS [WORKERS] [PAGE.html]`

use std::path::PathBuf;
use std::time::Instant;

use contract::{Cancel, Progress, StageError};
use score::truncate::Preset;
use score::{Scoring, Settings, score};

fn main() -> Result<(), StageError> {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [samples, problems, rest @ ..] = &arguments[..] else {
        return Err(StageError::new("usage: score_file SAMPLES PROBLEMS [WORKERS] [PAGE.html]"));
    };
    let workers = rest.first().and_then(|workers| workers.to_str()?.parse().ok()).unwrap_or(2);
    let begun = Instant::now();
    let mut settings = Settings::default();
    settings.run.truncation = Preset::None;
    let scored = score(&Scoring {
        samples,
        baseline: None,
        problems,
        settings: &settings,
        threads: workers,
        seed: 1,
        cache: None,
        cancel: &Cancel::default(),
        progress: &Progress::default(),
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    println!("{}", scored.report.line());
    println!("{} of {} samples passed", scored.report.passed, scored.report.samples);
    let programs = scored.report.programs + 2 * scored.report.problems;
    println!(
        "{programs} programs, {workers} workers, {seconds:.1} s: {:.0} programs a second",
        programs as f64 / seconds
    );
    if let Some(page) = rest.get(1) {
        std::fs::write(page, scored.report.html())?;
        std::fs::write(page.with_extension("md"), scored.report.markdown())?;
    }
    Ok(())
}
