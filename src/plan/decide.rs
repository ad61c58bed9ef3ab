//! The one decision: given what a stage's inputs hold, is its output in the store? `plan` and `run` both ask here, so
//! they cannot disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use contract::{Cost, Digest, SourceFile, SourcePattern};
use serde::Serialize;
use serde_json::Value;

use super::baseline::Baseline;
use super::estimate::{Estimate, NoEstimate, Work};
use super::history::History;
use super::lint;
use super::reason::Reason;
use super::recipe::{Recipe, own_record};
use super::sources::{self, Folders, Missing};
use crate::clock;
use crate::key::{Key, KeyInput, KeyPath, KeyRecord};
use crate::manifest::{self, Manifest, Place, StageDeclaration, StageName};
use crate::store::{Hit, Lookup, Signature, SourceSnapshot, Store, StoreError};

/// Decides for the stages of one manifest over one store. Clones share what was read of the store's history.
#[derive(Debug, Clone)]
pub struct Decider<'a> {
    /// The stages.
    pub manifest: &'a Manifest,
    /// Their outputs.
    pub store: &'a Store,
    /// Stages that run even if their output is in the store.
    pub forced: &'a BTreeSet<StageName>,
    history: Arc<History>,
    folders: Arc<Folders>,
}

/// What to do with a stage whose inputs are known.
#[derive(Debug)]
pub enum Decision {
    /// Its output is in the store.
    Cached(Keyed, Box<Hit>),
    /// It has to run: why, and the build that this compares with.
    Run(Keyed, Vec<Reason>, Option<Baseline>),
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
    /// Whether these files are gone: they are taken to be those of its last build.
    pub absent: bool,
}

impl<'a> Decider<'a> {
    /// Over a store as it is from now on.
    pub fn new(manifest: &'a Manifest, store: &'a Store, forced: &'a BTreeSet<StageName>) -> Self {
        Self { manifest, store, forced, history: Arc::default(), folders: Arc::default() }
    }

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
        let missing = match self.source_files(stage) {
            Ok(files) => return Ok(Ok(self.keyed(stage, inputs, self.store.sources.digest(files, hashed)?))),
            Err(missing) => missing,
        };
        if missing.nothing
            && let Some(keyed) = self.keyed_as_last(stage, inputs)?
        {
            return Ok(Ok(keyed));
        }
        let reason = |problem: sources::Problem| Reason::SourceMissing { problem: problem.text };
        Ok(Err(missing.problems.into_iter().map(reason).collect()))
    }

    /// The key of a stage none of whose files outside the store is there any more: that of its last build in runs of this
    /// name, else in other runs of this manifest, where the store has its output, the files were looked for in the same places,
    /// and nothing else differs.
    fn keyed_as_last(
        &self,
        stage: &StageDeclaration,
        inputs: &BTreeMap<String, Digest>,
    ) -> Result<Option<Keyed>, StoreError> {
        let own = self.manifest.name.as_str();
        if let Some(keyed) = self.keyed_as_last_of(own, stage, inputs)? {
            return Ok(Some(keyed));
        }
        let others = self.store.runs.of_manifest(&manifest::origin(&self.manifest.path))?;
        for run in others.iter().filter(|run| *run != own) {
            if let Some(keyed) = self.keyed_as_last_of(run, stage, inputs)? {
                return Ok(Some(keyed));
            }
        }
        Ok(None)
    }

    fn keyed_as_last_of(
        &self,
        run: &str,
        stage: &StageDeclaration,
        inputs: &BTreeMap<String, Digest>,
    ) -> Result<Option<Keyed>, StoreError> {
        let name = stage.name.as_str();
        let Some(last) = self.store.builds.last_build(run, name)?.filter(|last| last.patterns == patterns(stage))
        else {
            return Ok(None);
        };
        let record = last.key_record;
        let keyed = self.keyed(stage, inputs, SourceSnapshot::default());
        let same =
            KeyRecord::differences(&record, &keyed.record).iter().all(|difference| difference.path == KeyPath::Sources);
        if !same || self.forced.contains(&stage.name) {
            return Ok(None);
        }
        let built = match self.store.builds.lookup(last.key)? {
            Lookup::Hit(hit) => hit.record.key_record == record,
            Lookup::Miss | Lookup::Damaged(_) => false,
        };
        let sources = SourceSnapshot::remembered(self.store.builds.last_sources(run, name)?);
        Ok(built.then(|| Keyed { key: Key::of(last.key), record, sources, absent: true, ..keyed }))
    }

    /// The output of `stage`, where it is cached and this can be told without reading a file or waiting for anything;
    /// `None` says only that [`Decider::decide`] has to look.
    pub fn cached_at_once(&self, stage: &StageDeclaration, inputs: &BTreeMap<String, Digest>) -> Option<(Keyed, Hit)> {
        if self.forced.contains(&stage.name) {
            return None;
        }
        let sources = self.store.sources.known(self.source_files(stage).ok()?)?;
        let digests = digests(stage, &sources);
        let input = self.input(stage, inputs, &digests);
        let key = input.key();
        let hit = self.store.builds.lookup_sealed(key.digest())?;
        // Equal keys are written out alike.
        let record = hit.record.key_record.clone();
        debug_assert_eq!(record, input.record(), "a key is written out in another way without a new domain");
        Some((Keyed { key, record, inputs: inputs.clone(), sources, absent: false }, hit))
    }

    /// The decision for `stage` with this key.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn decide(&self, stage: &StageDeclaration, keyed: Keyed) -> Result<Decision, StoreError> {
        let lookup = self.store.builds.lookup(keyed.key.digest())?;
        let damage = match lookup {
            Lookup::Hit(hit) if !self.forced.contains(&stage.name) => return Ok(Decision::Cached(keyed, hit)),
            Lookup::Hit(_) => None,
            Lookup::Damaged(damage) => Some(damage),
            Lookup::Miss => Some(Vec::new()),
        };
        let baseline = self.baseline_of(stage, &keyed.record)?;
        let mut reasons = match (&damage, &baseline) {
            (None, _) => vec![Reason::Forced],
            (Some(damage), _) if !damage.is_empty() => {
                damage.iter().map(|damage| Reason::Damaged { what: damage.to_string() }).collect()
            }
            (Some(_), Some(baseline)) => {
                let differences = KeyRecord::differences(&baseline.record, &keyed.record);
                baseline.reasons(self.manifest, stage, &differences)
            }
            (Some(_), None) => vec![Reason::NeverBuilt { closest: None, differences: Vec::new() }],
        };
        if let Some(resumes) = self.resumes(stage, &keyed)? {
            // A build that was begun says more than that none was finished.
            reasons.retain(|reason| !matches!(reason, Reason::NeverBuilt { .. }));
            reasons.insert(0, resumes);
        }
        if reasons.is_empty() {
            // It was built, and the store has its record no more, or its bytes went to make room.
            reasons.push(Reason::Removed);
        }
        Ok(Decision::Run(keyed, reasons, baseline))
    }

    /// The key of a stage whose input ports read these trees.
    pub fn keyed(&self, stage: &StageDeclaration, inputs: &BTreeMap<String, Digest>, sources: SourceSnapshot) -> Keyed {
        let digests = digests(stage, &sources);
        let input = self.input(stage, inputs, &digests);
        Keyed { key: input.key(), record: input.record(), inputs: inputs.clone(), sources, absent: false }
    }

    /// All that determines the output of a stage.
    fn input<'i>(
        &self,
        stage: &'i StageDeclaration,
        inputs: &'i BTreeMap<String, Digest>,
        sources: &'i [Digest],
    ) -> KeyInput<'i> {
        KeyInput {
            kind: stage.kind.name,
            revision: stage.kind.revision,
            settings: stage.stage.spec(),
            seed: stage.kind.seeded.then_some(self.manifest.seed),
            inputs,
            sources,
        }
    }

    /// What this key gave when it was built, whether the bytes are there or not: that of the build that is used, else of the
    /// first on record, else of the stage's last build in this run.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn given(&self, stage: &StageDeclaration, key: Key) -> Result<Option<BTreeMap<String, Digest>>, StoreError> {
        if let Lookup::Hit(hit) = self.store.builds.lookup(key.digest())? {
            return Ok(Some(hit.record.outputs));
        }
        let builds = self.store.builds.of(key.digest())?;
        if let Some(first) = builds.first() {
            return Ok(Some(first.outputs.clone()));
        }
        let last = self.store.builds.last_build(&self.manifest.name, stage.name.as_str())?;
        Ok(last.filter(|last| last.key == key.digest()).map(|last| last.outputs))
    }

    /// The build that a stage with this key is compared with.
    ///
    /// # Errors
    /// When the run's or stage's name cannot be a file name, or the records cannot be read.
    pub fn baseline_of(&self, stage: &StageDeclaration, record: &KeyRecord) -> Result<Option<Baseline>, StoreError> {
        self.baseline(stage, |old| KeyRecord::differences(old, record).len())
    }

    /// The build that a stage is compared with, which differs from it by `distance`.
    pub(super) fn baseline(
        &self,
        stage: &StageDeclaration,
        distance: impl Fn(&KeyRecord) -> usize,
    ) -> Result<Option<Baseline>, StoreError> {
        let run = self.manifest.name.as_str();
        let last = self.store.builds.last_build(run, stage.name.as_str())?;
        self.history.baseline(self.store, run, stage, last, distance)
    }

    /// Whether a build with this recipe is on record.
    pub(super) fn has_built(&self, recipe: &Recipe) -> Result<bool, StoreError> {
        self.history.has(self.store, recipe)
    }

    /// Whether a stage runs whatever its inputs hold: no build with its settings is on record, or it is forced.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn surely_runs(&self, stage: &StageDeclaration) -> Result<bool, StoreError> {
        Ok(self.forced.contains(&stage.name) || !self.has_built(&Recipe::of(&own_record(self, stage)))?)
    }

    /// How long a stage may take that has this recipe and this cost, and reads so many bytes.
    pub(super) fn estimate(
        &self,
        stage: &StageDeclaration,
        recipe: &Recipe,
        cost: &Cost,
        bytes: Option<u64>,
    ) -> Result<Result<Estimate, NoEstimate>, StoreError> {
        let work = Work { operations: cost.flops, bytes };
        self.history.estimate(self.store, stage.kind.name, recipe, work)
    }

    /// What a stage would cost, as settings tell and the headers of what the stages above wrote last in runs of this name,
    /// stale or not: [`super::PlannedStage::cost`] goes by what is known.
    pub fn cost(&self, stage: &StageDeclaration) -> Cost {
        let input = |port: &str| {
            let tree = lint::last_output(self.manifest, stage.inputs.get(port)?, self.store)?;
            self.store.objects.input(tree).ok()
        };
        stage.cost_with(&input)
    }

    /// The state that an interrupted build of this key saved, from which its next build continues.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn resumes(&self, stage: &StageDeclaration, keyed: &Keyed) -> Result<Option<Reason>, StoreError> {
        let Some(scratch) = self.store.work.scratch(keyed.key.digest(), &keyed.inputs, &keyed.sources)? else {
            return Ok(None);
        };
        Ok(stage.stage.checkpoint(&scratch).map(|checkpoint| Reason::resumes(&checkpoint, clock::now())))
    }

    /// Bytes of the files outside the store that the stage reads; `None` where some are missing.
    pub(super) fn source_bytes(&self, stage: &StageDeclaration) -> Option<u64> {
        let files = self.source_files(stage).ok()?;
        Some(files.iter().fold(0, |sum: u64, (_, signature)| sum.saturating_add(signature.size)))
    }

    /// What is wrong with the files outside the store that the stage reads, each with the setting that names them. No file
    /// is read.
    pub fn source_problems(&self, stage: &StageDeclaration) -> Vec<SourceProblem> {
        let patterns = set_patterns(stage);
        let problem = |problem: sources::Problem| {
            let (setting, is_list) = source_setting(stage);
            let pattern = patterns.get(problem.pattern).map(|pattern| pattern.0.as_str()).unwrap_or_default();
            let item = stage.stage.exec().get(setting).and_then(|value| value.as_array()).and_then(|items| {
                items.iter().position(|item| item.as_str() == Some(pattern)).map(|index| format!("{setting}[{index}]"))
            });
            let path = item.filter(|_| is_list).unwrap_or_else(|| setting.to_owned());
            let place = stage.setting(&path).or_else(|| stage.setting(setting)).unwrap_or_else(|| stage.place.clone());
            SourceProblem { stage: stage.name.clone(), place, text: problem.text }
        };
        let missing = sources::matching(&self.folders, &patterns).err().unwrap_or_default();
        missing.problems.into_iter().map(problem).collect()
    }

    /// The files outside the store that the stage reads. An empty pattern is a source that is not set: it is passed over
    /// where an input port is connected in its place.
    fn source_files(&self, stage: &StageDeclaration) -> Result<Vec<(PathBuf, Signature)>, Missing> {
        sources::matching(&self.folders, &set_patterns(stage))
    }
}

/// What is wrong with files outside the store that a stage reads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceProblem {
    /// The stage.
    pub stage: StageName,
    /// The setting that names the files, or the stage where none does.
    pub place: Place,
    /// What is wrong.
    pub text: String,
}

impl SourceProblem {
    /// For people: `run.toml:12:1: stage 'export': no file matches 'data/*.gz'`.
    pub fn full_text(&self) -> String {
        format!("{}: stage '{}': {}", self.place, self.stage, self.text)
    }
}

/// The patterns of a stage's sources, less an empty one where an input port is connected in its place.
fn set_patterns(stage: &StageDeclaration) -> Vec<SourcePattern> {
    let mut patterns = stage.stage.sources();
    if !stage.inputs.is_empty() {
        patterns.retain(|pattern| !pattern.0.is_empty());
    }
    patterns
}

/// The setting of the stage's kind that names files outside the store, and whether it is a list.
pub fn source_setting(stage: &StageDeclaration) -> (&str, bool) {
    let properties = stage.kind.exec_schema.get("properties").and_then(Value::as_object);
    let names_files = |(_, schema): &(&String, &Value)| schema.to_string().contains(SourcePattern::FORMAT);
    let found = properties.into_iter().flatten().find(names_files);
    found.map_or(("source", false), |(name, schema)| (name, schema.get("items").is_some()))
}

/// What the key of a stage holds of the files outside the store that it reads.
fn digests(stage: &StageDeclaration, sources: &SourceSnapshot) -> Vec<Digest> {
    match stage.kind.named_sources {
        true => SourceFile::named_digests(sources.files(), &stage.stage.sources()),
        false => sources.digests(),
    }
}

/// Where a stage looks for files outside the store.
pub fn patterns(stage: &StageDeclaration) -> Vec<String> {
    stage.stage.sources().iter().map(ToString::to_string).collect()
}
