//! Estimates of the bytes that stages read and write, used for durations and disk space.

use std::collections::{BTreeMap, BTreeSet};

use contract::{Cost, Digest, PortType};

use super::baseline::Baseline;
use super::decide::{Decider, StageKey};
use super::fit::Task;
use super::recipe::Recipe;
use crate::manifest::{Edge, Manifest, StageDeclaration, StageName};
use crate::store::Store;

/// The sizes of stages that will run, each added after its upstream stages.
pub(super) struct Sizes<'a> {
    manifest: &'a Manifest,
    store: &'a Store,
    outputs: BTreeMap<StageName, OutputSize>,
}

/// Bytes of the outputs of a stage.
enum OutputSize {
    /// The total of all ports.
    Total(u64),
    /// The size of each port.
    Ports(BTreeMap<String, u64>),
}

impl OutputSize {
    fn total(&self) -> u64 {
        match self {
            Self::Total(bytes) => *bytes,
            Self::Ports(ports) => ports.values().fold(0, |sum, bytes| sum.saturating_add(*bytes)),
        }
    }
}

impl<'a> Sizes<'a> {
    pub(super) fn new(manifest: &'a Manifest, store: &'a Store) -> Self {
        Self { manifest, store, outputs: BTreeMap::new() }
    }

    /// Returns the bytes that a stage reads, including those of its `sources`. `known` returns the tree of an input port if its content is
    /// known. Returns `None` if the size of an input is unknown.
    pub(super) fn read(
        &self,
        stage: &StageDeclaration,
        sources: Option<u64>,
        known: impl Fn(&str, &Edge) -> Option<Digest>,
    ) -> Option<u64> {
        let (mut read, mut counted) = (sources?, BTreeSet::new());
        for (port, edge) in &stage.inputs {
            let bytes = match (known(port, edge), self.outputs.get(&edge.stage)) {
                (Some(tree), _) => self.tree(tree)?,
                (None, Some(OutputSize::Ports(ports))) => *ports.get(&edge.output)?,
                // The size of each port is unknown: their total is counted once.
                (None, Some(OutputSize::Total(bytes))) if counted.insert(&edge.stage) => *bytes,
                (None, Some(OutputSize::Total(_))) => 0,
                (None, None) => return None,
            };
            read = read.saturating_add(bytes);
        }
        Some(read)
    }

    /// Adds a stage that will run and reads this many bytes. Returns the bytes that it writes: its outputs and its copies of tables.
    ///
    /// The estimate is the output of `baseline` scaled by the ratio of the inputs, if that is known; `is_same` says whether the baseline
    /// has the same recipe. Otherwise it follows from the settings or the size of the input.
    pub(super) fn add(
        &mut self,
        stage: &StageDeclaration,
        cost: &Cost,
        read: Option<u64>,
        baseline: Option<(&Baseline, bool)>,
        known: impl Fn(&str, &Edge) -> Option<Digest>,
    ) -> u64 {
        let copied = self.copied(stage, known);
        let outputs = read.and_then(|read| {
            baseline.and_then(|(build, is_same)| self.scaled(stage, read, build, is_same)).or_else(|| match cost.disk {
                Some(disk) => Some(OutputSize::Total(disk)),
                None if !produces_data(stage) => Some(OutputSize::Total(0)),
                // The size of generated data is unknown.
                None => (read > 0).then_some(OutputSize::Total(read)),
            })
        });
        let written = cost.disk.or(outputs.as_ref().map(OutputSize::total)).unwrap_or(0);
        self.outputs.extend(outputs.map(|outputs| (stage.name.clone(), outputs)));
        written.saturating_add(copied)
    }

    fn scaled(&self, stage: &StageDeclaration, read: u64, build: &Baseline, is_same: bool) -> Option<OutputSize> {
        let ratio = match (read, build.read?) {
            (0, 0) if is_same => 1.0,
            (now, then) if now > 0 && then > 0 && produces_data(stage) => now as f64 / then as f64,
            // Models and reports do not grow with their inputs.
            (_, then) if then > 0 => 1.0,
            _ => return None,
        };
        let scale = |bytes: u64| (bytes as f64 * ratio) as u64;
        let ports = build.outputs.iter().map(|(port, tree)| Some((port.clone(), scale(self.tree(*tree)?))));
        Some(OutputSize::Ports(ports.collect::<Option<_>>()?))
    }

    /// Returns the bytes of the tables of which the stage reads a plain copy that is not in the store yet.
    fn copied(&self, stage: &StageDeclaration, known: impl Fn(&str, &Edge) -> Option<Digest>) -> u64 {
        let edges = stage.inputs.iter().filter(|(_, edge)| stage.kind.copies_tables && self.is_table(edge));
        let derived = self.store.objects.derived();
        let bytes = |port: &str, edge: &Edge| match (known(port, edge), self.outputs.get(&edge.stage)) {
            (Some(tree), _) if derived.has(tree) => 0,
            (Some(tree), _) => self.tree(tree).unwrap_or(0),
            (None, Some(OutputSize::Ports(ports))) => ports.get(&edge.output).copied().unwrap_or(0),
            (None, outputs) => outputs.map_or(0, OutputSize::total),
        };
        let trees: BTreeMap<_, _> =
            edges.map(|(port, edge)| ((&edge.stage, &edge.output), bytes(port, edge))).collect();
        trees.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    fn is_table(&self, edge: &Edge) -> bool {
        let ports = self.manifest.stages.get(&edge.stage).map(|stage| &stage.ports.outputs);
        let is_table = |ty: PortType| matches!(ty, PortType::Documents | PortType::Rows);
        ports.into_iter().flatten().any(|port| port.name == edge.output && is_table(port.ty))
    }

    fn tree(&self, tree: Digest) -> Option<u64> {
        Some(self.store.objects.tree(tree).ok()?.size())
    }
}

/// Returns the task for a stage that is about to run, with known inputs.
pub fn stage_task<'m>(
    manifest: &Manifest,
    store: &Store,
    stage: &'m StageDeclaration,
    key: &StageKey,
    cost: Cost,
    baseline: Option<&Baseline>,
) -> Task<'m> {
    let mut sizes = Sizes::new(manifest, store);
    let known = |port: &str, _: &Edge| key.inputs.get(port).copied();
    let read = sizes.read(stage, Some(key.sources.size()), known);
    let build = baseline.map(|build| (build, Recipe::of(&build.key_record) == Recipe::of(&key.key_record)));
    let disk = sizes.add(stage, &cost, read, build, known);
    Task { stage, cost, disk, scratch: store.work.scratch_bytes(Some(key.key.digest())) }
}

/// Returns the given stages as tasks, as if all of them ran and read the last outputs of their upstream stages. Each comes after its upstream
/// stages.
pub fn tasks_if_all_run<'a, 'n>(
    decider: &Decider<'a>,
    names: impl IntoIterator<Item = &'n StageName>,
) -> Vec<Task<'a>> {
    let mut sizes = Sizes::new(decider.manifest, decider.store);
    let stages = names.into_iter().filter_map(|name| decider.manifest.stages.get(name));
    let task = |stage| {
        let (cost, read) = (decider.cost(stage), sizes.read(stage, decider.source_bytes(stage), |_, _| None));
        Task { stage, cost, disk: sizes.add(stage, &cost, read, None, |_, _| None), scratch: 0 }
    };
    stages.map(task).collect()
}

/// Returns whether a stage produces tables or tokens. Models, tokenizers and reports are small in comparison, and the size of plain files
/// that a command writes is unknown.
fn produces_data(stage: &StageDeclaration) -> bool {
    let is_data = |ty: PortType| matches!(ty, PortType::Documents | PortType::Rows | PortType::Tokens);
    stage.ports.outputs.iter().any(|port| is_data(port.ty))
}
