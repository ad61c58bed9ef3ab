//! Compiles the kernels of a training step and all candidates for tuning, without computing anything.
//!
//! CubeCL keeps compiled kernels in its environment (`burn.toml`, `cubecl.environment.path`), from which later processes load them. The
//! kernels depend on the shapes and on the GPU's architecture, so they can be compiled with the null driver (`null_driver.rs`) for any GPU
//! of that architecture.

use std::path::Path;
use std::time::Instant;

use burn::tensor::Device;
use contract::{Cancel, Result, StageError};
use cubecl::bundle::{ExportOptions, export};
use cubecl::environment;
use cubecl::execution::{ProcessMode, ProcessModeOverride, StatisticsCollector};
use model::Precision;
use serde_json::json;

use crate::{Sizes, print_line, speed, wait};

/// Compiles what an update needs, on all cores, then tunes it. Candidates that do not compile are counted; the function fails only if
/// nothing compiles.
pub fn run(device: &Device, sizes: Sizes, precision: Precision, save: Option<&Path>) -> Result<bool> {
    let start = Instant::now();
    let collector = StatisticsCollector::new();
    let mut seconds = Vec::new();
    for mode in [ProcessMode::CompileOnly, ProcessMode::CompileAndAutotune] {
        let discarding = ProcessModeOverride::new(mode, &collector);
        let mut trainer = speed::trainer(device, sizes, precision, 1)?;
        trainer.queue(&[speed::batch(sizes)], 1e-4, &Cancel::default())?;
        wait(device)?;
        drop(discarding);
        seconds.push(start.elapsed().as_secs_f64());
    }
    let kernels = collector.statistics().compilation;
    print_line(&json!({
        "precision": precision,
        "batch": sizes.batch,
        "kernels": kernels.registered,
        "compiled": kernels.compiled,
        "loaded": kernels.loaded,
        "failed": kernels.failed,
        "refused": kernels.refused,
        "abandoned": kernels.abandoned,
        "stored": kernels.stored,
        "seconds": seconds,
    }));
    if let Some(file) = save {
        // Only kernels are saved: measurements of tuning and throughput are valid for one machine only.
        let namespaces = vec!["cuda".to_owned()];
        let options = ExportOptions { name: "kernels".to_owned(), namespaces, ..ExportOptions::default() };
        export(&[environment::path()], file, &options)
            .map_err(|error| StageError::new(format!("cannot save the kernels in {}: {error:?}", file.display())))?;
    }
    Ok(kernels.abandoned == 0 && kernels.compiled + kernels.loaded > kernels.refused)
}

/// Prints the memory that the device reserves for two steps, without compiling or computing anything.
pub fn memory(device: &Device, sizes: Sizes, precision: Precision) -> Result<bool> {
    let discarding = ProcessModeOverride::new(ProcessMode::CompileOnly, &StatisticsCollector::new());
    let mut trainer = speed::trainer(device, sizes, precision, 1)?;
    let batch = [speed::batch(sizes)];
    // As in training: a step's loss is read once the next step is queued.
    let first = trainer.queue(&batch, 1e-4, &Cancel::default())?;
    let second = trainer.queue(&batch, 1e-4, &Cancel::default())?;
    wait(device)?;
    let usage = device.memory_pool_usage();
    drop((first, second, discarding));
    print_line(&json!({
        "parameters": sizes.config().parameters(),
        "batch": sizes.batch,
        "sequence": sizes.sequence,
        "precision": precision,
        "reserved_bytes": usage.as_ref().map(|usage| usage.bytes_reserved),
    }));
    Ok(usage.is_some())
}
