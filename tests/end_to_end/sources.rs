//! Files outside the store: what a move, a touch or a new content of them reruns.

use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::bench::{Bench, shell};

const IMPORT: &str = r#"
[run]
name = "run"
[stages.export]
kind = "import"
source = "data/*.json.gz"
[stages.dedup]
kind = "dedup"
input = "export"
"#;

/// An import of two shards of a synthetic export in `data/`, run.
fn imported() -> Bench {
    let bench = Bench::new("[stages.sample]\nkind = \"sample\"\nrepositories = 4\nshards = 2\n");
    bench.run_with(&["--cache", "other"]);
    let exported = bench.pipeline(&["export", "run.toml", "sample", "data", "--cache", "other"]);
    assert_eq!(exported.code, 0, "{}", exported.stderr);
    assert_eq!(shards(&bench.path().join("data")).len(), 2);
    bench.write("run.toml", IMPORT);
    assert_eq!(bench.run(), ["dedup", "export"]);
    bench
}

fn shards(folder: &Path) -> Vec<PathBuf> {
    let mut shards: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    shards.sort();
    shards
}

#[test]
fn a_moved_source_reruns_nothing() {
    let bench = imported();
    fs::create_dir(bench.path().join("elsewhere")).unwrap();
    fs::rename(bench.path().join("data"), bench.path().join("elsewhere/shards")).unwrap();
    let moved = ["--set", "stages.export.source=\"elsewhere/shards/*.json.gz\""];
    assert_eq!(bench.run_with(&moved), [""; 0]);
    let ran = bench.pipeline(&["run", "run.toml"]);
    assert_eq!(ran.code, 1, "the old place is empty");
}

#[test]
fn a_moved_project_reruns_nothing() {
    let bench = imported();
    let elsewhere = Bench::new("");
    for name in ["run.toml", "data", "cache"] {
        fs::rename(bench.path().join(name), elsewhere.path().join(name)).unwrap();
    }
    assert!(elsewhere.plan().values().all(|state| state == "cached"), "{:?}", elsewhere.plan());
    assert_eq!(elsewhere.run(), [""; 0]);
}

#[test]
fn a_touched_or_rewritten_source_of_equal_bytes_reruns_nothing() {
    let bench = imported();
    let shards = shards(&bench.path().join("data"));
    let tomorrow = SystemTime::now() + Duration::from_secs(24 * 60 * 60);
    for time in [SystemTime::UNIX_EPOCH, tomorrow] {
        for shard in &shards {
            let file = File::options().append(true).open(shard).unwrap();
            file.set_times(FileTimes::new().set_modified(time)).unwrap();
        }
        assert_eq!(bench.run(), [""; 0], "{time:?}");
    }
    for shard in &shards {
        let bytes = fs::read(shard).unwrap();
        fs::remove_file(shard).unwrap();
        fs::write(shard, bytes).unwrap();
    }
    assert_eq!(bench.run(), [""; 0], "rewritten");
}

#[test]
fn renamed_shards_rerun_nothing_and_a_missing_one_reruns_the_import() {
    let bench = imported();
    let [first, second] = shards(&bench.path().join("data")).try_into().unwrap();
    let third = bench.path().join("data/z.json.gz");
    fs::rename(&first, &third).unwrap();
    assert_eq!(bench.run(), [""; 0]);
    fs::remove_file(second).unwrap();
    assert_eq!(bench.plan()["export"], "will-run");
    assert_eq!(bench.run(), ["dedup", "export"]);
}

#[test]
fn scripts_that_swap_contents_are_other_sources() {
    let bench = Bench::new(&shell("both", "cp {source:a.txt} {output:files}/a", "files = [\"*.txt\"]"));
    bench.write("a.txt", "one").write("b.txt", "two");
    assert_eq!(bench.run(), ["both"]);
    bench.write("a.txt", "two").write("b.txt", "one");
    assert_eq!(bench.run(), ["both"]);
}
