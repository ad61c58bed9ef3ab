//! The model with the lowest validation loss so far, in scratch.
//!
//! `best.safetensors` has the form of a model's weights. Each checkpoint has it too, under the same name: a hard link, so that it
//! costs no copy. A run that resumes takes the file of its checkpoint, whatever later validations of the interrupted run had found.

use std::fs;
use std::path::{Path, PathBuf};

use contract::{Digest, OutputTree, Result, StageError};

use super::checkpoint::{remove_file, written};
use crate::config::Gpt2Config;
use crate::folder::{self, WEIGHTS, write_weights};
use crate::gpt2::Gpt2;

const FILE: &str = "best.safetensors";
const TEMPORARY: &str = "unfinished.safetensors";

/// The best model so far.
#[derive(Debug)]
pub struct Best {
    folder: PathBuf,
    digest: Option<Digest>,
}

impl Best {
    /// Starts without a model in this scratch directory, whatever is in it.
    ///
    /// # Errors
    /// Returns an error if a file of an earlier run cannot be removed.
    pub fn none(scratch: &Path) -> Result<Self> {
        remove_file(&scratch.join(TEMPORARY))?;
        remove_file(&scratch.join(FILE))?;
        Ok(Self { folder: scratch.to_owned(), digest: None })
    }

    /// Returns the digest of its file, if there is a model.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Makes this the best model.
    ///
    /// # Errors
    /// Returns an error if a value is not finite or the file cannot be written.
    pub fn replace(&mut self, config: &Gpt2Config, model: &Gpt2) -> Result<()> {
        let unfinished = self.folder.join(TEMPORARY);
        // A new file: the old one belongs to checkpoints too.
        remove_file(&unfinished)?;
        let digest = written(&unfinished, |file| write_weights(config, model, file))?;
        fs::rename(&unfinished, self.folder.join(FILE))?;
        self.digest = Some(digest);
        Ok(())
    }

    /// Adds the file to a checkpoint.
    ///
    /// # Errors
    /// Returns an error if it cannot be linked or copied.
    pub fn save(&self, checkpoint: &Path) -> Result<()> {
        if self.digest.is_some() {
            link(&self.folder.join(FILE), &checkpoint.join(FILE))?;
        }
        Ok(())
    }

    /// Takes the file of a checkpoint with this digest.
    ///
    /// # Errors
    /// Returns an error if the file is missing or has another content.
    pub fn restore(&mut self, checkpoint: &Path, digest: Option<Digest>) -> Result<()> {
        remove_file(&self.folder.join(FILE))?;
        if let Some(digest) = digest {
            let file = checkpoint.join(FILE);
            if Digest::of_file(&file)? != digest {
                return Err(StageError::new("its best model has changed"));
            }
            link(&file, &self.folder.join(FILE))?;
        }
        self.digest = digest;
        Ok(())
    }

    /// Writes the model's three files to an output port.
    ///
    /// # Errors
    /// Returns an error if there is no model or a file cannot be written.
    pub fn output(&self, config: &Gpt2Config, output: &OutputTree) -> Result<()> {
        if self.digest.is_none() {
            return Err(StageError::new("no validation chose a best model").hint("connect the input 'valid'"));
        }
        folder::save_configuration(config, output)?;
        output.adopt(WEIGHTS, &self.folder.join(FILE))
    }
}

/// Links a file, or copies it where the file system has no links.
fn link(from: &Path, to: &Path) -> Result<()> {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to)?;
    }
    Ok(())
}
