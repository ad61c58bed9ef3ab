//! The frontier of a run: the stages all of whose inputs are done and that nobody has looked at yet.

use std::collections::{BTreeMap, BTreeSet};

use super::Given;
use crate::graph::Graph;
use crate::manifest::StageName;

/// The wanted stages in the order of the graph, and which of them are open.
pub(super) struct Frontier {
    order: Vec<StageName>,
    /// The place of each stage in the order.
    places: BTreeMap<StageName, usize>,
    /// How many of the stages that it needs are not done, by place.
    missing: Vec<usize>,
    /// By place.
    open: BTreeSet<usize>,
}

impl Frontier {
    /// At the start: open is what needs no stage that is not `given`. `wanted` holds every other stage that one of its stages
    /// needs.
    pub(super) fn new(graph: &Graph, wanted: &BTreeSet<StageName>, given: &Given) -> Self {
        let order: Vec<_> = graph.order().iter().filter(|name| wanted.contains(*name)).cloned().collect();
        let places = order.iter().enumerate().map(|(place, name)| (name.clone(), place)).collect();
        let missing: Vec<_> = order
            .iter()
            .map(|name| graph.inputs_of(name).into_iter().filter(|above| !given.contains_key(*above)).count())
            .collect();
        let open = (0..order.len()).filter(|place| missing[*place] == 0).collect();
        Self { order, places, missing, open }
    }

    /// All wanted stages: each comes after those that it needs.
    pub(super) fn order(&self) -> &[StageName] {
        &self.order
    }

    /// Takes the open stages, in order.
    pub(super) fn take(&mut self) -> Vec<StageName> {
        std::mem::take(&mut self.open).into_iter().map(|place| self.order[place].clone()).collect()
    }

    /// Says that a stage is done: those that waited for it alone are open now.
    pub(super) fn done(&mut self, graph: &Graph, stage: &StageName) {
        for dependent in graph.dependents_of(stage) {
            let Some(place) = self.places.get(dependent).copied() else { continue };
            self.missing[place] -= 1;
            if self.missing[place] == 0 {
                self.open.insert(place);
            }
        }
    }
}
