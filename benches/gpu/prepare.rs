//! Compiles the kernels of a training step, and those that tuning may try for it, without computing anything.
//!
//! CubeCL keeps compiled kernels in its environment (`burn.toml`, `cubecl.environment.path`), from which later processes load
//! them. The kernels depend on the shapes and on the GPU's architecture, so a driver without a GPU (`null_driver.rs`) makes
//! them for any GPU of that architecture.

use std::path::Path;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use contract::{Cancel, Result, StageError};
use cubecl::bundle::{ExportOptions, export};
use cubecl::environment;
use cubecl::execution::{ProcessMode, ProcessModeOverride, StatisticsCollector};
use model::Precision;
use serde_json::json;

use crate::{Sizes, print_line, speed, wait};

/// Compiles what an update needs. Candidates of tuning that do not compile are counted; only a pass that compiles nothing fails.
pub fn run(device: &Device, sizes: Sizes, precision: Precision, save: Option<&Path>) -> Result<bool> {
    let start = Instant::now();
    let collector = StatisticsCollector::new();
    let gathering = ProcessModeOverride::new(ProcessMode::CompileOnly, &collector);
    let mut trainer = speed::trainer(device, sizes, precision, 1)?;
    trainer.queue(&[speed::batch(sizes)], 1e-4, &Cancel::default())?;
    drop(gathering);
    let gathered = start.elapsed();
    // The next launch compiles all that was gathered, on all cores.
    let launched = Tensor::<1>::zeros([1], device).add_scalar(1.0);
    wait(device)?;
    drop(launched);
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
        "gather_seconds": gathered.as_secs_f64(),
        "seconds": start.elapsed().as_secs_f64(),
    }));
    if let Some(file) = save {
        // Tuning results are specific to one machine, so they are not exported.
        let excluded_namespaces = ["autotune", "records"].map(str::to_owned).to_vec();
        let options = ExportOptions { name: "kernels".to_owned(), excluded_namespaces, ..ExportOptions::default() };
        export(&[environment::path()], file, &options)
            .map_err(|error| StageError::new(format!("cannot save the kernels in {}: {error:?}", file.display())))?;
    }
    Ok(kernels.abandoned == 0 && kernels.compiled + kernels.loaded > kernels.refused)
}
