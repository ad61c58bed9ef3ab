//! The decision on one stage: is its output in the store, given the content of its inputs? `plan` and `run` both call this module, so they
//! cannot disagree.

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
use super::recipe::Recipe;
use super::sources::{self, DirectoryCache, Missing};
use crate::clock;
use crate::key::{Key, KeyInput, KeyPath, KeyRecord};
use crate::manifest::{self, Manifest, Place, StageDeclaration, StageName};
use crate::store::{Hit, Lookup, Signature, SourceSnapshot, Store, StoreError};

/// Decides on the stages of one manifest with one store. Clones share what was read of the store's history.
#[derive(Debug, Clone)]
pub struct Decider<'a> {
    /// The stages.
    pub manifest: &'a Manifest,
    /// The store with their outputs.
    pub store: &'a Store,
    /// Stages that run even if their output is in the store.
    pub forced: &'a BTreeSet<StageName>,
    history: Arc<History>,
    directories: Arc<DirectoryCache>,
}

/// What to do with a stage whose inputs are known.
#[derive(Debug)]
pub enum Decision {
    /// Its output is in the store.
    Cached(StageKey, Box<Hit>),
    /// It has to run: the reasons, and the build that they refer to.
    Run(StageKey, Vec<Reason>, Option<Baseline>),
}

/// The result of [`Decider::fast_path`].
#[derive(Debug, Clone)]
pub enum FastPath {
    /// The output of the stage is in the store.
    Cached(StageKey, Box<Hit>),
    /// Its key has no recorded build.
    NeverBuilt(StageKey),
    /// The key has to be computed and looked up.
    Unknown,
}

/// The key of a stage with the data that it was computed from.
#[derive(Debug, Clone)]
pub struct StageKey {
    /// The key.
    pub key: Key,
    /// The content of the key.
    pub key_record: KeyRecord,
    /// The tree that each input port reads.
    pub inputs: BTreeMap<String, Digest>,
    /// The files outside the store that the stage reads.
    pub sources: SourceSnapshot,
    /// Whether the source files are missing; they are then assumed to be those of the stage's last build.
    pub sources_missing: bool,
}

impl<'a> Decider<'a> {
    /// Creates a decider for the current content of a store.
    pub fn new(manifest: &'a Manifest, store: &'a Store, forced: &'a BTreeSet<StageName>) -> Self {
        Self { manifest, store, forced, history: Arc::default(), directories: Arc::default() }
    }

    /// Returns the key of `stage` if its input ports read these trees, or the problems if files outside the store are missing. Calls
    /// `hashed` with the number of bytes of each piece of such a file that is read; returning false cancels.
    ///
    /// # Errors
    /// Returns an error if an external file cannot be read; [`StoreError::Interrupted`] if `hashed` returned false.
    pub fn key(
        &self,
        stage: &StageDeclaration,
        inputs: &BTreeMap<String, Digest>,
        hashed: impl FnMut(u64) -> bool,
    ) -> Result<Result<StageKey, Vec<Reason>>, StoreError> {
        let missing = match self.source_files(stage) {
            Ok(files) => return Ok(Ok(self.stage_key(stage, inputs, self.store.sources.digest(files, hashed)?))),
            Err(missing) => missing,
        };
        if missing.all
            && let Some(key) = self.last_key(stage, inputs)?
        {
            return Ok(Ok(key));
        }
        let reason = |problem: sources::Problem| Reason::SourceMissing { problem: problem.text };
        Ok(Err(missing.problems.into_iter().map(reason).collect()))
    }

    /// Returns the key of a stage whose files outside the store are all missing: that of its last build in runs of this name, else in other
    /// runs of this manifest, if the store has its output, the patterns of the files are the same, and nothing else differs.
    fn last_key(
        &self,
        stage: &StageDeclaration,
        inputs: &BTreeMap<String, Digest>,
    ) -> Result<Option<StageKey>, StoreError> {
        if self.forced.contains(&stage.name) {
            return Ok(None);
        }
        let (name, now) = (stage.name.as_str(), self.stage_key(stage, inputs, SourceSnapshot::default()));
        let others = self.store.runs.of_manifest(&manifest::origin(&self.manifest.path))?;
        for run in [&self.manifest.name].into_iter().chain(others.iter().filter(|run| **run != self.manifest.name)) {
            let last = self.store.builds.last_build(run, name)?;
            let Some(last) = last.filter(|last| last.patterns == patterns(stage)) else { continue };
            let differences = KeyRecord::differences(&last.key_record, &now.key_record);
            if differences.iter().any(|difference| difference.path != KeyPath::Sources) {
                continue;
            }
            if let Lookup::Hit(hit) = self.store.builds.lookup(last.key)?
                && hit.record.key_record == last.key_record
            {
                let sources = SourceSnapshot::remembered(self.store.builds.last_sources(run, name)?);
                let (key, key_record) = (Key::of(last.key), last.key_record);
                return Ok(Some(StageKey { key, key_record, sources, sources_missing: true, ..now }));
            }
        }
        Ok(None)
    }

    /// Looks up the output of `stage` without hashing files outside the store and without waiting for a lock. The facts of the machine in
    /// its key are remembered once a plan has asked for them; before, a kind may start a program to find them.
    pub fn fast_path(&self, stage: &StageDeclaration, inputs: &BTreeMap<String, Digest>) -> FastPath {
        let files = self.source_files(stage).ok().filter(|_| !self.forced.contains(&stage.name));
        let Some(sources) = files.and_then(|files| self.store.sources.known(files)) else { return FastPath::Unknown };
        let (digests, machine) = (source_digests(stage, &sources), stage.stage.machine_facts());
        let input = self.key_input(stage, inputs, &digests, &machine);
        let key = input.key();
        let (digest, layout) = (key.digest(), self.store.layout());
        let hit = self.store.builds.lookup_sealed(digest);
        let key_record = match &hit {
            // Equal keys have equal contents.
            Some(hit) => hit.record.key_record.clone(),
            None if layout.records(digest).exists() || layout.ledger(digest).exists() => return FastPath::Unknown,
            None => input.record(),
        };
        debug_assert_eq!(
            key_record,
            input.record(),
            "the content of a key has a new format, but the domain is unchanged"
        );
        let key = StageKey { key, key_record, inputs: inputs.clone(), sources, sources_missing: false };
        match hit {
            Some(hit) => FastPath::Cached(key, Box::new(hit)),
            None => FastPath::NeverBuilt(key),
        }
    }

    /// Decides on `stage`, given the result of looking up its key.
    pub fn decide(&self, stage: &StageDeclaration, key: StageKey, lookup: Lookup) -> Result<Decision, StoreError> {
        let damage = match lookup {
            Lookup::Hit(hit) if !self.forced.contains(&stage.name) => return Ok(Decision::Cached(key, hit)),
            Lookup::Hit(_) => None,
            Lookup::Damaged(damage) => Some(damage),
            Lookup::Miss => Some(Vec::new()),
        };
        let baseline = self.baseline(stage, |old| KeyRecord::differences(old, &key.key_record).len())?;
        let mut reasons = match (&damage, &baseline) {
            (None, _) => vec![Reason::Forced],
            (Some(damage), _) if !damage.is_empty() => {
                damage.iter().map(|damage| Reason::Damaged { what: damage.to_string() }).collect()
            }
            (Some(_), Some(baseline)) => {
                baseline.reasons(self.manifest, stage, &KeyRecord::differences(&baseline.key_record, &key.key_record))
            }
            (Some(_), None) => vec![Reason::NeverBuilt { closest: None, differences: Vec::new() }],
        };
        if let Some(resumes) = self.resumes(stage, &key)? {
            // An interrupted build is a more specific reason than the absence of a build.
            reasons.retain(|reason| !matches!(reason, Reason::NeverBuilt { .. }));
            reasons.insert(0, resumes);
        }
        if reasons.is_empty() {
            // It was built, but its record or its bytes are no longer in the store.
            reasons.push(Reason::Removed);
        }
        Ok(Decision::Run(key, reasons, baseline))
    }

    /// Computes the key of a stage whose input ports read the given trees.
    fn stage_key(
        &self,
        stage: &StageDeclaration,
        inputs: &BTreeMap<String, Digest>,
        sources: SourceSnapshot,
    ) -> StageKey {
        let (digests, machine) = (source_digests(stage, &sources), stage.stage.machine_facts());
        let input = self.key_input(stage, inputs, &digests, &machine);
        let (key, key_record) = (input.key(), input.record());
        StageKey { key, key_record, inputs: inputs.clone(), sources, sources_missing: false }
    }

    /// Returns the content of a stage's key without its inputs and sources.
    pub(super) fn own_record(&self, stage: &StageDeclaration) -> KeyRecord {
        self.stage_key(stage, &BTreeMap::new(), SourceSnapshot::default()).key_record
    }

    /// Returns the content of a stage's key before it is hashed.
    fn key_input<'i>(
        &self,
        stage: &'i StageDeclaration,
        inputs: &'i BTreeMap<String, Digest>,
        sources: &'i [Digest],
        machine: &'i BTreeMap<String, String>,
    ) -> KeyInput<'i> {
        KeyInput {
            kind: stage.kind.name,
            revision: stage.kind.revision,
            settings: stage.stage.spec(),
            seed: stage.kind.seeded.then_some(self.manifest.seed),
            inputs,
            sources,
            machine,
        }
    }

    /// Returns the recorded outputs for this key, whether their bytes are in the store or not: those of the build that is used, else of the
    /// first recorded build, else of the stage's last build in this run.
    pub fn recorded_outputs(
        &self,
        stage: &StageDeclaration,
        key: Key,
    ) -> Result<Option<BTreeMap<String, Digest>>, StoreError> {
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

    /// Returns the build that a stage is compared with; `distance` counts the differences from the content of a build's key.
    pub(super) fn baseline(
        &self,
        stage: &StageDeclaration,
        distance: impl Fn(&KeyRecord) -> usize,
    ) -> Result<Option<Baseline>, StoreError> {
        let run = self.manifest.name.as_str();
        let last = self.store.builds.last_build(run, stage.name.as_str())?;
        self.history.baseline(self.store, run, stage, last, distance)
    }

    /// Returns whether a build with this recipe may be in the store.
    pub(super) fn may_have_built(&self, recipe: &Recipe) -> Result<bool, StoreError> {
        self.history.may_have(self.store, recipe)
    }

    /// Returns whether a stage runs whatever its inputs contain: no build with its settings is recorded, or it is forced.
    pub fn surely_runs(&self, stage: &StageDeclaration) -> Result<bool, StoreError> {
        Ok(self.forced.contains(&stage.name) || !self.may_have_built(&Recipe::of(&self.own_record(stage)))?)
    }

    /// Estimates the duration of a stage with this recipe and cost that reads this many bytes.
    pub(super) fn estimate(
        &self,
        stage: &StageDeclaration,
        recipe: &Recipe,
        cost: &Cost,
        bytes: Option<u64>,
    ) -> Result<Result<Estimate, NoEstimate>, StoreError> {
        let work = Work { operations: cost.flops, updates: cost.updates, bytes };
        let device = self.manifest.exec.device.filter(|_| stage.stage.needs().gpu);
        self.history.estimate(self.store, stage.kind.name, recipe, work, device)
    }

    /// Returns what a stage would cost according to its settings and the headers of the last outputs of its upstream stages in runs of this
    /// name, stale or not. [`super::PlannedStage::cost`] uses known inputs only.
    pub fn cost(&self, stage: &StageDeclaration) -> Cost {
        let input = |port: &str| {
            let tree = lint::last_output(self.manifest, stage.inputs.get(port)?, self.store)?;
            self.store.objects.input(tree).ok()
        };
        stage.cost_with(&input)
    }

    /// Returns the checkpoint of an interrupted build of this key, from which its next build continues.
    fn resumes(&self, stage: &StageDeclaration, key: &StageKey) -> Result<Option<Reason>, StoreError> {
        let Some(scratch) = self.store.work.scratch(key.key.digest(), &key.inputs, &key.sources)? else {
            return Ok(None);
        };
        Ok(stage.stage.checkpoint(&scratch).map(|checkpoint| Reason::resumes(&checkpoint, clock::now())))
    }

    /// Returns the bytes of the files outside the store that the stage reads; `None` if some are missing.
    pub(super) fn source_bytes(&self, stage: &StageDeclaration) -> Option<u64> {
        let files = self.source_files(stage).ok()?;
        Some(files.iter().fold(0, |sum: u64, (_, signature)| sum.saturating_add(signature.size)))
    }

    /// Returns the problems with the files outside the store that the stage reads, each with the setting that names them, without reading
    /// any file.
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
        let missing = sources::matching(&self.directories, &patterns).err().unwrap_or_default();
        missing.problems.into_iter().map(problem).collect()
    }

    fn source_files(&self, stage: &StageDeclaration) -> Result<Vec<(PathBuf, Signature)>, Missing> {
        sources::matching(&self.directories, &set_patterns(stage))
    }
}

/// A problem with files outside the store that a stage reads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceProblem {
    /// The stage.
    pub stage: StageName,
    /// The setting that names the files; the stage if no setting does.
    pub place: Place,
    /// The description.
    pub text: String,
}

impl SourceProblem {
    /// Formats the problem: `run.toml:12:1: stage 'export': no file matches 'data/*.gz'`.
    pub fn full_text(&self) -> String {
        format!("{}: stage '{}': {}", self.place, self.stage, self.text)
    }
}

/// Returns the patterns of a stage's sources. An empty pattern means that the source is not set; it is omitted if an input port is
/// connected instead.
fn set_patterns(stage: &StageDeclaration) -> Vec<SourcePattern> {
    let mut patterns = stage.stage.sources();
    if !stage.inputs.is_empty() {
        patterns.retain(|pattern| !pattern.0.is_empty());
    }
    patterns
}

/// Returns the setting of the stage's kind that names files outside the store, and whether it is a list.
pub fn source_setting(stage: &StageDeclaration) -> (&str, bool) {
    let properties = stage.kind.exec_schema.get("properties").and_then(Value::as_object);
    let names_files = |(_, schema): &(&String, &Value)| schema.to_string().contains(SourcePattern::FORMAT);
    let found = properties.into_iter().flatten().find(names_files);
    found.map_or(("source", false), |(name, schema)| (name, schema.get("items").is_some()))
}

/// Returns the digests of external files as they enter a stage's key.
fn source_digests(stage: &StageDeclaration, sources: &SourceSnapshot) -> Vec<Digest> {
    match stage.kind.named_sources {
        true => SourceFile::named_digests(sources.files(), &stage.stage.sources()),
        false => sources.digests(),
    }
}

/// Returns the patterns of the files outside the store that a stage reads.
pub fn patterns(stage: &StageDeclaration) -> Vec<String> {
    stage.stage.sources().iter().map(ToString::to_string).collect()
}
