//! Tracks the dependencies of the unfinished stages of a run.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::Graph;
use crate::manifest::StageName;
use crate::plan::StageOutputs;

/// The wanted stages in the order of the graph, and those whose inputs are done.
pub(super) struct DependencyTracker {
    order: Vec<StageName>,
    /// The index of each stage in the order.
    indexes: BTreeMap<StageName, usize>,
    /// The number of upstream stages that are not done, by index.
    missing: Vec<usize>,
    /// The stages whose inputs are done and that were not taken yet, by index.
    unblocked: BTreeSet<usize>,
}

impl DependencyTracker {
    /// Creates a tracker; stages are unblocked at once if all their inputs are `provided`. `wanted` must contain every other upstream stage
    /// of its stages.
    pub(super) fn new(graph: &Graph, wanted: &BTreeSet<StageName>, provided: &StageOutputs) -> Self {
        let order: Vec<_> = graph.order().iter().filter(|name| wanted.contains(*name)).cloned().collect();
        let indexes = order.iter().enumerate().map(|(index, name)| (name.clone(), index)).collect();
        let missing =
            |name| graph.inputs_of(name).into_iter().filter(|upstream| !provided.contains_key(*upstream)).count();
        let missing: Vec<_> = order.iter().map(missing).collect();
        let unblocked = (0..order.len()).filter(|index| missing[*index] == 0).collect();
        Self { order, indexes, missing, unblocked }
    }

    /// Returns all wanted stages, each after its upstream stages.
    pub(super) fn order(&self) -> &[StageName] {
        &self.order
    }

    /// Takes the unblocked stages, in order.
    pub(super) fn take(&mut self) -> Vec<StageName> {
        std::mem::take(&mut self.unblocked).into_iter().map(|index| self.order[index].clone()).collect()
    }

    /// Marks a stage as done, which unblocks the stages that waited only for it.
    pub(super) fn finish(&mut self, graph: &Graph, stage: &StageName) {
        for dependent in graph.dependents_of(stage) {
            let Some(index) = self.indexes.get(dependent).copied() else { continue };
            self.missing[index] -= 1;
            if self.missing[index] == 0 {
                self.unblocked.insert(index);
            }
        }
    }
}
