//! Checkpoints: the complete state from which training continues.
//!
//! ```text
//! checkpoints/00000500/state.safetensors   p.NAME, m.NAME, v.NAME: parameters and both moments, f32
//! checkpoints/00000500/metrics.bin         the metrics so far
//! checkpoints/00000500/best.safetensors    the weights with the lowest validation loss, if these are an output
//! checkpoints/00000500/seal.json           the step, the seconds so far and the blake3 digests of the others
//! ```
//!
//! A checkpoint is written to a temporary directory whose files are synced, then renamed, so a kill at any moment leaves either none or a complete one.
//! The digests detect later damage on disk; then the checkpoint before it is used, which is why more than one is kept. The order
//! of the sequences, the rate and what dropout drops are functions of the step, and the updates that AdamW counts are those among
//! the metrics, so this is the whole state.
//!
//! A checkpoint is due by steps and by time ([`Pace`]): a training that is killed again and again gets on, and one whose checkpoints take
//! long spends little of its time on them.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use contract::{Digest, HashingWriter, Progress, Result, StageError};
use serde::{Deserialize, Serialize};

use crate::config::{Gpt2Config, TensorShape};
use crate::parameters::{host_values, parameters};
use crate::tensor_file::{TensorFile, write_tensors};
use crate::train::best::Best;
use crate::train::metrics::{Metric, read_words, write_words};
use crate::train::trainer::Trainer;

const STATE: &str = "state.safetensors";
const METRICS: &str = "metrics.bin";
const SEAL: &str = "seal.json";
const FOLDER: &str = "checkpoints";
const TEMPORARY: &str = "unfinished";
/// The minimum of the time between two checkpoints, in times of the time that one takes.
const LEAST_TIMES: f64 = 20.0;

/// The checkpoints of one run, in its scratch directory.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    /// The number of checkpoints that are kept.
    pub keep_last: usize,
    /// The best model so far.
    pub best: Best,
}

/// When a checkpoint is due.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The maximum number of steps between two checkpoints.
    pub steps: u64,
    /// The seconds between two checkpoints, unless these take long.
    pub seconds: f64,
    /// The seconds that the last one took.
    pub took: f64,
}

impl Pace {
    /// Returns whether one is due after `step` steps, `since` seconds after the last one or the start.
    pub fn is_due(&self, step: u64, since: f64) -> bool {
        step.is_multiple_of(self.steps) || since >= self.seconds.max(LEAST_TIMES * self.took)
    }
}

/// The seal, the last file written of a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
struct Seal {
    step: u64,
    state: Digest,
    metrics: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    best: Option<Digest>,
    /// The total seconds of all runs of the training so far; 0 in a checkpoint of an older program.
    #[serde(default)]
    seconds: f64,
}

/// The content of a checkpoint besides the state of the trainer.
#[derive(Debug, Default)]
pub struct Restored {
    /// The number of updates so far.
    pub step: u64,
    /// The metrics so far.
    pub metrics: Vec<Metric>,
    /// The total seconds of all runs of the training so far.
    pub seconds: f64,
}

/// Returns the step of the newest checkpoint below `scratch`, the seconds up to it, and its time. Does not read its state.
pub fn newest(scratch: &Path) -> Option<(u64, f64, SystemTime)> {
    let folder = scratch.join(FOLDER);
    let sealed = |step: u64| {
        let path = folder.join(format!("{step:08}")).join(SEAL);
        let seal: Seal = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        Some((step, seal.seconds, fs::metadata(&path).ok()?.modified().ok()?))
    };
    steps(&folder).ok()?.into_iter().rev().find_map(sealed)
}

impl Checkpoints {
    /// Opens the checkpoints below `scratch`, of which the last two are kept, and removes the remains of an interrupted write.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be created or cleaned.
    pub fn below(scratch: &Path) -> Result<Self> {
        let folder = scratch.join(FOLDER);
        fs::create_dir_all(&folder)?;
        let checkpoints = Self { folder, keep_last: 2, best: Best::none(scratch)? };
        remove(&checkpoints.folder.join(TEMPORARY))?;
        Ok(checkpoints)
    }

    /// Writes the state after `step` updates, which took `seconds` in all runs together.
    ///
    /// # Errors
    /// Returns an error if a tensor cannot be read from the device, a value is not finite, or the checkpoint cannot be written.
    pub fn save(
        &self,
        step: u64,
        seconds: f64,
        config: &Gpt2Config,
        trainer: &Trainer,
        metrics: &[Metric],
    ) -> Result<()> {
        let unfinished = self.folder.join(TEMPORARY);
        remove(&unfinished)?;
        fs::create_dir(&unfinished)?;
        let state = written(&unfinished.join(STATE), |file| write_state(config, trainer, file))?;
        let metrics = written(&unfinished.join(METRICS), |file| write_words(metrics, file))?;
        self.best.save(&unfinished)?;
        let best = self.best.digest();
        written(&unfinished.join(SEAL), |file| {
            serde_json::to_writer(file, &Seal { step, state, metrics, best, seconds })
                .map_err(|e| StageError::new(e.to_string()))
        })?;
        sync_folder(&unfinished)?;
        let finished = self.folder.join(format!("{step:08}"));
        remove(&finished)?;
        fs::rename(&unfinished, &finished)?;
        sync_folder(&self.folder)?;
        for old in steps(&self.folder)?.iter().rev().skip(self.keep_last.max(1)) {
            remove(&self.folder.join(format!("{old:08}")))?;
        }
        Ok(())
    }

    /// Restores the trainer from the newest complete checkpoint and returns its other content; `None` if there is no checkpoint. A damaged
    /// one is reported and removed.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be read.
    pub fn restore(
        &mut self,
        config: &Gpt2Config,
        trainer: &mut Trainer,
        progress: &Progress,
    ) -> Result<Option<Restored>> {
        for step in steps(&self.folder)?.into_iter().rev() {
            let folder = self.folder.join(format!("{step:08}"));
            match read(&folder, step, config, trainer, &mut self.best) {
                Ok(restored) => return Ok(Some(restored)),
                Err(error) => {
                    progress.warn(format!("skipped the damaged checkpoint of step {step}: {error}"));
                    remove(&folder)?;
                }
            }
        }
        // The last damaged one may have had a best model.
        self.best.restore(&self.folder, None)?;
        Ok(None)
    }
}

/// Returns the steps of the checkpoints, sorted.
fn steps(folder: &Path) -> Result<Vec<u64>> {
    let mut steps = Vec::new();
    for entry in fs::read_dir(folder)? {
        steps.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    steps.sort_unstable();
    Ok(steps)
}

/// Returns the tensors of a checkpoint: parameters, means, squares.
fn state_tensors(config: &Gpt2Config) -> Vec<TensorShape> {
    let tensors = config.tensors();
    let named = |part: &'static str| {
        let name =
            move |tensor: &TensorShape| TensorShape { name: format!("{part}.{}", tensor.name), ..tensor.clone() };
        tensors.iter().map(name).collect::<Vec<_>>()
    };
    [named("p"), named("m"), named("v")].concat()
}

/// Writes parameters and moments.
pub(super) fn write_state(config: &Gpt2Config, trainer: &Trainer, writer: &mut impl Write) -> Result<()> {
    let moments = &trainer.optimizer.moments;
    let mut tensors: Vec<_> = parameters(&trainer.model);
    tensors.extend(moments.iter().map(|(mean, _)| mean.clone()));
    tensors.extend(moments.iter().map(|(_, square)| square.clone()));
    write_tensors(writer, &[], &state_tensors(config), |index| host_values(tensors[index].clone()))
}

fn read(folder: &Path, step: u64, config: &Gpt2Config, trainer: &mut Trainer, best: &mut Best) -> Result<Restored> {
    let seal: Seal =
        serde_json::from_slice(&fs::read(folder.join(SEAL))?).map_err(|error| StageError::new(error.to_string()))?;
    let (state, metrics) = (folder.join(STATE), folder.join(METRICS));
    let whole =
        seal.step == step && Digest::of_file(&state)? == seal.state && Digest::of_file(&metrics)? == seal.metrics;
    if !whole {
        return Err(StageError::new("its files have changed"));
    }
    best.restore(folder, seal.best)?;
    let metrics = read_state(&state, &metrics, config, trainer)?;
    Ok(Restored { step, metrics, seconds: seal.seconds })
}

/// Reads parameters, moments and metrics into the trainer. Returns the metrics.
pub(super) fn read_state(
    state: &Path,
    metrics: &Path,
    config: &Gpt2Config,
    trainer: &mut Trainer,
) -> Result<Vec<Metric>> {
    let mut file = TensorFile::open(state)?;
    let mut tensors = Vec::new();
    for tensor in state_tensors(config) {
        tensors.push(trainer.on_device(file.read(&tensor.name, &tensor.shape)?));
    }
    let metrics = read_words(&fs::read(metrics)?)?;
    let updates = metrics.iter().filter(|metric| metric.is_update()).count() as u64;
    let count = tensors.len() / 3;
    let squares = tensors.split_off(2 * count);
    let means = tensors.split_off(count);
    trainer.replace(tensors);
    trainer.optimizer.moments = means.into_iter().zip(squares).collect();
    trainer.optimizer.updates = updates;
    Ok(metrics)
}

/// Writes a file and syncs it. Returns the digest of its content.
pub(super) fn written(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<HashingWriter<File>>) -> Result<()>,
) -> Result<Digest> {
    let mut writer = BufWriter::with_capacity(1 << 20, HashingWriter::new(File::create(path)?));
    write(&mut writer)?;
    let (file, digest, _) = writer.into_inner().map_err(|error| error.into_error())?.finish();
    file.sync_all()?;
    Ok(digest)
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> Result<()> {
    Ok(File::open(folder)?.sync_all()?)
}

/// Does nothing: Windows preserves the order of renames and cannot open a directory to sync it.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<()> {
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Removes a file, if there is one.
pub(super) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;

    #[test]
    fn a_checkpoint_is_due_by_steps_and_by_time_but_takes_little_of_it() {
        let pace = Pace { steps: 500, seconds: 10.0, took: 0.0 };
        assert!(pace.is_due(500, 0.0) && !pace.is_due(501, 0.0));
        assert!(!pace.is_due(7, 9.9) && pace.is_due(7, 10.0));
        let slow = Pace { took: 2.0, ..pace };
        assert!(!slow.is_due(7, 39.9) && slow.is_due(7, 40.0), "a twentieth of the time");
        assert!(slow.is_due(1000, 1.0));
        let quick = Pace { took: 0.1, ..pace };
        assert!(!quick.is_due(7, 9.9) && quick.is_due(7, 10.0));
    }
}
