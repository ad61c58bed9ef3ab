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
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use contract::{Digest, Draw};
use pipeline::store::{Store, Wish, failpoint};
use pipeline_of_sums::{Run, run};

const VICTIM: &str = "CRASH_VICTIM";

/// Not a test of its own: what a victim does. The folder is in the environment.
#[test]
fn victim() {
    if let Some(folder) = std::env::var_os(VICTIM) {
        let again = std::env::var("CRASH_FORCE").is_ok();
        run(Path::new(&folder), again);
    }
}

/// Starts the victim, which is this program.
fn victim_in(folder: &Path, failpoint: Option<&str>, force: bool) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "victim", "--nocapture"]).env(VICTIM, folder).stdout(Stdio::null()).stderr(Stdio::null());
    match failpoint {
        Some(point) => command.env("PIPELINE_FAILPOINT", point),
        None => command.env_remove("PIPELINE_FAILPOINT"),
    };
    if force {
        command.env("CRASH_FORCE", "1");
    }
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
    let verdict = store.verify_all(|_| true).unwrap();
    assert!(verdict.damage.is_empty(), "{:?} after a kill {when}", verdict.damage);
    assert!(store.leases().unwrap().is_empty());
    assert!(store.holders().unwrap().is_empty());
    // What the kill left of scratch and orphans is no danger, and goes when room is made; nothing else does.
    let store = Store::open(&folder.join("cache")).unwrap();
    let removals = store.collect(&Wish::default()).unwrap();
    assert!(removals.builds.is_empty());
    let census = store.census().unwrap();
    assert!(census.scratch.is_empty() && census.builds.len() >= clean.len(), "after a kill {when}");
    assert!(store.verify_all(|_| true).unwrap().damage.is_empty(), "room was made, after a kill {when}");
}

#[test]
fn a_kill_at_every_write_point_loses_nothing() {
    let clean = clean();
    for point in failpoint::ALL {
        let mut killed = 0;
        // The first passages, and some later ones: other stages, other files.
        for passage in [1, 2, 3, 5, 8, 13] {
            let folder = tempfile::tempdir().unwrap();
            let wanted = format!("{point}:{passage}");
            let status = victim_in(folder.path(), Some(&wanted), false).status().unwrap();
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
fn a_kill_while_everything_is_built_again_loses_nothing() {
    let clean = clean();
    for point in ["tree-before-rename", "record-before-rename", "record-after-rename", "publish-before-remove"] {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), false);
        let status = victim_in(folder.path(), Some(point), true).status().unwrap();
        // A second build gives the same bytes, so nothing is published again.
        assert!(status.signal() == Some(9) || point.starts_with("publish"), "{point}: {status}");
        look(folder.path(), &clean, &format!("at {point} of a forced run"));
    }
}

#[test]
fn every_point_in_the_source_is_in_the_list() {
    let mut found = Vec::new();
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for call in ["failpoint::pass(\"", "failpoint::is_due(\""] {
            found.extend(text.split(call).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
    found.sort();
    found.dedup();
    let mut listed = failpoint::ALL.to_vec();
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
    assert!(victim_in(folder.path(), None, false).status().unwrap().success());
    let whole = started.elapsed();
    let mut landed = 0;
    for moment in 0..moments {
        let folder = tempfile::tempdir().unwrap();
        let share = Draw::new(seed, "crash").unit(&moment.to_le_bytes());
        let mut victim = victim_in(folder.path(), None, false).spawn().unwrap();
        std::thread::sleep(Duration::from_secs_f64(whole.as_secs_f64() * share));
        victim.kill().unwrap();
        let status = victim.wait().unwrap();
        // In the middle: the store is there, and not everything is built.
        let store = Store::open_read_only(&folder.path().join("cache")).unwrap();
        let built = store.keys().unwrap().len();
        landed += u64::from(status.signal() == Some(9) && built < clean.len() && store.layout().root().is_dir());
        look(folder.path(), &clean, &format!("at moment {moment} of seed {seed}, {built} builds in"));
    }
    println!("{landed} of {moments} kills landed between the first and the last build");
    assert!(landed * 4 >= moments, "only {landed} of {moments} kills landed in the middle");
}
