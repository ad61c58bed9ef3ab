//! A run that is killed loses nothing and leaves nothing wrong: at every write point, and at random moments.
//!
//! The test program runs itself as the victim. After each kill the same run is done again, without any other step, and
//! its outputs are those of a run that was never killed; every object of the store is whole; a plan says that all is
//! cached; and what the kill left lying about goes when room is made.
//!
//! `CRASH_MOMENTS=1000` kills at a thousand moments; `CRASH_SEED` changes them.

mod pipeline_of_sums;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use contract::{Digest, Draw};
use pipeline::report::RunLock;
use pipeline::store::{GcOptions, SourceSnapshot, Store, failpoint};
use pipeline_of_sums::{Run, run, run_with};

const VICTIM: &str = "CRASH_VICTIM";
const TASK: &str = "CRASH_TASK";

/// Not a test of its own: what a victim does. The folder is in the environment.
#[test]
fn victim() {
    let Some(folder) = std::env::var_os(VICTIM) else { return };
    let folder = Path::new(&folder);
    match std::env::var(TASK).as_deref() {
        Ok("run") => drop(run(folder, false)),
        Ok("force") => drop(run(folder, true)),
        Ok("care") => take_care(folder),
        task => panic!("no task {task:?}"),
    }
}

/// Everything that takes care of a store: a repair with what a lock knows, making room, forgetting, copying.
fn take_care(folder: &Path) {
    let store = Store::open(&folder.join("cache")).unwrap();
    let lock = std::fs::read_to_string(folder.join("cache/runs/sums/latest/run.lock")).unwrap();
    let known: BTreeMap<_, _> = RunLock::decode(&lock).unwrap().listings().collect();
    store.verify_all(&known, |_| true).unwrap();
    store.gc_guard().unwrap().collect(&GcOptions { keep_size: Some(0), ..GcOptions::default() }).unwrap();
    store.runs.pin(&store.runs.latest("sums").unwrap().unwrap(), true).unwrap();
    for old in store.runs.all().unwrap().iter().rev().skip(1) {
        store.runs.forget(old).unwrap();
    }
    let copy = Store::open(&folder.join("copy")).unwrap();
    for key in store.builds.keys().unwrap() {
        for record in store.builds.of(key).unwrap().records.values() {
            record.outputs.values().for_each(|tree| copy.copy_tree(&store, *tree).unwrap());
        }
    }
}

/// Starts the victim, which is this program.
fn victim_in(folder: &Path, failpoint: Option<&str>, task: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "victim", "--nocapture"]).env(VICTIM, folder).stdout(Stdio::null()).stderr(Stdio::null());
    match failpoint {
        Some(point) => command.env("PIPELINE_FAILPOINT", point),
        None => command.env_remove("PIPELINE_FAILPOINT"),
    };
    command.env(TASK, task);
    command
}

/// What the pipeline gives when nothing goes wrong.
fn clean() -> BTreeMap<String, Digest> {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), false).outputs
}

/// Runs again after a kill and looks at everything.
fn look(folder: &Path, clean: &BTreeMap<String, Digest>, when: &str) {
    let Run { outputs, .. } = run(folder, false);
    assert_eq!(&outputs, clean, "other outputs after a kill {when}");
    let Run { ran, cached, .. } = run(folder, false);
    assert_eq!((ran, cached), (0, clean.len()), "the run after is not all cached, after a kill {when}");
    let store = Store::open_read_only(&folder.join("cache")).unwrap();
    let verification = store.verify_all(&BTreeMap::new(), |_| true).unwrap();
    assert!(verification.damage.is_empty(), "{:?} after a kill {when}", verification.damage);
    assert!(store.leases.all().unwrap().is_empty());
    assert!(store.work.holders().unwrap().is_empty());
    // What the kill left of scratch and orphans is no danger, and goes when room is made; nothing else does.
    let store = Store::open(&folder.join("cache")).unwrap();
    let removals = store.gc_guard().unwrap().collect(&GcOptions::default()).unwrap();
    assert!(removals.builds.is_empty());
    let inventory = store.inventory().unwrap();
    assert!(inventory.scratch.is_empty() && inventory.builds.len() >= clean.len(), "after a kill {when}");
    assert!(
        store.verify_all(&BTreeMap::new(), |_| true).unwrap().damage.is_empty(),
        "room was made, after a kill {when}"
    );
}

#[test]
fn a_kill_at_every_write_point_loses_nothing() {
    let clean = clean();
    for point in failpoint::RUN_POINTS {
        let mut killed = 0;
        // The first passages, and some later ones: other stages, other files.
        for passage in [1, 2, 3, 5, 8, 13] {
            let folder = tempfile::tempdir().unwrap();
            let wanted = format!("{point}:{passage}");
            let status = victim_in(folder.path(), Some(&wanted), "run").status().unwrap();
            if status.signal() != Some(9) {
                assert!(status.success(), "{wanted}: {status}");
                break;
            }
            killed += 1;
            look(folder.path(), &clean, &format!("at {wanted}"));
        }
        assert!(killed > 0, "no run passes the point {point}");
    }
}

#[test]
fn a_kill_while_a_store_is_taken_care_of_loses_nothing() {
    let clean = clean();
    for point in failpoint::MAINTENANCE_POINTS {
        let mut killed = 0;
        for passage in [1, 2, 3, 5] {
            let folder = tempfile::tempdir().unwrap();
            // Builds that may go, of which one is not whole, and builds that may not, of which one lost its list of files.
            for number in [19, 1] {
                run_with(folder.path(), number, false);
            }
            let store = Store::open(&folder.path().join("cache")).unwrap();
            let last = store.builds.last_builds("sums").unwrap();
            std::fs::remove_file(store.layout().tree(last["b"].outputs["sum"])).unwrap();
            let inventory = store.inventory().unwrap();
            let old =
                inventory.builds.values().find(|record| record.stage == "a" && record.key != last["a"].key).unwrap();
            let blob = store.objects.tree(old.outputs["log"]).unwrap().entries()[0].digest;
            std::fs::remove_file(store.layout().blob(blob)).unwrap();
            // What a killed run gave, of which nothing is left.
            let mut lost = last["a"].clone();
            lost.outputs.values_mut().for_each(|tree| *tree = Digest::of(b"lost"));
            store
                .runs
                .publish(&store.runs.dir("lost", 1).unwrap(), "a", lost, &SourceSnapshot::default(), &BTreeMap::new())
                .unwrap();
            let wanted = format!("{point}:{passage}");
            let status = victim_in(folder.path(), Some(&wanted), "care").status().unwrap();
            if status.signal() != Some(9) {
                assert!(status.success(), "{wanted}: {status}");
                break;
            }
            killed += 1;
            // Once more, to the end, without any other step; then nothing of what the last run gave has to be built.
            assert!(victim_in(folder.path(), None, "care").status().unwrap().success(), "again after {wanted}");
            let Run { ran, .. } = run(folder.path(), false);
            assert_eq!(ran, 0, "after {wanted}");
            look(folder.path(), &clean, &format!("at {wanted}"));
            let copy = Store::open_read_only(&folder.path().join("copy")).unwrap();
            assert!(copy.verify_all(&BTreeMap::new(), |_| true).unwrap().damage.is_empty(), "the copy, at {wanted}");
            let trees: Vec<_> = copy.inventory().unwrap().trees.into_keys().collect();
            assert_eq!(trees, store.inventory().unwrap().trees.into_keys().collect::<Vec<_>>(), "at {wanted}");
        }
        assert!(killed > 0, "nothing passes the point {point}");
    }
}

/// The files of all outputs by name that a run shows, with what they hold.
fn shown(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => files.extend(shown(&entry)),
            false => drop(files.insert(entry.clone(), std::fs::read(&entry).unwrap())),
        }
    }
    files
}

#[test]
fn the_outputs_by_name_of_every_run_that_ended_are_its_own_and_whole_whatever_is_killed_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = |number: u32| folder.path().join(format!("cache/runs/sums/{number}"));
    run_with(folder.path(), 19, false);
    let first = shown(&place(1));
    assert!(first.keys().any(|path| path.ends_with("a/sum/folder/long")), "{:?}", first.keys());
    for point in ["run-after-folder", "publish-before-link:2", "lock-before-write", "latest-before-rename"] {
        // The victim runs with another number.
        let status = victim_in(folder.path(), Some(point), "run").status().unwrap();
        assert_eq!(status.signal(), Some(9), "{point}");
        let store = Store::open_read_only(&folder.path().join("cache")).unwrap();
        assert_eq!(store.runs.latest("sums").unwrap().unwrap().number, 1, "{point}");
        assert_eq!(shown(&place(1)), first, "{point}");
    }
    run(folder.path(), false);
    let store = Store::open_read_only(&folder.path().join("cache")).unwrap();
    let latest = store.runs.latest("sums").unwrap().unwrap();
    assert_eq!(Some(&latest.number), store.runs.numbers("sums").unwrap().last());
    let names = |number: u32| -> Vec<PathBuf> {
        shown(&place(number)).keys().map(|path| path.strip_prefix(place(number)).unwrap().to_owned()).collect()
    };
    assert_eq!(names(latest.number), names(1));
    assert_eq!(shown(&place(1)), first);
}

#[test]
fn a_kill_while_everything_is_built_again_loses_nothing() {
    let clean = clean();
    for point in ["create-before-rename", "create-before-rename:2", "create-after-rename", "publish-before-file"] {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), false);
        let status = victim_in(folder.path(), Some(point), "force").status().unwrap();
        // A second build gives the same bytes, so nothing is published again.
        assert!(status.signal() == Some(9) || point.starts_with("publish"), "{point}: {status}");
        look(folder.path(), &clean, &format!("at {point} of a forced run"));
    }
}

#[test]
fn every_point_in_the_source_is_in_the_list() {
    let mut found = Vec::new();
    let mut paths = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store")];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        for call in ["failpoint::pass(\"", "failpoint::is_due(\""] {
            found.extend(text.split(call).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
    found.sort();
    found.dedup();
    let mut listed = [&failpoint::RUN_POINTS[..], &failpoint::MAINTENANCE_POINTS].concat();
    listed.sort_unstable();
    assert_eq!(found, listed);
}

#[test]
fn a_kill_at_random_moments_loses_nothing() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (moments, seed) = (number("CRASH_MOMENTS", 40), number("CRASH_SEED", 1));
    let clean = clean();
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    assert!(victim_in(folder.path(), None, "run").status().unwrap().success());
    let whole = started.elapsed();
    let mut landed = 0;
    for moment in 0..moments {
        let folder = tempfile::tempdir().unwrap();
        let share = Draw::new(seed, "crash").unit(&moment.to_le_bytes());
        let mut victim = victim_in(folder.path(), None, "run").spawn().unwrap();
        std::thread::sleep(Duration::from_secs_f64(whole.as_secs_f64() * share));
        victim.kill().unwrap();
        let status = victim.wait().unwrap();
        // In the middle: the store is there, and not everything is built.
        let store = Store::open_read_only(&folder.path().join("cache")).unwrap();
        let built = store.builds.keys().unwrap().len();
        landed += u64::from(status.signal() == Some(9) && built < clean.len() && store.layout().root().is_dir());
        look(folder.path(), &clean, &format!("at moment {moment} of seed {seed}, {built} builds in"));
    }
    println!("{landed} of {moments} kills landed between the first and the last build");
    assert!(landed * 4 >= moments, "only {landed} of {moments} kills landed in the middle");
}
