//! A case: a graph of stages and what is done to it, as JSON.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// A history. Numbers that point at stages are taken modulo the stages that there are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    pub nodes: Vec<Node>,
    pub edits: Vec<Edit>,
}

/// Stage `i` reads some of the stages before it and adds a number, that of a file outside the store if it has one, and that of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub number: u64,
    pub inputs: Vec<usize>,
    #[serde(default)]
    pub file: Option<u64>,
    #[serde(default)]
    pub fact: u64,
}

/// What is done before the next run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edit {
    /// The stage adds another number.
    Number(usize, u64),
    /// The file of the stage, if it has one, holds another number.
    File(usize, u64),
    /// The machine provides another number for the stage; 0 is none.
    Fact(usize, u64),
    /// A run comes while the file of the stage, if it has one, is gone, and another stage adds another number.
    Lose { stage: usize, other: usize, number: u64 },
    /// The records of the stage's last build are gone.
    Forget(usize),
    /// The run is told to run the stage whatever there is.
    Force(usize),
    /// The only blob of the stage's last output is gone.
    Damage(usize),
    /// The stage adds another number and fails; then it is mended. What it left in its scratch is lost where `forget`.
    Fail { stage: usize, number: u64, forget: bool },
    /// The stage adds another number, and the run is killed when it passes a write point for the n-th time.
    Kill { stage: usize, number: u64, point: usize, pass: u32 },
}

const PORTS: [&str; 4] = ["a", "b", "c", "d"];

impl Case {
    /// The stages that stage `i` reads, by port.
    pub fn inputs(&self, stage: usize) -> BTreeMap<&'static str, usize> {
        let mut from: Vec<_> = self.nodes[stage].inputs.iter().filter_map(|input| input.checked_rem(stage)).collect();
        from.sort_unstable();
        from.dedup();
        PORTS.into_iter().zip(from).collect()
    }

    /// What each stage's output is to hold.
    pub fn sums(&self) -> Vec<u64> {
        let mut sums: Vec<u64> = Vec::new();
        for (stage, node) in self.nodes.iter().enumerate() {
            let read: u64 = self.inputs(stage).values().map(|from| sums[*from]).sum();
            sums.push((node.number + node.fact + node.file.unwrap_or(0) + read) % 3);
        }
        sums
    }

    /// The manifest, in which one stage may be told to fail.
    pub fn manifest(&self, fails: Option<usize>) -> String {
        let mut text = "[run]\nname = \"random\"\n".to_owned();
        for (stage, node) in self.nodes.iter().enumerate() {
            text += &format!("[stages.s{stage}]\nkind = \"add\"\nnumber = {}\n", node.number);
            if node.file.is_some() {
                text += &format!("file = \"{}\"\n", file(stage));
            }
            if node.fact > 0 {
                text += &format!("fact = {}\n", node.fact);
            }
            if fails == Some(stage) {
                text += "fails = true\n";
            }
            let edges = self.inputs(stage).into_iter().map(|(port, from)| format!("{port} = \"s{from}\""));
            let edges: Vec<_> = edges.collect();
            if !edges.is_empty() {
                text += &format!("inputs = {{ {} }}\n", edges.join(", "));
            }
        }
        text
    }
}

/// The file of a stage, beside the manifest.
pub fn file(stage: usize) -> String {
    format!("s{stage}.txt")
}

/// Any case.
pub fn case() -> impl Strategy<Value = Case> {
    let stage = || 0..8usize;
    let number = || 0..4u64;
    let file = prop_oneof![2 => Just(None), 1 => number().prop_map(Some)];
    let fact = prop_oneof![2 => Just(0), 1 => number()];
    let node = (number(), vec(stage(), 0..4), file, fact);
    let node = node.prop_map(|(number, inputs, file, fact)| Node { number, inputs, file, fact });
    let edit = prop_oneof![
        4 => (stage(), number()).prop_map(|(stage, number)| Edit::Number(stage, number)),
        2 => (stage(), number()).prop_map(|(stage, number)| Edit::File(stage, number)),
        2 => (stage(), number()).prop_map(|(stage, number)| Edit::Fact(stage, number)),
        1 => (stage(), stage(), number()).prop_map(|(stage, other, number)| Edit::Lose { stage, other, number }),
        1 => stage().prop_map(Edit::Forget),
        1 => stage().prop_map(Edit::Force),
        1 => stage().prop_map(Edit::Damage),
        2 => (stage(), number(), any::<bool>())
            .prop_map(|(stage, number, forget)| Edit::Fail { stage, number, forget }),
        2 => (stage(), number(), 0..pipeline::store::failpoint::RUN_POINTS.len(), 1..4u32)
            .prop_map(|(stage, number, point, pass)| Edit::Kill { stage, number, point, pass }),
    ];
    (vec(node, 1..7), vec(edit, 1..6)).prop_map(|(nodes, edits)| Case { nodes, edits })
}
