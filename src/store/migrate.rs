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
//! The new folder of a name is made inside the old one, in `.history`, then takes its place: a kill at any point leaves what
//! the next opening finishes. The version is written last.

use std::fs;
use std::io::ErrorKind;

use super::error::{Result, StoreError};
use super::last_builds::STAGES;
use super::lock::remove_folder;
use super::names::names_if_folder;
use super::{Store, failpoint};

const HISTORY: &str = ".history";
/// A name whose new folder is about to take the place of the old one.
const MOVED: &str = ".moved-";

impl Store {
    /// Makes the runs those of format 2; where they are, nothing is done.
    ///
    /// # Errors
    /// When a program of format 1 uses the store, or something cannot be moved.
    pub(super) fn migrate_runs(&self) -> Result<()> {
        let runs = self.layout().folder("runs");
        let is_old = |name: &String| name.starts_with(MOVED) || runs.join(name).join(HISTORY).is_dir();
        if !names_if_folder(&runs)?.iter().any(is_old) {
            return Ok(());
        }
        let _gate = self.exclusive_gate()?;
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
            for name in names_if_folder(&history)? {
                if let Some(number) = name.parse::<u32>().ok().filter(|number| number.to_string() != name) {
                    failpoint::pass("migrate-before-number");
                    rename(&history.join(&name), &history.join(number.to_string()))?;
                }
            }
            failpoint::pass("migrate-before-stages");
            rename(&folder.join(STAGES), &history.join(STAGES))?;
            failpoint::pass("migrate-before-moved");
            rename(&history, &runs.join(format!("{MOVED}{run}")))?;
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
