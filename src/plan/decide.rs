//! The one decision: given what a stage's inputs hold, is its output in the store? `plan` and `run` both ask here, so
//! they cannot disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use contract::Digest;

use super::reason::Reason;
use super::sources;
use crate::key::{Difference, Key, KeyInput, KeyRecord};
use crate::manifest::{Manifest, StageDeclaration, StageName};
use crate::store::{Hit, LastBuild, Lookup, SourceSnapshot, Store, StoreError};

/// Decides for the stages of one manifest over one store.
#[derive(Debug, Clone, Copy)]
pub struct Decider<'a> {
    /// The stages.
    pub manifest: &'a Manifest,
    /// Their outputs.
    pub store: &'a Store,
    /// Stages that run even if their output is in the store.
    pub forced: &'a BTreeSet<StageName>,
}

/// What to do with a stage whose inputs are known.
#[derive(Debug)]
pub enum Decision {
    /// Its output is in the store.
    Cached(Keyed, Box<Hit>),
    /// It has to run, and why.
    Run(Keyed, Vec<Reason>),
}

/// A key with what went into it.
#[derive(Debug, Clone)]
pub struct Keyed {
    /// The key.
    pub key: Key,
    /// The key written out.
    pub record: KeyRecord,
    /// The tree that each input port reads.
    pub inputs: BTreeMap<String, Digest>,
    /// The files outside the store that it read.
    pub sources: SourceSnapshot,
}

impl<'a> Decider<'a> {
    /// The key of `stage` when its input ports read these trees, or why it has none yet: files outside the store are
    /// missing. `hashed` is told the bytes of each piece of such a file that had to be read, and stops the work by
    /// returning false.
    ///
    /// # Errors
    /// When an external file cannot be read; [`StoreError::Interrupted`] when `hashed` returned false.
    pub fn key(
        &self,
        stage: &StageDeclaration,
        inputs: &BTreeMap<String, Digest>,
        hashed: impl FnMut(u64) -> bool,
    ) -> Result<Result<Keyed, Vec<Reason>>, StoreError> {
        match self.source_files(stage) {
            Ok(files) => Ok(Ok(self.keyed(stage, inputs, self.store.sources(&files, hashed)?))),
            Err(missing) => Ok(Err(missing)),
        }
    }

    /// The decision for `stage` with this key.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn decide(&self, stage: &StageDeclaration, keyed: Keyed) -> Result<Decision, StoreError> {
        let lookup = self.store.lookup(keyed.key.digest())?;
        Ok(match lookup {
            Lookup::Hit(_) if self.forced.contains(&stage.name) => Decision::Run(keyed, vec![Reason::Forced]),
            Lookup::Hit(hit) => Decision::Cached(keyed, hit),
            Lookup::Damaged(damage) => {
                let reason = |damage: &crate::store::Damage| Reason::Damaged { what: damage.to_string() };
                Decision::Run(keyed, damage.iter().map(reason).collect())
            }
            Lookup::Miss => {
                let mut reasons = self.differences(stage, &keyed.record)?;
                if reasons.is_empty() {
                    reasons.push(Reason::Removed);
                }
                Decision::Run(keyed, reasons)
            }
        })
    }

    /// The key of a stage whose input ports read these trees.
    pub fn keyed(&self, stage: &StageDeclaration, inputs: &BTreeMap<String, Digest>, sources: SourceSnapshot) -> Keyed {
        let digests = match stage.kind.named_sources {
            true => sources.files().iter().map(contract::SourceFile::named_digest).collect(),
            false => sources.digests(),
        };
        let input = KeyInput {
            kind: stage.kind.name,
            revision: stage.kind.revision,
            settings: stage.stage.spec(),
            seed: stage.kind.seeded.then_some(self.manifest.seed),
            inputs,
            sources: &digests,
        };
        Keyed { key: input.key(), record: input.record(), inputs: inputs.clone(), sources }
    }

    /// What the last build of this stage of this run differs in from `record`; `NeverBuilt` when there was none.
    ///
    /// # Errors
    /// When the run's or stage's name cannot be a file name.
    fn differences(&self, stage: &StageDeclaration, record: &KeyRecord) -> Result<Vec<Reason>, StoreError> {
        Ok(match self.last_build(stage)? {
            Some((_, old)) => self.reasons(stage, &KeyRecord::difference(&old, record)),
            None => vec![Reason::NeverBuilt],
        })
    }

    /// The last build of this stage of this run, with its key written out.
    ///
    /// # Errors
    /// When the run's or stage's name cannot be a file name.
    pub fn last_build(&self, stage: &StageDeclaration) -> Result<Option<(LastBuild, KeyRecord)>, StoreError> {
        let last = self.store.last_build(&self.manifest.name, stage.name.as_str())?;
        Ok(last.and_then(|last| KeyRecord::from_value(&last.key_record).ok().map(|record| (last, record))))
    }

    /// Differences of keys as reasons: sources folded into one, settings with their place in the manifest.
    pub fn reasons(&self, stage: &StageDeclaration, differences: &[Difference]) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let mut kind: [Option<String>; 2] = [None, None];
        let (mut added, mut removed) = (0, 0);
        for difference in differences {
            let Difference { path, old, new } = difference;
            let digest = |side: &Option<serde_json::Value>| side.as_ref()?.as_str()?.parse::<Digest>().ok();
            if let Some(setting) = difference.setting() {
                let place = place(stage, setting);
                let setting = setting.to_owned();
                reasons.push(Reason::SettingChanged { setting, old: old.clone(), new: new.clone(), place });
            } else if let Some(port) = path.strip_prefix("inputs.") {
                let from = stage.inputs.get(port).map(|edge| edge.stage.clone());
                reasons.push(Reason::InputChanged { port: port.to_owned(), from, old: digest(old), new: digest(new) });
            } else if path == "sources" {
                added += usize::from(new.is_some());
                removed += usize::from(old.is_some());
            } else if path == "seed" {
                let setting = "run.seed".to_owned();
                let place = self.manifest.seed_place.clone();
                reasons.push(Reason::SettingChanged { setting, old: old.clone(), new: new.clone(), place });
            } else {
                for (side, value) in kind.iter_mut().zip([old, new]) {
                    let text = value.as_ref().map(ToString::to_string).unwrap_or_default();
                    *side = Some(format!("{}{path} {}", side.take().map(|text| text + ", ").unwrap_or_default(), text));
                }
            }
        }
        if added + removed > 0 {
            reasons.insert(0, Reason::SourcesChanged { added, removed });
        }
        if let [Some(old), Some(new)] = kind {
            reasons.insert(0, Reason::KindChanged { old, new });
        }
        reasons
    }

    /// The files outside the store that the stage reads. An empty pattern is a source that is not set: it is passed over
    /// where an input port is connected in its place.
    fn source_files(&self, stage: &StageDeclaration) -> Result<Vec<PathBuf>, Vec<Reason>> {
        let mut patterns = stage.stage.sources();
        if !stage.inputs.is_empty() {
            patterns.retain(|pattern| !pattern.0.is_empty());
        }
        sources::matching(&patterns)
            .map_err(|problems| problems.into_iter().map(|problem| Reason::SourceMissing { problem }).collect())
    }
}

/// Where the manifest sets a setting, or the nearest table that holds it.
fn place(stage: &StageDeclaration, setting: &str) -> Option<crate::manifest::Place> {
    let mut path = setting;
    loop {
        if let Some(place) = stage.settings.get(path) {
            return Some(place.clone());
        }
        path = path.rsplit_once('.')?.0;
    }
}
