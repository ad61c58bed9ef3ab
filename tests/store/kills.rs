//! A process killed while it builds.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use contract::Digest;
use pipeline::store::{Lookup, Store};

use crate::bench::{build, is_hit, is_whole, key, walk};

/// The files of the n-th output of the crash test: some shared between outputs, one of several pieces.
fn crash_files(number: u64) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![("large".to_owned(), number.to_le_bytes().repeat(640 << 10))];
    for file in 0..4 {
        files.push((format!("part/{file}"), format!("{}", number / 2 + file).into_bytes()));
    }
    files
}

const CRASH_FOLDER: &str = "PIPELINE_TEST_CRASH_FOLDER";

/// Not a test of its own: what the killed process runs.
#[test]
fn crash_child() {
    let Some(folder) = std::env::var_os(CRASH_FOLDER) else { return };
    let store = Store::open(Path::new(&folder)).unwrap();
    for number in 0.. {
        let files = crash_files(number);
        let files: Vec<_> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
        build(&store, key(&format!("crash {number}")), &files);
        println!("\nbuilt {number}");
    }
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_store() {
    let seed: u64 = std::env::var("PIPELINE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("PIPELINE_TEST_SEED={seed}");
    let draw = contract::Draw::new(seed, "kill");
    let folder = tempfile::tempdir().unwrap();
    for round in 0..15u64 {
        let path = folder.path().join(round.to_string());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["kills::crash_child", "--exact", "--nocapture"])
            .env(CRASH_FOLDER, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The first build tells how long one takes; the kill comes at a drawn moment of the second or third.
        let mut built =
            || while !lines.next().expect("the child runs until it is killed").unwrap().starts_with("built ") {};
        built();
        let clock = Instant::now();
        built();
        let one = clock.elapsed();
        let clock = Instant::now();
        while clock.elapsed() < one.mul_f64(2.0 * draw.unit(&round.to_le_bytes())) {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let store = Store::open(&path).unwrap();
        assert_all_whole(&store);
        assert!(!path.join("damaged").read_dir().unwrap().any(|_| true));
        for number in 0..4 {
            let key = key(&format!("crash {number}"));
            let files = crash_files(number);
            let files: Vec<_> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
            match store.builds.lookup(key).unwrap() {
                Lookup::Hit(hit) => assert!(is_whole(&store, hit.record.outputs["out"])),
                Lookup::Miss => drop(build(&store, key, &files)),
                Lookup::Damaged(damage) => panic!("{damage:?}"),
            }
            assert!(is_hit(&store, key));
        }
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
        for entry in store.objects.tree(digest).unwrap().entries() {
            assert_eq!(fs::metadata(store.layout().blob(entry.digest)).unwrap().len(), entry.size);
        }
    }
}
