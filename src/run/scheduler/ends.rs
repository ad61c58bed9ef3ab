//! What becomes of a stage: cached, built, failed, or skipped, told and counted.

use super::{Scheduler, State};
use crate::events::{Event, OutputSummary};
use crate::manifest::StageName;
use crate::plan::{Keyed, Reason};
use crate::run::StageOutcome;
use crate::run::change::Change;
use crate::run::execution::{Built, Failure};
use crate::store::Hit;

impl Scheduler<'_, '_> {
    pub(super) fn cached(&mut self, name: &StageName, keyed: Keyed, hit: Hit) {
        self.release(name);
        self.outcome.summary.cached += 1;
        if hit.distinct > 1 {
            let Hit { builds, distinct, .. } = hit;
            self.shared.warn(
                name,
                format!("{builds} builds of its key gave {distinct} different outputs; the first whole one is used"),
            );
        }
        if keyed.absent {
            self.shared.warn(name, Reason::SourcesAbsent.text());
        }
        for damage in &hit.damage {
            self.shared.warn(name, format!("an earlier build is damaged: {damage}"));
        }
        let outputs = OutputSummary::by_port(&hit.trees);
        let (stage, key) = (name.to_string(), keyed.key.digest());
        self.shared.events.send(Event::StageCached { stage, key, outputs });
        let stage = StageOutcome {
            keyed,
            record: hit.record,
            trees: hit.trees,
            ran: false,
            differs: false,
            earlier: hit.builds,
        };
        self.done(name, stage);
    }

    pub(super) fn built(&mut self, name: &StageName, keyed: Keyed, built: Built) {
        self.release(name);
        self.outcome.summary.ran += 1;
        let Built { record, trees, seconds, differs, earlier, change } = built;
        let Change { compared_with, unchanged, compared, without_effect } = change;
        let (stage, outputs) = (name.to_string(), OutputSummary::by_port(&trees));
        self.shared.events.send(Event::StageFinished {
            stage,
            outputs,
            seconds,
            unchanged,
            differs,
            compared_with,
            compared,
            without_effect,
        });
        self.done(name, StageOutcome { keyed, record, trees, ran: true, differs, earlier });
    }

    fn done(&mut self, name: &StageName, stage: StageOutcome) {
        self.states.insert(name.clone(), State::Done(stage.record.outputs.clone()));
        self.outcome.stages.insert(name.clone(), stage);
        self.frontier.done(self.graph, name);
    }

    pub(super) fn failed(&mut self, name: &StageName, failure: Failure) {
        self.release(name);
        let stage = name.to_string();
        let event = match failure {
            Failure::Interrupted => return self.skip(name, "the run was interrupted".to_owned()),
            Failure::Stage(failure) => {
                let place = failure.file.map(|file| match failure.line {
                    Some(line) => format!("{}:{line}", file.display()),
                    None => file.display().to_string(),
                });
                Event::StageFailed { stage, message: failure.message, place, hint: failure.hint }
            }
            Failure::Store(error) => {
                self.outcome.summary.store_failed |= error.is_store_failure();
                let hint = error.hint().map(str::to_owned);
                Event::StageFailed { stage, message: error.to_string(), place: None, hint }
            }
        };
        self.outcome.summary.failed += 1;
        self.shared.events.send(event);
        self.end(name);
    }

    pub(super) fn skip(&mut self, name: &StageName, because: String) {
        self.tell_skipped(name, because);
        self.end(name);
    }

    fn tell_skipped(&mut self, name: &StageName, because: String) {
        self.outcome.summary.skipped += 1;
        self.states.insert(name.clone(), State::Ended);
        self.shared.events.send(Event::StageSkipped { stage: name.to_string(), because });
    }

    /// A stage has no output: what needs it is skipped. The graph may be deeper than a stack.
    fn end(&mut self, name: &StageName) {
        self.states.insert(name.clone(), State::Ended);
        let mut ended = vec![name.clone()];
        while let Some(name) = ended.pop() {
            for dependent in self.graph.dependents_of(&name) {
                if matches!(self.states.get(dependent), Some(State::Blocked)) {
                    self.tell_skipped(dependent, format!("it needs {name}"));
                    ended.push(dependent.clone());
                }
            }
        }
    }

    /// Gives a stage's share back, and shows what it said last.
    pub(super) fn release(&mut self, name: &StageName) {
        if let Some(State::Running(running)) = self.states.insert(name.clone(), State::Ended) {
            running.tell(name, self.shared.events);
            self.building.remove(&running.key);
            self.pools.give_back(running.share);
            let twin = |state: &State| matches!(state, State::Ready(ready) if ready.keyed.key.digest() == running.key);
            self.names(twin).iter().for_each(|twin| self.decide_again(twin));
        }
    }
}
