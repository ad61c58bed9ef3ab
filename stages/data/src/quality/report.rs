//! The number of documents that each rule removed, and the overlaps of the rules.

use std::collections::BTreeMap;

use serde::Serialize;
use tables::Attrition;

use super::rules::{Rule, RuleBits};

/// The number of documents for each combination of rules, from which the report is computed.
#[derive(Debug, Default)]
pub(super) struct Combinations {
    matched: BTreeMap<u32, u64>,
    spared: BTreeMap<u32, u64>,
}

impl Combinations {
    pub(super) fn add(&mut self, matched: u32, spared: u32) {
        *self.matched.entry(matched).or_default() += 1;
        *self.spared.entry(spared).or_default() += 1;
    }
}

/// The report of a run: `rows = kept + dropped`, and the rules.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    attrition: Attrition,
    /// The counts by rule.
    rules: BTreeMap<&'static str, RuleReport>,
}

/// The counts of one rule.
#[derive(Debug, Default, Serialize)]
struct RuleReport {
    /// The number of documents that it removed, because it was the first rule to match.
    removed: u64,
    /// The number of documents that it matches, regardless of other rules.
    matched: u64,
    /// The number of matched documents that no other rule matches.
    alone: u64,
    /// The number of documents that meet its condition but that the random draw keeps.
    spared: u64,
    /// The number of matched documents that another rule matches too, by that rule.
    also: BTreeMap<&'static str, u64>,
}

impl Report {
    pub(super) fn new(attrition: Attrition, combinations: &Combinations) -> Self {
        let rules = Rule::ALL.into_iter().map(|rule| (rule.name(), rule_report(rule, combinations))).collect();
        Self { attrition, rules }
    }
}

fn rule_report(rule: Rule, combinations: &Combinations) -> RuleReport {
    let mut report = RuleReport::default();
    for (rules, rows) in combinations.matched.iter().map(|(bits, rows)| (RuleBits(*bits), *rows)) {
        if !rules.has(rule) {
            continue;
        }
        report.matched += rows;
        report.removed += if rules.first() == Some(rule) { rows } else { 0 };
        let others = Rule::ALL.into_iter().filter(|other| *other != rule && rules.has(*other));
        let mut alone = true;
        for other in others {
            *report.also.entry(other.name()).or_default() += rows;
            alone = false;
        }
        report.alone += if alone { rows } else { 0 };
    }
    let spared = combinations.spared.iter().filter(|(bits, _)| RuleBits(**bits).has(rule));
    report.spared = spared.map(|(_, rows)| rows).sum();
    report
}
