//! Finds an interpreter and the files that it needs.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

use crate::Unavailable;

/// An interpreter, with the files that a root directory must contain to run it.
#[derive(Debug, Deserialize)]
pub(super) struct Python {
    /// The version, such as `3.11.7`.
    pub version: String,
    /// The program itself, without links.
    pub executable: PathBuf,
    /// The standard library.
    pub directories: Vec<PathBuf>,
    /// The program and the shared objects outside the library.
    pub files: Vec<PathBuf>,
    /// Symbolic links to `files`: the loader's name and the names by which shared objects are found.
    pub links: Vec<PathBuf>,
    /// Directories of installed packages inside the library, which stay hidden.
    pub hidden: Vec<PathBuf>,
}

impl Python {
    pub fn find(python: &Path) -> Result<Self, Unavailable> {
        let unusable = |reason: String| Unavailable::Python { python: python.display().to_string(), reason };
        let output = Command::new(python)
            .args(["-s", "-S", "-B", "-c", include_str!("../python/probe.py")])
            .env("PYTHONNOUSERSITE", "1")
            .env_remove("PYTHONPATH")
            .env_remove("PYTHONHOME")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| unusable(error.to_string()))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(unusable(text.lines().last().unwrap_or("it ended without an error message").to_owned()));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| unusable(error.to_string()))
    }
}
