//! From format 1, in which the runs of a name shared one set of outputs by name, to format 2.
//!
//! ```text
//! format 1                        format 2
//! runs/<run>/.history/0003/       runs/<run>/3/
//! runs/<run>/.stages/             the same
//! runs/<run>/events.jsonl ...     gone: links to the newest
//! runs/<run>/<stage>/<port>/      gone: the next run shows its outputs in its own folder
//! ```
//!
//! The new directory of a name is made beside the old one, as `.moved-<run>`, then takes its place: a kill at any point leaves
//! what the next opening finishes. The version is written last, so a program of format 1 may use the store after a kill: its
//! runs, which begin at 1 again, get the numbers after those that were moved before.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::error::{Result, StoreError};
use super::last_builds::STAGES;
use super::lock::remove_folder;
use super::names::names_if_folder;
use super::runs::number;
use super::{Store, failpoint, write};

const HISTORY: &str = ".history";
/// What every run wrote from its start.
const EVENTS: &str = "events.jsonl";
/// A name whose new directory is about to take the place of the old one.
const MOVED: &str = ".moved-";

impl Store {
    /// Makes the runs those of format 2; where they are, nothing is done.
    ///
    /// # Errors
    /// When a program of format 1 uses the store, or something cannot be moved; [`StoreError::Interrupted`] when the store was
    /// told to stop while it waited.
    pub(super) fn migrate_runs(&self) -> Result<()> {
        let runs = self.layout().folder("runs");
        let is_old = |name: &String| name.starts_with(MOVED) || runs.join(name).join(HISTORY).is_dir();
        let is_any_old = || names_if_folder(&runs).map(|names| names.iter().any(is_old));
        if !is_any_old()? {
            return Ok(());
        }
        let _gate = self.exclusive_gate()?;
        // Another process may have done it meanwhile, and run.
        if !is_any_old()? {
            return Ok(());
        }
        if let Some(lease) = self.leases()?.into_iter().next() {
            return Err(StoreError::InUse { path: self.layout().root().to_owned(), by: lease.holder.process() });
        }
        let rename = |from: &std::path::Path, to: &std::path::Path| match fs::rename(from, to) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            renamed => renamed.map_err(StoreError::io("move", from)),
        };
        for run in self.run_names()? {
            let folder = runs.join(&run);
            let history = folder.join(HISTORY);
            if !history.is_dir() {
                continue;
            }
            let moved = runs.join(format!("{MOVED}{run}"));
            failpoint::pass("migrate-before-moved");
            write::make_folder(&moved)?;
            // What was moved before a kill and named, if a program of format 1 used the name since; a stage may be called so.
            let is_run = |name: &String| number(name).is_some() && folder.join(name).join(EVENTS).is_file();
            let named = names_if_folder(&folder)?.into_iter().filter(is_run).map(|name| folder.join(name));
            let past = names_if_folder(&history)?.into_iter().map(|name| history.join(name));
            let mut past = [named.collect::<Vec<_>>(), past.collect()].map(|paths| {
                let numbered = |path: PathBuf| Some((path.file_name()?.to_str()?.parse::<u32>().ok()?, path));
                let mut paths: Vec<_> = paths.into_iter().filter_map(numbered).collect();
                paths.sort_unstable();
                paths
            });
            let mut last = names_if_folder(&moved)?.iter().filter_map(|name| number(name)).max().unwrap_or(0);
            for (number, path) in past.iter_mut().flat_map(std::mem::take) {
                last = number.max(last + 1);
                failpoint::pass("migrate-before-number");
                rename(&path, &moved.join(last.to_string()))?;
            }
            failpoint::pass("migrate-before-stages");
            if folder.join(STAGES).is_dir() {
                remove_folder(&moved.join(STAGES))?;
                rename(&folder.join(STAGES), &moved.join(STAGES))?;
            }
            // From here on the name is done but for its place.
            remove_folder(&history)?;
        }
        for name in names_if_folder(&runs)? {
            let Some(run) = name.strip_prefix(MOVED) else { continue };
            failpoint::pass("migrate-before-remove");
            remove_folder(&runs.join(run))?;
            failpoint::pass("migrate-before-name");
            rename(&runs.join(&name), &runs.join(run))?;
        }
        Ok(())
    }
}
