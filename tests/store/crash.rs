//! What a kill leaves.

use std::fs::{self, File, FileTimes};
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use contract::Digest;
use pipeline::store::{Lookup, Store};

use crate::fixture::{blob, build, is_hit, key, locked, record, staged, walk, with_a_build};

/// The key of the n-th build, and its files: some shared between builds, one of several pieces.
fn crash_build(number: u64) -> (Digest, Vec<(String, Vec<u8>)>) {
    let mut files = vec![("large".to_owned(), number.to_le_bytes().repeat(2 << 20))];
    for file in 0..64 {
        files.push((format!("part/{file}"), format!("{}", number / 2 + file).into_bytes()));
    }
    (key(&format!("crash {number}")), files)
}

fn borrowed(files: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect()
}

const CRASH_FOLDER: &str = "PIPELINE_TEST_CRASH_FOLDER";

/// Not a test of its own: what the killed process runs.
#[test]
fn crash_child() {
    let Some(folder) = std::env::var_os(CRASH_FOLDER) else { return };
    let store = Store::open(Path::new(&folder)).unwrap();
    for number in 0.. {
        let (key, files) = crash_build(number);
        let lock = locked(&store, key);
        let staged = staged(&store, &lock, &borrowed(&files));
        println!("\nstaged {number}");
        let trees = store.adopt(staged).unwrap();
        store.clear_work(&lock).unwrap();
        store.record(&record(key, trees["out"])).unwrap();
        println!("\nbuilt {number}");
    }
}

/// How far the build that a kill cut off had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    /// It has no lock: the kill fell between two builds.
    Nothing,
    /// Its lock, perhaps staged files.
    Lock,
    /// Its largest blob, and no tree.
    Blobs,
    /// Its tree, and no record.
    Tree,
}

impl Reached {
    fn of(store: &Store) -> Self {
        let files = |folder: &str| walk(&store.layout().root().join(folder)).into_iter().filter(|path| path.is_file());
        // Builds come one after the other, each with a tree of its own.
        let recorded = files("records").count();
        let (_, cut_off) = crash_build(recorded as u64);
        if files("trees").count() > recorded {
            Self::Tree
        } else if blob(store, &cut_off[0].1).exists() {
            Self::Blobs
        } else if files("locks").count() > recorded {
            Self::Lock
        } else {
            Self::Nothing
        }
    }
}

/// Builds in a process of its own. It is killed at a moment (0 to 1) of the time from the line that begins with `from`
/// to the one that begins with `to`, as long as that took for the build before.
fn kill_while_it_builds(store: &Path, [from, to]: [&str; 2], moment: f64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["crash::crash_child", "--exact", "--nocapture"])
        .env(CRASH_FOLDER, store)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut wait_for = |line: &str| {
        let came = lines.any(|came| came.unwrap().starts_with(line));
        assert!(came, "the child ended before it was killed");
        Instant::now()
    };
    // The first build is of an empty store, and slower.
    wait_for("built 0");
    let begin = wait_for(from);
    let took = wait_for(to) - begin;
    let begin = wait_for(from);
    while begin.elapsed() < took.mul_f64(moment) {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9), "the child ended before it was killed");
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_store() {
    let seed: u64 = std::env::var("PIPELINE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("PIPELINE_TEST_SEED={seed}");
    let folder = tempfile::tempdir().unwrap();
    // While files are written, then while they are taken into the store.
    for (phase, least) in [(["built ", "staged "], Reached::Lock), (["staged ", "built "], Reached::Blobs)] {
        let draw = contract::Draw::new(seed, phase[0]);
        let mut landed = Vec::new();
        // On a busy machine a kill may come before what it is aimed at, or after: that kill counts for nothing.
        for attempt in 0..24u64 {
            let path = folder.path().join(format!("{least:?} {attempt}"));
            kill_while_it_builds(&path, phase, draw.unit(&attempt.to_le_bytes()));
            let store = Store::open(&path).unwrap();
            let reached = Reached::of(&store);
            assert_usable(&store);
            std::fs::remove_dir_all(&path).unwrap();
            landed.extend((reached >= least).then_some(reached));
            if landed.len() == 6 {
                break;
            }
        }
        println!("{phase:?}: {landed:?}");
        assert!(!landed.is_empty(), "no kill fell in the middle");
    }
}

/// Nothing in the store is damaged, what it records is whole, and what it does not can be built.
fn assert_usable(store: &Store) {
    assert_all_whole(store);
    assert!(!store.layout().root().join("damaged").read_dir().unwrap().any(|_| true));
    for number in 0..4 {
        let (key, files) = crash_build(number);
        match store.lookup(key).unwrap() {
            Lookup::Hit(hit) => assert_eq!(store.verify(hit.record.outputs["out"]).unwrap(), []),
            Lookup::Miss => drop(build(store, key, &borrowed(&files))),
            Lookup::Damaged(damage) => panic!("{damage:?}"),
        }
        assert!(is_hit(store, key));
    }
}

/// Every blob has the content that its name says, every tree is whole and has all its blobs.
fn assert_all_whole(store: &Store) {
    let objects = |folder: &str| {
        let paths = walk(&store.layout().root().join(folder)).into_iter().filter(|path| path.is_file());
        paths
            .map(|path| (path.file_name().unwrap().to_str().unwrap().parse::<Digest>().unwrap(), path))
            .collect::<Vec<_>>()
    };
    for (digest, path) in objects("blobs") {
        assert_eq!(Digest::of_file(&path).unwrap(), digest);
    }
    for (digest, _) in objects("trees") {
        for entry in store.listing(digest).unwrap().entries() {
            assert_eq!(fs::metadata(store.layout().blob(entry.digest)).unwrap().len(), entry.size);
        }
    }
}

#[test]
fn what_crashes_left_is_removed_after_a_day() {
    let (folder, store, _) = with_a_build();
    let temporary = store.layout().root().join("tmp");
    let [old, fresh] = ["old", "fresh"].map(|name| temporary.join(name));
    for path in [&old, &fresh] {
        File::create(path).unwrap().seek(SeekFrom::Start(0)).unwrap();
    }
    let past = SystemTime::now() - Duration::from_secs(48 * 60 * 60);
    File::open(&old).unwrap().set_times(FileTimes::new().set_modified(past)).unwrap();
    Store::open(&folder.path().join("cache")).unwrap();
    assert!(!old.exists() && fresh.exists());
}
