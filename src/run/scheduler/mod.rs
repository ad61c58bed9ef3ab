//! Decides when each stage starts, and which stages a failure stops.
//!
//! One thread (the caller's) owns all state; each stage is decided and run on its own thread, which sends a message when it ends. A stage
//! is decided when its upstream stages are done, and starts when its share of the machine is free, in the order of the graph. Only a stage
//! that has its share acquires the lock of its key; if another process holds the lock, the stage returns the share and waits without a
//! thread until the lock is free. Of the stages of this run with equal keys, only one runs at a time. A stage that waited for another
//! process, or for a stage with its key, is decided again: it is then cached and needs no share, unless that build failed or the stage is
//! forced.
//!
//! A failed stage stops only its downstream stages, unless `fail_fast` is set. When the run is interrupted, running stages are cancelled
//! and no stage starts.

mod completion;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::Scope;
use std::time::Instant;

use contract::{Digest, StageError};

use crate::events::{Event, EventSender};
use crate::graph::Graph;
use crate::manifest::{Edge, StageDeclaration, StageName};
use crate::plan::{Decider, FastPath, fit};
use crate::run::context::RunContext;
use crate::run::decision::{UndecidedStage, decide};
use crate::run::dependencies::DependencyTracker;
use crate::run::failure::{Failure, catch_panic};
use crate::run::lookup::look_up;
use crate::run::message::{Message, StaleStage};
use crate::run::options::Options;
use crate::run::outcome::{Outcome, Summary};
use crate::run::resources::Pools;
use crate::run::running::{Running, SAMPLE_INTERVAL};
use crate::run::usage::Meter;
use crate::store::{LockHolder, LockState, OpenRun};

/// The maximum number of stages that are decided at the same time; it is never more than the threads of the run.
const MAX_DECIDING: usize = 32;

/// The state of a stage (module docs of [`super`]).
enum StageState {
    /// Its upstream stages are not done yet.
    Blocked,
    /// Its thread determines whether its output is in the store.
    Deciding,
    /// It is stale and waits for its share.
    Ready(Box<StaleStage>),
    /// It has its share: it acquires the lock of its key and runs.
    Running(Running),
    /// Another process holds the lock of its key. The stage has no thread and no share. The second value is the holder reported last,
    /// `Some(None)` if its name is unknown; no holder is reported before the first poll, because a plan holds the lock only for a moment.
    Waiting(Box<StaleStage>, Option<Option<LockHolder>>),
    /// It has these outputs, by port.
    Done(BTreeMap<String, Digest>),
    /// It has no output: it failed or was skipped.
    Ended,
}

struct Scheduler<'scope, 'a: 'scope> {
    scope: &'scope Scope<'scope, 'a>,
    decider: Decider<'a>,
    context: RunContext<'a>,
    options: &'a Options,
    graph: &'a Graph,
    dependencies: DependencyTracker,
    /// Stages that have to be decided on a thread.
    undecided: VecDeque<UndecidedStage<'a>>,
    states: BTreeMap<StageName, StageState>,
    pools: Pools,
    /// The keys of the running stages.
    building: BTreeSet<Digest>,
    /// Stages that were decided again because a file outside the store had changed; each is decided again only once.
    changed: BTreeSet<StageName>,
    /// The time at which the locks that stages wait for were last polled.
    polled: Instant,
    outcome: Outcome,
    sender: Sender<(StageName, Message)>,
}

/// Brings the wanted stages up to date and sends events to `events`; the error of a stage is part of the outcome. Everything that the
/// stages read and write is leased by `open` and published in its directory; without `open`, nothing is recorded.
pub fn run<'a>(
    decider: Decider<'a>,
    graph: &'a Graph,
    open: Option<&'a OpenRun>,
    options: &'a Options,
    events: &'a EventSender,
) -> Outcome {
    let dependencies = DependencyTracker::new(graph, &options.wanted, &options.provided);
    let started = Instant::now();
    events.send(Event::RunStarted {
        run: decider.manifest.name.clone(),
        stages: dependencies.order().iter().map(ToString::to_string).collect(),
    });
    let meter = Meter::default();
    let context = RunContext {
        manifest: decider.manifest,
        store: decider.store,
        events,
        cancel: &options.cancel,
        budget: options.budget,
        meter: &meter,
        open,
    };
    let blocked = dependencies.order().iter().map(|name| (name.clone(), StageState::Blocked));
    let provided = options.provided.iter().map(|(name, outputs)| (name.clone(), StageState::Done(outputs.clone())));
    let states = blocked.chain(provided).collect();
    let mut outcome = std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        let scheduler = Scheduler {
            scope,
            decider,
            context,
            options,
            graph,
            dependencies,
            undecided: VecDeque::new(),
            states,
            pools: Pools::new(options.budget),
            building: BTreeSet::new(),
            changed: BTreeSet::new(),
            polled: Instant::now(),
            outcome: Outcome::default(),
            sender,
        };
        scheduler.run(&receiver)
    });
    let status = outcome.summary.status();
    let Summary { ran, cached, failed, skipped, .. } = outcome.summary;
    let seconds = started.elapsed().as_secs_f64();
    outcome.seconds = seconds;
    events.send(Event::RunFinished { status, ran, cached, failed, skipped, seconds });
    outcome
}

impl<'scope, 'a> Scheduler<'scope, 'a> {
    fn run(mut self, receiver: &Receiver<(StageName, Message)>) -> Outcome {
        loop {
            self.advance();
            let is_active = |state: &StageState| {
                matches!(state, StageState::Deciding | StageState::Running(_) | StageState::Waiting(..))
            };
            if !self.states.values().any(is_active) {
                break;
            }
            match receiver.recv_timeout(SAMPLE_INTERVAL) {
                Ok((name, message)) => self.handle(&name, message),
                Err(RecvTimeoutError::Timeout) => {}
                // The scheduler holds a sender itself.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while let Ok((name, message)) = receiver.try_recv() {
                self.handle(&name, message);
            }
            for (name, state) in &mut self.states {
                if let StageState::Running(running) = state {
                    running.sample(name, self.context.events);
                }
            }
            self.poll_locks();
        }
        let summary = &mut self.outcome.summary;
        summary.interrupted =
            self.options.cancel.is_set() && summary.ran + summary.cached < self.dependencies.order().len();
        self.outcome
    }

    /// Decides unblocked stages and starts ready ones, until nothing more can be done at the moment.
    fn advance(&mut self) {
        if self.options.cancel.is_set() || (self.options.fail_fast && self.outcome.summary.failed > 0) {
            let because = if self.options.cancel.is_set() { "the run was interrupted" } else { "another stage failed" };
            let idle = |state: &StageState| {
                matches!(state, StageState::Blocked | StageState::Ready(_) | StageState::Waiting(..))
            };
            for name in self.names(idle) {
                // The downstream stages of a skipped stage are skipped with it.
                if self.states.get(&name).is_some_and(idle) {
                    self.skip(&name, because.to_owned());
                }
            }
            return;
        }
        loop {
            let unblocked = self.dependencies.take();
            if unblocked.is_empty() {
                break;
            }
            self.look_up(&unblocked);
        }
        let mut deciding = self.states.values().filter(|state| matches!(state, StageState::Deciding)).count();
        while deciding < MAX_DECIDING.min(self.options.budget.threads)
            && let Some(stage) = self.undecided.pop_front()
        {
            self.decide(stage);
            deciding += 1;
        }
        if self.pools.are_empty() {
            return;
        }
        // Of stages with equal keys, only one can start.
        let mut keys = self.building.clone();
        let starts =
            |state: &StageState| matches!(state, StageState::Ready(stale) if keys.insert(stale.key.key.digest()));
        let ready = self.names(starts);
        let mut on_gpu = ready.iter().filter(|name| self.needs_gpu(name)).count();
        let mut others = ready.len() - on_gpu;
        for name in &ready {
            // Of the stages that need the GPU only one can start, so the others do not count.
            let (starting, gpu) = (others + on_gpu.min(1), self.needs_gpu(name));
            self.start(name, starting);
            *if gpu { &mut on_gpu } else { &mut others } -= 1;
        }
    }

    /// Checks the locks that stages wait for, and reports their holders.
    fn poll_locks(&mut self) {
        if self.polled.elapsed() < SAMPLE_INTERVAL {
            return;
        }
        self.polled = Instant::now();
        for name in self.names(|state| matches!(state, StageState::Waiting(..))) {
            let Some(StageState::Waiting(stale, reported)) = self.states.get_mut(&name) else { continue };
            // An error of the lock is reported by the stage that acquires it.
            let state = self.context.store.work.lock_state(stale.key.key.digest()).unwrap_or(LockState::Free);
            let LockState::Held(holder) = state else {
                self.decide_again(&name);
                continue;
            };
            // A holder without a name is reported only if none was reported before.
            if reported.is_none() || (holder.is_some() && *reported != Some(holder.clone())) {
                let text = holder.as_ref().map_or_else(|| "another process".to_owned(), ToString::to_string);
                *reported = Some(holder);
                self.context.events.send(Event::StageWaiting { stage: name.to_string(), holder: text });
            }
        }
    }

    /// Decides a ready or waiting stage again, before others.
    fn decide_again(&mut self, name: &StageName) {
        let stale = match self.states.insert(name.clone(), StageState::Blocked) {
            Some(StageState::Ready(stale) | StageState::Waiting(stale, _)) => stale,
            other => return drop(other.map(|state| self.states.insert(name.clone(), state))),
        };
        if let Some(stage) = self.stage(name) {
            self.undecided.push_front(UndecidedStage { stage, inputs: stale.key.inputs, never_built: None });
        }
    }

    /// Returns the stages in a state that `wanted` accepts, in the order of the graph.
    fn names(&self, mut wanted: impl FnMut(&StageState) -> bool) -> Vec<StageName> {
        let order = self.dependencies.order().iter();
        order.filter(|name| self.states.get(*name).is_some_and(&mut wanted)).cloned().collect()
    }

    fn stage(&self, name: &StageName) -> Option<&'a StageDeclaration> {
        self.decider.manifest.stages.get(name)
    }

    fn needs_gpu(&self, name: &StageName) -> bool {
        self.stage(name).is_some_and(|stage| stage.stage.needs().gpu)
    }

    /// Looks up unblocked stages on the fast path. Cached ones are done; the others have to be decided.
    fn look_up(&mut self, unblocked: &[StageName]) {
        let mut stages = Vec::with_capacity(unblocked.len());
        for name in unblocked {
            let Some(stage) = self.stage(name) else { continue };
            match self.inputs(stage) {
                Ok(inputs) => stages.push(UndecidedStage { stage, inputs, never_built: None }),
                Err(missing) => self.fail(&stage.name, missing.into()),
            }
        }
        let found = look_up(&self.decider, self.context, &stages);
        for (stage, found) in stages.into_iter().zip(found) {
            match found {
                FastPath::Cached(key, hit) => self.complete_cached(&stage.stage.name, key, *hit),
                FastPath::NeverBuilt(key) => {
                    self.undecided.push_back(UndecidedStage { never_built: Some(key), ..stage });
                }
                FastPath::Unknown => self.undecided.push_back(stage),
            }
        }
    }

    /// Decides a stage on a thread.
    fn decide(&mut self, undecided: UndecidedStage<'a>) {
        let name = undecided.stage.name.clone();
        self.states.insert(name.clone(), StageState::Deciding);
        let (decider, context) = (self.decider.clone(), self.context);
        self.spawn(name, move || decide(&decider, context, undecided));
    }

    /// Calls `work` for a stage on a thread, which sends the result.
    fn spawn(&self, name: StageName, work: impl FnOnce() -> Result<Message, Failure> + Send + 'scope) {
        let sender = self.sender.clone();
        self.scope.spawn(move || {
            let message = catch_panic(work).unwrap_or_else(Message::Failed);
            // The scheduler receives until all threads have ended.
            let _ = sender.send((name, message));
        });
    }

    /// Returns the tree that each input port of a stage reads; its upstream stages must be done. A build of an older revision of a kind may
    /// lack a port that the kind has now.
    fn inputs(&self, stage: &StageDeclaration) -> Result<BTreeMap<String, Digest>, StageError> {
        let tree = |(port, edge): (&String, &Edge)| {
            let outputs = match self.states.get(&edge.stage) {
                Some(StageState::Done(outputs)) => outputs.get(&edge.output),
                _ => None,
            };
            let missing = || {
                let Edge { stage, output, .. } = edge;
                StageError::new(format!("the build of '{stage}' in the store has no output '{output}'"))
                    .hint(format!("build it again: --force {stage}"))
            };
            Ok((port.clone(), *outputs.ok_or_else(missing)?))
        };
        stage.inputs.iter().map(tree).collect()
    }

    /// Runs a ready stage if its share of the machine is free. No stage of this run may be building its key.
    fn start(&mut self, name: &StageName, starting: usize) {
        let (Some(stage), Some(StageState::Ready(stale))) = (self.stage(name), self.states.get(name)) else { return };
        let key = stale.key.key.digest();
        let needs = fit::needs(stage, &stale.cost, self.context.budget.device);
        let Some(share) = self.pools.acquire(&needs, starting) else { return };
        let running = Running::new(share, key);
        let progress = running.progress.clone();
        let before = self.states.insert(name.clone(), StageState::Running(running));
        let Some(StageState::Ready(stale)) = before else { return };
        self.building.insert(key);
        let (context, sender) = (self.context, self.sender.clone());
        self.spawn(name.clone(), move || {
            let starts = || drop(sender.send((stage.name.clone(), Message::Started)));
            context.execute(stage, stale, share.resources, &progress, starts)
        });
    }

    fn handle(&mut self, name: &StageName, message: Message) {
        match message {
            Message::Stale(stale) => drop(self.states.insert(name.clone(), StageState::Ready(stale))),
            Message::Cached(key, hit) => self.complete_cached(name, key, *hit),
            Message::Built { outcome, seconds, comparison } => {
                self.complete_built(name, *outcome, seconds, comparison);
            }
            Message::Locked(stale) => {
                self.release(name);
                // If a stage of this run holds the lock, a message reports its end.
                let state = match self.building.contains(&stale.key.key.digest()) {
                    true => StageState::Ready(stale),
                    false => StageState::Waiting(stale, None),
                };
                self.states.insert(name.clone(), state);
            }
            Message::Started => {
                if let Some(StageState::Running(running)) = self.states.get_mut(name) {
                    running.has_started = true;
                }
            }
            Message::SourceChanged(stale, path) => {
                self.release(name);
                self.states.insert(name.clone(), StageState::Ready(stale));
                match self.changed.insert(name.clone()) {
                    true => self.decide_again(name),
                    false => {
                        let error = StageError::new("it changes before the stage can read it").in_file(&path);
                        self.fail(name, error.hint("run again when nothing writes to it any more").into());
                    }
                }
            }
            Message::Failed(failure) => self.fail(name, failure),
        }
    }
}
