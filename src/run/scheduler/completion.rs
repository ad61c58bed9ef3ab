//! The completion of a stage: cached, built, failed or skipped. It is reported and counted here.

use super::{Scheduler, StageState};
use crate::events::{Event, OutputSummary};
use crate::manifest::StageName;
use crate::plan::{Reason, StageKey};
use crate::run::comparison::OutputComparison;
use crate::run::failure::Failure;
use crate::run::outcome::StageOutcome;
use crate::store::Hit;

impl Scheduler<'_, '_> {
    pub(super) fn complete_cached(&mut self, name: &StageName, key: StageKey, hit: Hit) {
        self.release(name);
        self.outcome.summary.cached += 1;
        let Hit { record, trees, builds, distinct, damage, .. } = hit;
        if distinct > 1 {
            self.context.warn(
                name,
                format!(
                    "{builds} builds of its key have {distinct} different outputs; the first undamaged one is used"
                ),
            );
        }
        if key.sources_missing {
            self.context.warn(name, Reason::SourcesAbsent.text());
        }
        for damage in &damage {
            self.context.warn(name, format!("an earlier build is damaged: {damage}"));
        }
        let (stage, outputs) = (name.to_string(), OutputSummary::by_port(&trees));
        self.context.events.send(Event::StageCached { stage, key: key.key.digest(), outputs });
        self.complete(name, StageOutcome { key, record, trees, ran: false, differs: false, earlier: builds });
    }

    pub(super) fn complete_built(
        &mut self,
        name: &StageName,
        built: StageOutcome,
        seconds: f64,
        comparison: OutputComparison,
    ) {
        self.release(name);
        self.outcome.summary.ran += 1;
        let OutputComparison { compared_with, unchanged, compared, without_effect } = comparison;
        let (stage, outputs) = (name.to_string(), OutputSummary::by_port(&built.trees));
        self.context.events.send(Event::StageFinished {
            stage,
            outputs,
            seconds,
            unchanged,
            differs: built.differs,
            compared_with,
            compared,
            without_effect,
        });
        self.complete(name, built);
    }

    fn complete(&mut self, name: &StageName, stage: StageOutcome) {
        self.states.insert(name.clone(), StageState::Done(stage.record.outputs.clone()));
        self.outcome.stages.insert(name.clone(), stage);
        self.dependencies.finish(self.graph, name);
    }

    pub(super) fn fail(&mut self, name: &StageName, failure: Failure) {
        self.release(name);
        let stage = name.to_string();
        let event = match failure {
            Failure::Interrupted => return self.skip(name, "the run was interrupted".to_owned()),
            Failure::Skipped(reason) => return self.skip(name, reason),
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
        self.context.events.send(event);
        self.end(name);
    }

    pub(super) fn skip(&mut self, name: &StageName, because: String) {
        self.report_skipped(name, because);
        self.end(name);
    }

    fn report_skipped(&mut self, name: &StageName, because: String) {
        self.outcome.summary.skipped += 1;
        self.states.insert(name.clone(), StageState::Ended);
        self.context.events.send(Event::StageSkipped { stage: name.to_string(), because });
    }

    /// Ends a stage that has no output, and skips its downstream stages. Not recursive, because the graph may be deeper than the stack.
    fn end(&mut self, name: &StageName) {
        self.states.insert(name.clone(), StageState::Ended);
        let mut ended = vec![name.clone()];
        while let Some(name) = ended.pop() {
            for dependent in self.graph.dependents_of(&name) {
                if matches!(self.states.get(dependent), Some(StageState::Blocked)) {
                    self.report_skipped(dependent, format!("it depends on {name}"));
                    ended.push(dependent.clone());
                }
            }
        }
    }

    /// Releases the share of a stage, and sends its last notes. Stages that waited for its key are decided again.
    pub(super) fn release(&mut self, name: &StageName) {
        if let Some(StageState::Running(running)) = self.states.insert(name.clone(), StageState::Ended) {
            running.send_notes(name, self.context.events);
            self.building.remove(&running.key);
            self.pools.release(running.share);
            let waits =
                |state: &StageState| matches!(state, StageState::Ready(stale) if stale.key.key.digest() == running.key);
            self.names(waits).iter().for_each(|name| self.decide_again(name));
        }
    }
}
