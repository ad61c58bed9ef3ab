//! A folder in which a case is lived through: the stage kind, plans, runs, and what the store is to know.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use contract::{Cancel, Context, Device, Digest, Kind, PortType, Ports, Result, SourcePattern, Stage, StageError};
use pipeline::manifest::{Overrides, StageName};
use pipeline::plan::{Decider, Plan, StageOutputs, State};
use pipeline::run::{Budget, Options, Outcome, RecordedRun};
use pipeline::store::{Store, failpoint};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::VICTIM;
use crate::case::{Case, Edit, file};

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Sum {
    #[serde(default)]
    number: u64,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Temper {
    #[serde(default)]
    fails: bool,
    /// A file outside the store with a number.
    #[serde(default)]
    file: SourcePattern,
    /// A number that the machine provides; 0 if it does not.
    #[serde(default)]
    fact: u64,
}

/// Adds its number to those of its inputs, modulo 3: an edit often leaves the output as it was. What it has added up it
/// keeps in its scratch, and goes on from there.
struct Add;

impl Stage for Add {
    type Spec = Sum;
    type Exec = Temper;
    const KIND: &'static str = "add";
    const REVISION: u32 = 1;

    fn ports() -> Ports {
        let ports = Ports::new().output("sum", PortType::Files, "the sum, modulo 3");
        (0..4).fold(ports, |ports, port| ports.optional_input(["a", "b", "c", "d"][port], PortType::Files, "a number"))
    }

    fn sources(_: &Sum, temper: &Temper) -> Vec<SourcePattern> {
        if temper.file.0.is_empty() { Vec::new() } else { vec![temper.file.clone()] }
    }

    fn machine_facts(_: &Sum, temper: &Temper) -> BTreeMap<String, String> {
        Some(temper.fact)
            .filter(|fact| *fact > 0)
            .map(|fact| ("number".to_owned(), fact.to_string()))
            .into_iter()
            .collect()
    }

    fn run(spec: &Sum, temper: &Temper, context: &Context) -> Result<()> {
        let kept = context.scratch.join("sum");
        let sum = match fs::read_to_string(&kept) {
            Ok(sum) => sum,
            Err(_) => {
                let mut sum = spec.number + temper.fact;
                for file in &context.sources {
                    sum += fs::read_to_string(&file.path)?.parse::<u64>().unwrap();
                }
                for (_, tree) in context.inputs.iter() {
                    let text = fs::read_to_string(&tree.required("sum")?.location)?;
                    sum += text.parse::<u64>().unwrap();
                }
                (sum % 3).to_string()
            }
        };
        // As a stage should: a kill leaves no half of it.
        fs::write(kept.with_extension("new"), &sum)?;
        fs::rename(kept.with_extension("new"), &kept)?;
        if temper.fails {
            return Err(StageError::new("told to fail"));
        }
        context.outputs.tree("sum")?.write("sum", sum.as_bytes())
    }
}

/// All that determines the output of a stage: its number, that of its file, that of the machine, and the trees that its ports read.
type Recipe = (u64, Option<u64>, u64, BTreeMap<&'static str, Digest>);

/// What was done since the run before, and what it excuses.
#[derive(Default)]
struct Since {
    forced: Vec<usize>,
    fails: Option<usize>,
    /// A stage whose file is gone.
    lost: Option<usize>,
    /// A tree without its blob: builds that gave it are no hits, until one that is run again mends it for all.
    damaged: Option<Digest>,
    /// Whatever the killed run had built is no surprise.
    killed: bool,
}

/// Failures and kills that happened, of all cases.
pub static FAILURES: AtomicUsize = AtomicUsize::new(0);
pub static KILLS: AtomicUsize = AtomicUsize::new(0);

pub struct World {
    folder: TempDir,
    case: Case,
    /// What the store has built, and what that gave.
    built: BTreeMap<Recipe, Digest>,
}

/// Runs the manifest of a folder, as a process of its own may.
pub fn run(folder: &Path, forced: &[usize]) -> Outcome {
    let (file, cache) = places(folder);
    let manifest = pipeline::manifest::load(&file, &Overrides::default(), &[Kind::of::<Add>()]).unwrap();
    let store = Store::open(&cache).unwrap();
    let device = Device::Cpu;
    let budget = Budget { threads: 2, memory: 1 << 30, jobs: 2, device, ..Budget::of_this_machine() };
    let wanted = manifest.stages.keys().cloned().collect();
    let options =
        Options { budget, fail_fast: false, wanted, provided: StageOutputs::new(), cancel: Cancel::default() };
    let forced = forced.iter().map(|stage| name(*stage)).collect();
    let kept =
        RecordedRun::execute(Decider::new(&manifest, &store, &forced), &manifest.graph, &options, Vec::new()).unwrap();
    kept.written.unwrap();
    kept.outcome
}

fn plan(folder: &Path, forced: &[usize]) -> BTreeMap<StageName, State> {
    let (file, cache) = places(folder);
    let manifest = pipeline::manifest::load(&file, &Overrides::default(), &[Kind::of::<Add>()]).unwrap();
    let store = Store::open_read_only(&cache).unwrap();
    let wanted = manifest.stages.keys().cloned().collect();
    let forced = forced.iter().map(|stage| name(*stage)).collect();
    let plan = Plan::new(&Decider::new(&manifest, &store, &forced), &manifest.graph, &wanted, |_| true).unwrap();
    plan.stages.into_iter().map(|stage| (stage.name, stage.state)).collect()
}

fn places(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join("random.toml"), folder.join("cache"))
}

/// In memory where the system has such a place: a case syncs hundreds of files, and a kill loses nothing that was not
/// synced.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Writes the manifest of a case and the files of its stages.
fn write(folder: &Path, case: &Case, since: &Since) {
    fs::write(places(folder).0, case.manifest(since.fails)).unwrap();
    for (stage, node) in case.nodes.iter().enumerate() {
        let path = folder.join(file(stage));
        match node.file.filter(|_| since.lost != Some(stage)) {
            Some(number) => fs::write(path, number.to_string()).unwrap(),
            None => drop(fs::remove_file(path)),
        }
    }
}

fn name(stage: usize) -> StageName {
    format!("s{stage}").parse().unwrap()
}

impl World {
    /// Lives through a case; panics where something is not as it should be.
    pub fn live(case: &Case) {
        let folder = folder();
        let mut world = Self { folder, case: Case { edits: Vec::new(), ..case.clone() }, built: BTreeMap::new() };
        world.plan_and_run(&Since::default());
        for edit in &case.edits {
            let since = world.edit(edit);
            world.plan_and_run(&since);
            let again = world.plan_and_run(&Since::default());
            assert!(again.stages.values().all(|stage| !stage.ran), "a second run ran something, after {edit:?}");
        }
        let clean = self::folder();
        write(clean.path(), &world.case, &Since::default());
        let clean = run(clean.path(), &[]);
        let trees = |outcome: &Outcome| -> Vec<_> {
            outcome.stages.values().map(|stage| stage.record.outputs.clone()).collect()
        };
        assert_eq!(trees(&run(world.folder.path(), &[])), trees(&clean), "an empty store gives other bytes");
    }

    /// Does what an edit says; what that excuses in the next run.
    fn edit(&mut self, edit: &Edit) -> Since {
        let stages = self.case.nodes.len();
        match edit {
            Edit::Number(stage, number) => self.case.nodes[stage % stages].number = *number,
            Edit::Fact(stage, number) => self.case.nodes[stage % stages].fact = *number,
            Edit::File(stage, number) => {
                self.case.nodes[stage % stages].file.iter_mut().for_each(|file| *file = *number);
            }
            Edit::Lose { stage, other, number } => {
                self.case.nodes[other % stages].number = *number;
                self.plan_and_run(&Since { lost: Some(stage % stages), ..Since::default() });
            }
            Edit::Force(stage) => return Since { forced: vec![stage % stages], ..Since::default() },
            Edit::Forget(stage) => {
                let (store, last) = self.last(stage % stages);
                fs::remove_dir_all(store.layout().records(last.key)).unwrap();
                let recipe = self.recipe(stage % stages, |from| Some(self.last(from).1.outputs["sum"]));
                self.built.remove(&recipe.unwrap());
            }
            Edit::Damage(stage) => {
                let (store, last) = self.last(stage % stages);
                let tree = last.outputs["sum"];
                fs::remove_file(&store.objects.input(tree).unwrap().files[0].location).unwrap();
                return Since { damaged: Some(tree), ..Since::default() };
            }
            Edit::Fail { stage, number, forget } => {
                self.case.nodes[stage % stages].number = *number;
                let failed = self.plan_and_run(&Since { fails: Some(stage % stages), ..Since::default() });
                FAILURES.fetch_add(failed.summary.failed, Ordering::Relaxed);
                // A kill may leave the scratch of a key that is built, which goes when room is made.
                let inventory = Store::open_read_only(&places(self.folder.path()).1).unwrap().inventory().unwrap();
                let is_built = |key: &Digest| inventory.builds.keys().any(|(built, _)| built == key);
                let scratch: Vec<_> = inventory.scratch.keys().filter(|key| !is_built(key)).collect();
                assert_eq!(scratch.len(), failed.summary.failed, "a failure leaves its scratch, and nothing else does");
                if *forget {
                    for key in scratch {
                        fs::remove_dir_all(places(self.folder.path()).1.join("work").join(key.to_string())).unwrap();
                    }
                }
            }
            Edit::Kill { stage, number, point, pass } => {
                self.case.nodes[stage % stages].number = *number;
                write(self.folder.path(), &self.case, &Since::default());
                let status = Command::new(std::env::current_exe().unwrap())
                    .args(["victim", "--exact"])
                    .env(VICTIM, self.folder.path())
                    .env(
                        "PIPELINE_FAILPOINT",
                        format!("{}:{pass}", failpoint::RUN_POINTS[point % failpoint::RUN_POINTS.len()]),
                    )
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .unwrap();
                // Killed, or through without passing the point so often; it never fails.
                assert!(status.success() || status.code().is_none(), "{status}");
                KILLS.fetch_add(usize::from(status.code().is_none()), Ordering::Relaxed);
                return Since { killed: true, ..Since::default() };
            }
        }
        Since::default()
    }

    fn last(&self, stage: usize) -> (Store, pipeline::store::LastBuild) {
        let store = Store::open(&places(self.folder.path()).1).unwrap();
        let last = store.builds.last_build("random", name(stage).as_str()).unwrap().unwrap();
        (store, last)
    }

    /// The recipe of a stage, where its inputs are known.
    fn recipe(&self, stage: usize, output: impl Fn(usize) -> Option<Digest>) -> Option<Recipe> {
        let inputs = self.case.inputs(stage).into_iter().map(|(port, from)| Some((port, output(from)?)));
        let node = &self.case.nodes[stage];
        Some((node.number, node.file, node.fact, inputs.collect::<Option<_>>()?))
    }

    /// Plans and runs, and looks that both agree with each other and with what the store knows.
    fn plan_and_run(&mut self, since: &Since) -> Outcome {
        write(self.folder.path(), &self.case, since);
        let states = plan(self.folder.path(), &since.forced);
        let outcome = run(self.folder.path(), &since.forced);
        assert!(!outcome.summary.interrupted && !outcome.summary.store_failed);
        let output = |stage: usize| Some(outcome.stages.get(&name(stage))?.record.outputs["sum"]);
        let sums = self.case.sums();
        let mut built = self.built.clone();
        let ran_recipes: BTreeSet<_> = (0..sums.len())
            .filter(|stage| outcome.stages.get(&name(*stage)).is_some_and(|found| found.ran))
            .filter_map(|stage| self.recipe(stage, output))
            .collect();
        for (stage, sum) in sums.iter().enumerate() {
            let state = states[&name(stage)];
            let Some(found) = outcome.stages.get(&name(stage)) else {
                let excused = since.fails.is_some() || since.lost.is_some();
                assert!(excused && state != State::Cached, "s{stage} has no output, and was {state:?}");
                continue;
            };
            let recipe = self.recipe(stage, output).expect("what a stage needs has an output when it has");
            match state {
                State::Cached => assert!(!found.ran, "s{stage} was cached and ran"),
                State::WillRun => assert!(found.ran || since.damaged.is_some(), "s{stage} was to run and did not"),
                State::MayRun => {}
                State::Waiting => panic!("nobody else is at work"),
            }
            if found.ran && !since.forced.contains(&stage) && !since.killed {
                let known = self.built.get(&recipe).filter(|tree| since.damaged != Some(**tree));
                assert!(known.is_none(), "s{stage} ran, and nothing that determines it is new");
            }
            if !found.ran && !since.killed {
                let known = self.built.contains_key(&recipe) || ran_recipes.contains(&recipe);
                assert!(known, "s{stage} did not run, and this was never built");
            }
            let tree = found.record.outputs["sum"];
            let store = Store::open_read_only(&places(self.folder.path()).1).unwrap();
            let text =
                fs::read_to_string(&store.objects.input(tree).unwrap().required("sum").unwrap().location).unwrap();
            assert_eq!(text, sum.to_string(), "the output of s{stage}");
            built.insert(recipe, tree);
        }
        match since.fails {
            // It is cached as it was, or cannot be built.
            None if since.lost.is_some() => assert!(outcome.summary.failed <= 1),
            None => assert_eq!((outcome.summary.failed, outcome.summary.skipped), (0, 0)),
            Some(stage) if states[&name(stage)] == State::WillRun => {
                assert_eq!((outcome.summary.failed, outcome.stages.contains_key(&name(stage))), (1, false));
            }
            Some(_) => assert!(outcome.summary.failed <= 1),
        }
        self.built = built;
        outcome
    }
}
