//! Conversion from format 1, in which the runs of a name shared one set of outputs by name, to format 2.
//!
//! ```text
//! format 1                        format 2
//! runs/<run>/.history/0003/       runs/<run>/3/
//! runs/<run>/.stages/             the same
//! runs/<run>/events.jsonl ...     removed: links to the newest run
//! runs/<run>/<stage>/<port>/      removed: the next run publishes its outputs in its own directory
//! ```
//!
//! The new directory of a name is made beside the old one, as `.moved-<run>`, then takes its place: the next opening finishes
//! after a kill at any point. The version is written last, so a program of format 1 may use the store after a kill: its runs,
//! which start at 1 again, get the numbers after those that were moved before.

use std::path::PathBuf;

use super::builds::STAGES;
use super::runs::number;
use super::{Result, Store, StoreError, failpoint, files};

const HISTORY: &str = ".history";
/// The file that every run wrote from its start.
const EVENTS: &str = "events.jsonl";
/// Prefix of a new directory that is about to take the place of the old one.
const MOVED: &str = ".moved-";

impl Store {
    /// Converts the runs to format 2, if they are not.
    ///
    /// # Errors
    /// [`StoreError::InUse`]: a program of format 1 uses the store.
    pub(super) fn migrate_runs(&self) -> Result<()> {
        let runs = self.layout().dir("runs");
        let is_old = |name: &String| name.starts_with(MOVED) || runs.join(name).join(HISTORY).is_dir();
        let is_any_old = || files::names(&runs).map(|names| names.iter().any(is_old));
        if !is_any_old()? {
            return Ok(());
        }
        let _guard = self.leases.exclusive_guard()?;
        // Another process may have converted them meanwhile, and run.
        if !is_any_old()? {
            return Ok(());
        }
        if let Some(lease) = self.leases.all()?.into_iter().next() {
            return Err(StoreError::InUse { path: self.layout().root().to_owned(), by: lease.holder.process() });
        }
        for run in self.runs.names()? {
            let dir = runs.join(&run);
            let history = dir.join(HISTORY);
            if !history.is_dir() {
                continue;
            }
            let moved = runs.join(format!("{MOVED}{run}"));
            failpoint::pass("migrate-before-moved");
            files::make_dir(&moved)?;
            // Runs that were converted before a kill, if a program of format 1 used the name since; a stage may have such a name.
            let is_run = |name: &String| number(name).is_some() && dir.join(name).join(EVENTS).is_file();
            let converted = files::names(&dir)?.into_iter().filter(is_run).map(|name| dir.join(name));
            let past = files::names(&history)?.into_iter().map(|name| history.join(name));
            let mut past = [converted.collect::<Vec<_>>(), past.collect()].map(|paths| {
                let numbered = |path: PathBuf| Some((path.file_name()?.to_str()?.parse::<u32>().ok()?, path));
                let mut paths: Vec<_> = paths.into_iter().filter_map(numbered).collect();
                paths.sort_unstable();
                paths
            });
            let mut last = files::names(&moved)?.iter().filter_map(|name| number(name)).max().unwrap_or(0);
            for (number, path) in past.iter_mut().flat_map(std::mem::take) {
                last = number.max(last + 1);
                failpoint::pass("migrate-before-number");
                files::rename_if_exists(&path, &moved.join(last.to_string()))?;
            }
            failpoint::pass("migrate-before-stages");
            if dir.join(STAGES).is_dir() {
                files::remove(&moved.join(STAGES))?;
                files::rename_if_exists(&dir.join(STAGES), &moved.join(STAGES))?;
            }
            // From here on the new directory is complete.
            files::remove(&history)?;
        }
        for name in files::names(&runs)? {
            let Some(run) = name.strip_prefix(MOVED) else { continue };
            failpoint::pass("migrate-before-remove");
            files::remove(&runs.join(run))?;
            failpoint::pass("migrate-before-name");
            files::rename_if_exists(&runs.join(&name), &runs.join(run))?;
        }
        Ok(())
    }
}
