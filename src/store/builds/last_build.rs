//! The last build of each stage of a run, used for reasons and by `why`: its key and outputs in `runs/<run>/.stages/<stage>.json`, and the
//! files outside the store that it read in `<stage>.sources`. Its outputs are never removed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use contract::{Digest, SourceFile};
use serde::{Deserialize, Serialize};

use super::{Builds, checked};
use crate::key::KeyRecord;
use crate::store::{Damage, Fault, Object, Result, SourceSnapshot, failpoint, file_name, files};

/// The last build of a stage of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastBuild {
    /// Its key.
    pub key: Digest,
    /// The key written out.
    pub key_record: KeyRecord,
    /// The digest of each output port's tree.
    pub outputs: BTreeMap<String, Digest>,
    /// The patterns of the files outside the store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<String>,
    /// The digest of `<stage>.sources`, if it read any: a list that belongs to another build is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Digest>,
}

pub(in crate::store) const STAGES: &str = ".stages";
const SOURCES: &str = "sources";

impl Builds {
    /// Finds unreadable files of last builds, and moves them aside if the store is writable.
    pub fn damaged_last_builds(&self) -> Result<Vec<Damage>> {
        let mut damage = Vec::new();
        for run in files::names(&self.root.layout.dir("runs"))?.iter().filter(|name| file_name(name).is_ok()) {
            let dir = self.root.layout.run(run)?.join(STAGES);
            for path in files::names(&dir)?.iter().filter(|name| name.ends_with(".json")).map(|name| dir.join(name)) {
                if let Some(Err(problem)) = checked::read::<LastBuild>(&path, checked::decode)? {
                    damage.push(self.damaged_file(&path, problem)?);
                }
            }
        }
        Ok(damage)
    }

    /// Reports an unreadable file of a run, and moves it aside if the store is writable.
    pub fn damaged_file(&self, path: &Path, problem: String) -> Result<Damage> {
        self.root.damage(Object::File(path.to_owned()), Fault::Format(problem), path)
    }

    /// Returns the last build of each stage of a run, by stage.
    pub fn last_builds(&self, run: &str) -> Result<BTreeMap<String, LastBuild>> {
        let files = files::names(&self.root.layout.run(run)?.join(STAGES))?;
        let stages = files.iter().filter_map(|name| name.strip_suffix(".json"));
        Ok(stages.filter_map(|stage| Some((stage.to_owned(), self.last_build(run, stage).ok()??))).collect())
    }

    /// Returns the last build of a stage of a run; `None` also if the file cannot be read.
    pub fn last_build(&self, run: &str, stage: &str) -> Result<Option<LastBuild>> {
        let path = self.last_build_path(run, stage)?;
        Ok(files::read(&path).ok().and_then(|text| checked::decode(&text).ok()))
    }

    /// Returns the files outside the store that the last build of a stage read; an empty list if they are not known for certain.
    pub fn last_sources(&self, run: &str, stage: &str) -> Result<Vec<SourceFile>> {
        let Some(last) = self.last_build(run, stage)? else { return Ok(Vec::new()) };
        let text = files::read(&self.last_build_path(run, stage)?.with_extension(SOURCES)).unwrap_or_default();
        match last.sources == Some(Digest::of(text.as_bytes())) {
            true => Ok(text.lines().filter_map(SourceFile::of_line).collect()),
            false => Ok(Vec::new()),
        }
    }

    pub(in crate::store) fn last_build_path(&self, run: &str, stage: &str) -> Result<PathBuf> {
        Ok(self.root.layout.run(run)?.join(STAGES).join(format!("{}.json", file_name(stage)?)))
    }

    /// Writes the last build of a stage, with the files outside the store that it read, unless both files already have this content.
    pub(in crate::store) fn write_last_build(
        &self,
        run: &str,
        stage: &str,
        mut build: LastBuild,
        sources: &SourceSnapshot,
    ) -> Result<()> {
        let path = self.last_build_path(run, stage)?;
        let sources_path = path.with_extension(SOURCES);
        let lines = sources.files().fold(String::new(), |lines, file| lines + &file.line() + "\n");
        build.sources = (!lines.is_empty()).then(|| Digest::of(lines.as_bytes()));
        let text = checked::encode(&build, &path)?;
        let is_there = |path: &Path, text: &str| files::read(path).is_ok_and(|there| there == text);
        let has_sources = lines.is_empty() || is_there(&sources_path, &lines);
        if has_sources && is_there(&path, &text) {
            return Ok(());
        }
        failpoint::pass("remember-before-write");
        files::make_parent(&path)?;
        if !has_sources {
            self.root.replace(&sources_path, lines.as_bytes())?;
        }
        self.root.replace(&path, text.as_bytes())
    }
}
