//! Which stage starts when, and what a failure stops.
//!
//! One thread (the caller's) owns all state; each stage is decided and run on a thread of its own, which sends a message
//! when it is through. A stage is decided when all that it needs is done, and starts when its share of the machine is free,
//! in the order of the graph. Only a stage that has its share takes the lock of its key; one that finds it taken gives the
//! share back and waits without a thread ([`super::waiting`]) until the lock is free. Of stages of this run with equal keys
//! one runs at a time. What waited for another process, or for a stage with its key, is decided again: it is cached by then,
//! and needs no share, unless that one failed or it is forced.
//!
//! A failed stage stops only what needs it, unless the run is to fail fast. When the run is asked to stop, running stages
//! are told, and nothing starts any more.

mod ends;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::Scope;
use std::time::Instant;

use contract::{Digest, StageError};

use crate::events::{Event, EventSender};
use crate::graph::Graph;
use crate::manifest::{Edge, StageDeclaration, StageName};
use crate::plan::{Decider, fit};
use crate::run::at_once::{Open, cached_at_once};
use crate::run::decision::decide;
use crate::run::execution::{Ready, Shared, caught};
use crate::run::frontier::Frontier;
use crate::run::message::Message;
use crate::run::resources::Pools;
use crate::run::running::{Running, TICK};
use crate::run::usage::Meter;
use crate::run::waiting::{News, Waiting};
use crate::run::{Options, Outcome, Summary};
use crate::store::OpenRun;

/// How many stages are decided at a time, at most: each has a thread and reads files. A decision waits for no build.
const DECIDED_AT_A_TIME: usize = 32;

/// Where a stage is (module docs of [`super`]).
enum State {
    /// Needs stages that are not done yet.
    Blocked,
    /// Its thread finds out whether its output is in the store.
    Deciding,
    /// Stale; waits for its share.
    Ready(Box<Ready>),
    /// Has its share: takes the lock of its key, and runs.
    Running(Running),
    /// Another process holds the lock of its key.
    Waiting(Waiting),
    /// Has its output.
    Done(BTreeMap<String, Digest>),
    /// Has none: it failed, or something that it needs did, or the run was asked to stop.
    Ended,
}

struct Scheduler<'scope, 'a: 'scope> {
    scope: &'scope Scope<'scope, 'a>,
    decider: Decider<'a>,
    shared: Shared<'a>,
    options: &'a Options,
    graph: &'a Graph,
    frontier: Frontier,
    /// Stages whose inputs are done and that have to be decided on a thread, with the tree that each input port reads.
    undecided: VecDeque<Open<'a>>,
    states: BTreeMap<StageName, State>,
    pools: Pools,
    /// The keys of the running stages.
    building: BTreeSet<Digest>,
    /// Stages that were decided again because a file outside the store had changed: that is done once.
    changed: BTreeSet<StageName>,
    /// When the locks that stages wait for were looked at last.
    looked: Instant,
    outcome: Outcome,
    sender: Sender<Message>,
}

/// Brings the wanted stages up to date; what goes wrong with one stage is told as its failure. What they read and give is held
/// by `open` until the caller has written down what that was, and shown in its folder; without it nothing is recorded.
/// `events` is told of everything that happens.
pub fn run<'a>(
    decider: Decider<'a>,
    graph: &'a Graph,
    open: Option<&'a OpenRun>,
    options: &'a Options,
    events: &'a EventSender,
) -> Outcome {
    let frontier = Frontier::new(graph, &options.wanted, &options.given);
    let started = Instant::now();
    events.send(Event::RunStarted {
        run: decider.manifest.name.clone(),
        stages: frontier.order().iter().map(ToString::to_string).collect(),
    });
    let meter = Meter::default();
    let shared = Shared {
        manifest: decider.manifest,
        store: decider.store,
        events,
        cancel: &options.cancel,
        budget: options.budget,
        meter: &meter,
        open,
    };
    let mut outcome = std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        let blocked = frontier.order().iter().map(|name| (name.clone(), State::Blocked));
        let given = options.given.iter().map(|(name, outputs)| (name.clone(), State::Done(outputs.clone())));
        let states = blocked.chain(given).collect();
        let pools = Pools::new(options.budget);
        let (outcome, undecided) = (Outcome::default(), VecDeque::new());
        let scheduler = Scheduler {
            scope,
            decider,
            shared,
            options,
            graph,
            frontier,
            undecided,
            states,
            pools,
            building: BTreeSet::new(),
            changed: BTreeSet::new(),
            looked: Instant::now(),
            outcome,
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
    fn run(mut self, receiver: &Receiver<Message>) -> Outcome {
        loop {
            self.advance();
            let under_way = |state: &State| matches!(state, State::Deciding | State::Running(_) | State::Waiting(_));
            if !self.states.values().any(under_way) {
                break;
            }
            match receiver.recv_timeout(TICK) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                // The scheduler holds a sender itself.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while let Ok(message) = receiver.try_recv() {
                self.take(message);
            }
            self.sample();
            self.look_at_locks();
        }
        let summary = &mut self.outcome.summary;
        summary.interrupted =
            self.options.cancel.is_set() && summary.ran + summary.cached < self.frontier.order().len();
        self.outcome
    }

    /// Decides what is unblocked and starts what is ready, until nothing more can be done now.
    fn advance(&mut self) {
        if self.options.cancel.is_set() || (self.options.fail_fast && self.outcome.summary.failed > 0) {
            let because = if self.options.cancel.is_set() { "the run was interrupted" } else { "another stage failed" };
            let idle = |state: &State| matches!(state, State::Blocked | State::Ready(_) | State::Waiting(_));
            for name in self.names(idle) {
                // What needs a skipped stage was skipped with it.
                if self.states.get(&name).is_some_and(idle) {
                    self.skip(&name, because.to_owned());
                }
            }
            return;
        }
        loop {
            let open = self.frontier.take();
            if open.is_empty() {
                break;
            }
            self.look_up(&open);
        }
        let mut deciding = self.states.values().filter(|state| matches!(state, State::Deciding)).count();
        while deciding < DECIDED_AT_A_TIME
            && let Some((stage, inputs)) = self.undecided.pop_front()
        {
            self.decide(stage, inputs);
            deciding += 1;
        }
        if self.pools.are_empty() {
            return;
        }
        // Of stages with equal keys one can start.
        let mut keys = self.building.clone();
        let starts = |state: &State| matches!(state, State::Ready(ready) if keys.insert(ready.keyed.key.digest()));
        let ready = self.names(starts);
        let mut on_gpu = ready.iter().filter(|name| self.wants_gpu(name)).count();
        let mut others = ready.len() - on_gpu;
        for name in &ready {
            // Of the stages that want the one GPU only one can start, so it need not share with the others.
            let (starters, gpu) = (others + on_gpu.min(1), self.wants_gpu(name));
            self.start(name, starters);
            *if gpu { &mut on_gpu } else { &mut others } -= 1;
        }
    }

    /// Looks whether the locks that stages wait for are free, and says who holds them.
    fn look_at_locks(&mut self) {
        if self.looked.elapsed() < TICK {
            return;
        }
        self.looked = Instant::now();
        for name in self.names(|state| matches!(state, State::Waiting(_))) {
            let Some(State::Waiting(waiting)) = self.states.get_mut(&name) else { continue };
            match waiting.look(self.shared.store) {
                News::None => {}
                News::Holder(holder) => {
                    self.shared.events.send(Event::StageWaiting { stage: name.to_string(), holder });
                }
                News::Free => self.decide_again(&name),
            }
        }
    }

    /// Has a stage that is ready or waits decided again, before others.
    fn decide_again(&mut self, name: &StageName) {
        let ready = match self.states.insert(name.clone(), State::Blocked) {
            Some(State::Ready(ready)) => ready,
            Some(State::Waiting(waiting)) => waiting.ready,
            other => return drop(other.map(|state| self.states.insert(name.clone(), state))),
        };
        if let Some(stage) = self.stage(name) {
            self.undecided.push_front((stage, ready.inputs));
        }
    }

    /// The stages in such a state, in the order of the graph.
    fn names(&self, mut wanted: impl FnMut(&State) -> bool) -> Vec<StageName> {
        self.frontier.order().iter().filter(|name| self.states.get(*name).is_some_and(&mut wanted)).cloned().collect()
    }

    fn stage(&self, name: &StageName) -> Option<&'a StageDeclaration> {
        self.decider.manifest.stages.get(name)
    }

    fn wants_gpu(&self, name: &StageName) -> bool {
        self.stage(name).is_some_and(|stage| stage.stage.needs().gpu)
    }

    /// Looks up the stages all of whose inputs are done: those that are cached, with nothing out of the ordinary, are done
    /// too; the others have to be decided.
    fn look_up(&mut self, open: &[StageName]) {
        let mut found = Vec::with_capacity(open.len());
        for name in open {
            let Some(stage) = self.stage(name) else { continue };
            match self.inputs(stage) {
                Ok(inputs) => found.push((stage, inputs)),
                Err(missing) => self.failed(&stage.name, missing.into()),
            }
        }
        let cached = cached_at_once(&self.decider, self.shared, &found);
        for ((stage, inputs), cached) in found.into_iter().zip(cached) {
            match cached {
                Some((keyed, hit)) => self.cached(&stage.name, keyed, hit),
                None => self.undecided.push_back((stage, inputs)),
            }
        }
    }

    /// Decides a stage on a thread.
    fn decide(&mut self, stage: &'a StageDeclaration, inputs: BTreeMap<String, Digest>) {
        self.states.insert(stage.name.clone(), State::Deciding);
        let (decider, shared, sender) = (self.decider.clone(), self.shared, self.sender.clone());
        self.scope.spawn(move || {
            let message = caught(|| Ok(Message::of_decided(&stage.name, decide(&decider, shared, stage, inputs)?)));
            // The scheduler listens until every thread is through.
            let _ = sender.send(message.unwrap_or_else(|failure| Message::Failed(stage.name.clone(), failure)));
        });
    }

    /// The tree that each input port of a stage reads, all of whose inputs are done. A build of an older revision of a kind
    /// may lack a port that its kind has now.
    fn inputs(&self, stage: &StageDeclaration) -> Result<BTreeMap<String, Digest>, StageError> {
        let tree = |(port, edge): (&String, &Edge)| {
            let outputs = match self.states.get(&edge.stage) {
                Some(State::Done(outputs)) => outputs.get(&edge.output),
                _ => None,
            };
            let missing = || {
                let Edge { stage, output, .. } = edge;
                StageError::new(format!("the build of '{stage}' that is used has no output '{output}'"))
                    .hint(format!("build it again: --force {stage}"))
            };
            Ok((port.clone(), *outputs.ok_or_else(missing)?))
        };
        stage.inputs.iter().map(tree).collect()
    }

    /// Runs a ready stage, whose key no stage of this run builds, if its share of the machine is free.
    fn start(&mut self, name: &StageName, starters: usize) {
        let (Some(stage), Some(State::Ready(ready))) = (self.stage(name), self.states.get(name)) else { return };
        let key = ready.keyed.key.digest();
        let needs = fit::needs(stage, &ready.cost, self.shared.budget.device);
        let Some(share) = self.pools.take(&needs, starters) else { return };
        let running = Running::new(share, key);
        let progress = running.progress.clone();
        let Some(State::Ready(ready)) = self.states.insert(name.clone(), State::Running(running)) else { return };
        self.building.insert(key);
        let (shared, sender) = (self.shared, self.sender.clone());
        self.scope.spawn(move || {
            let starts = || drop(sender.send(Message::Started(stage.name.clone())));
            let executed = caught(|| shared.execute(stage, &ready, share.resources, &progress, starts));
            let message = match executed {
                Ok(executed) => Message::of_executed(&stage.name, ready, executed),
                Err(failure) => Message::Failed(stage.name.clone(), failure),
            };
            let _ = sender.send(message);
        });
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Ready(name, ready) => drop(self.states.insert(name, State::Ready(ready))),
            Message::Cached(name, keyed, hit) => self.cached(&name, keyed, *hit),
            Message::Built(name, keyed, built) => self.built(&name, keyed, *built),
            Message::Held(name, ready) => {
                self.release(&name);
                // Where it is a stage of this run that holds the lock, its end is heard of.
                let state = match self.building.contains(&ready.keyed.key.digest()) {
                    true => State::Ready(ready),
                    false => State::Waiting(Waiting::new(ready)),
                };
                self.states.insert(name, state);
            }
            Message::Started(name) => {
                if let Some(State::Running(running)) = self.states.get_mut(&name) {
                    running.has_started = true;
                }
            }
            Message::Changed(name, ready, path) => {
                self.release(&name);
                self.states.insert(name.clone(), State::Ready(ready));
                match self.changed.insert(name.clone()) {
                    true => self.decide_again(&name),
                    false => {
                        let error = StageError::new("it changes before the stage can read it").in_file(&path);
                        self.failed(&name, error.hint("run again when nothing writes to it any more").into());
                    }
                }
            }
            Message::Failed(name, failure) => self.failed(&name, failure),
        }
    }

    /// Shows how far the running stages are.
    fn sample(&mut self) {
        for (name, state) in &mut self.states {
            if let State::Running(running) = state {
                running.sample(name, self.shared.events);
            }
        }
    }
}
