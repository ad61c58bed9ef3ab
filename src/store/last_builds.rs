//! What each stage of a run gave last, `runs/<run>/.stages/`: for reasons and for `why`, and never removed to make room.
//!
//! ```text
//! runs/<run>/.stages/<stage>.json     what it gave and the key of that, with a check
//! runs/<run>/.stages/<stage>.sources  the files outside the store that it read
//! ```

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use contract::{Digest, SourceFile};
use serde::{Deserialize, Serialize};

use super::error::{Damage, Result, StoreError};
use super::layout::file_name;
use super::names::names_if_folder;
use super::{SourceSnapshot, Store, checked, failpoint, text, write};
use crate::key::KeyRecord;

/// What a stage of a run gave last, for reasons and for `why`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastBuild {
    /// Its key.
    pub key: Digest,
    /// The key written out.
    pub key_record: KeyRecord,
    /// The digest of each output port's tree.
    pub outputs: BTreeMap<String, Digest>,
    /// Where it looked for files outside the store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<String>,
    /// The digest of `<stage>.sources`, where it read any: one that was written for another build is not taken for this one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Digest>,
}

pub(super) const STAGES: &str = ".stages";
const SOURCES: &str = "sources";

impl Store {
    /// The files of what stages gave last that cannot be read; they are moved aside where the store may be written.
    ///
    /// # Errors
    /// When a folder or file cannot be read, or a file not moved.
    pub fn torn_last_builds(&self) -> Result<Vec<Damage>> {
        let mut torn = Vec::new();
        for run in self.run_names()? {
            let folder = self.layout().run(&run)?.join(STAGES);
            let files = names_if_folder(&folder)?;
            for path in files.iter().filter(|name| name.ends_with(".json")).map(|name| folder.join(name)) {
                let decoded = match text::read(&path) {
                    Ok(text) => checked::decode_or_older::<LastBuild>(&text),
                    Err(error) if error.kind() == ErrorKind::InvalidData => Err(error.to_string()),
                    // A repair beside this one moved it aside.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(StoreError::io("read", &path)(error)),
                };
                match decoded {
                    Ok(build) => torn.extend(self.torn_sources(&path.with_extension(SOURCES), build.sources)?),
                    Err(problem) => torn.push(self.damaged_file(&path, problem)?),
                }
            }
        }
        Ok(torn)
    }

    /// What is wrong with the list of files that a last build read, which has this digest. A list of another build is what a
    /// kill leaves, and a run that is about to write down its build: nothing is wrong then.
    fn torn_sources(&self, path: &Path, digest: Option<Digest>) -> Result<Option<Damage>> {
        let is_of = |text: &str| digest.is_some_and(|digest| digest == Digest::of(text.as_bytes()));
        let is_list = |text: &str| text.ends_with('\n') && text.lines().all(|line| SourceFile::of_line(line).is_some());
        let problem = match text::read(path) {
            Ok(text) if !is_of(&text) && !is_list(&text) => "it is no list of files".to_owned(),
            Err(error) if error.kind() == ErrorKind::InvalidData => error.to_string(),
            // A lost one costs its names; the next run writes it again.
            _ => return Ok(None),
        };
        self.damaged_file(path, problem).map(Some)
    }

    /// What each stage of a run gave last, by stage.
    ///
    /// # Errors
    /// When the name cannot be a file name or the folder cannot be read.
    pub fn last_builds(&self, run: &str) -> Result<BTreeMap<String, LastBuild>> {
        let files = names_if_folder(&self.layout().run(run)?.join(STAGES))?;
        let stages = files.iter().filter_map(|name| name.strip_suffix(".json"));
        Ok(stages.filter_map(|stage| Some((stage.to_owned(), self.last_build(run, stage).ok()??))).collect())
    }

    /// What a stage of a run gave, to be written down as `runs/<run>/.stages/<stage>.json`, and of which files outside the
    /// store, as `<stage>.sources` beside it.
    pub(super) fn remembered(
        &self,
        run: &str,
        stage: &str,
        mut build: LastBuild,
        sources: &SourceSnapshot,
    ) -> Result<Remembered> {
        let path = self.last_build_path(run, stage)?;
        let lines = sources.files().fold(String::new(), |lines, file| lines + &file.line() + "\n");
        build.sources = (!lines.is_empty()).then(|| Digest::of(lines.as_bytes()));
        let text = checked::encode(&build);
        let text = text.map_err(|error| StoreError::io("write", &path)(std::io::Error::other(error)))?;
        Ok(Remembered { sources: (path.with_extension(SOURCES), lines), build: (path, text) })
    }

    /// The files outside the store that a stage of a run read last; nothing where it is not known for sure.
    ///
    /// # Errors
    /// When a name cannot be a file name.
    pub fn last_sources(&self, run: &str, stage: &str) -> Result<Vec<SourceFile>> {
        let Some(last) = self.last_build(run, stage)? else { return Ok(Vec::new()) };
        let text = text::read(&self.last_build_path(run, stage)?.with_extension(SOURCES)).unwrap_or_default();
        // Of before there was a digest there is only this.
        match last.sources.is_none_or(|digest| digest == Digest::of(text.as_bytes())) {
            true => Ok(text.lines().filter_map(SourceFile::of_line).collect()),
            false => Ok(Vec::new()),
        }
    }

    /// What a stage of a run gave last, if anything; a file that cannot be read counts as nothing.
    ///
    /// # Errors
    /// When a name cannot be a file name.
    pub fn last_build(&self, run: &str, stage: &str) -> Result<Option<LastBuild>> {
        let path = self.last_build_path(run, stage)?;
        Ok(text::read(&path).ok().and_then(|text| checked::decode_or_older(&text).ok()))
    }

    pub(super) fn last_build_path(&self, run: &str, stage: &str) -> Result<PathBuf> {
        Ok(self.layout().run(run)?.join(STAGES).join(format!("{}.json", file_name(stage)?)))
    }
}

/// What is to be remembered of a stage, as files.
pub(super) struct Remembered {
    build: (PathBuf, String),
    sources: (PathBuf, String),
}

impl Remembered {
    /// Whether it is written down already.
    pub(super) fn is_kept(&self) -> bool {
        let (path, lines) = &self.sources;
        // The build has their digest, and whoever reads them compares it: a look at their length is enough, and cheap.
        let same_length =
            || path.symlink_metadata().is_ok_and(|found| found.is_file() && found.len() == lines.len() as u64);
        is_there(&self.build) && (lines.is_empty() || same_length())
    }

    /// Writes what is not there.
    pub(super) fn keep(&self, store: &Store) -> Result<()> {
        if self.is_kept() {
            return Ok(());
        }
        failpoint::pass("remember-before-write");
        if let Some(folder) = self.build.0.parent() {
            write::make_folder(folder)?;
        }
        let temporary = store.layout().folder("tmp");
        let replace = |(path, text): &(PathBuf, String)| write::replace(&temporary, path, text.as_bytes(), 0o644);
        if !self.sources.1.is_empty() && !is_there(&self.sources) {
            replace(&self.sources)?;
        }
        replace(&self.build)
    }
}

fn is_there((path, text): &(PathBuf, String)) -> bool {
    text::read(path).is_ok_and(|there| there == *text)
}
