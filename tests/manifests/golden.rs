//! Manifests with the message that each gives in the `.stderr` file beside it.

use std::fs;
use std::path::{Path, PathBuf};

use pipeline::manifest::Diagnostics;

/// Compares what `load` says of each manifest of `folder` with its golden file; `UPDATE_GOLDEN=1` writes them anew.
pub fn assert_golden<T>(folder: &Path, paths: &[PathBuf], load: impl Fn(&Path) -> Result<T, Diagnostics>) {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let prefix = format!("{}/", folder.display());
    let mut wrong = Vec::new();
    for path in paths {
        let text = match load(path) {
            Ok(_) => panic!("{} loads", path.display()),
            Err(diagnostics) => diagnostics.to_string().replace(&prefix, ""),
        };
        let golden = path.with_extension("stderr");
        if update {
            fs::write(&golden, &text).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if text != expected {
            wrong.push(format!("--- {}\n{text}+++ expected\n{expected}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\nUPDATE_GOLDEN=1 accepts the new messages", wrong.join("\n"));
}
