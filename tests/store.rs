//! The store: what is kept, what is found damaged, what a kill leaves, and two users at once.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use contract::{Cancel, Device, Digest, Outputs};
use pipeline::store::{
    Fault, HolderInfo, KeyLock, LastBuild, Lock, Lookup, Machine, Object, Record, Store, StoreError, milliseconds,
};
use serde_json::json;

fn key(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn locked(store: &Store, key: Digest) -> KeyLock {
    match store.lock(key, &HolderInfo::this("test")).unwrap() {
        Lock::Locked(lock) => lock,
        Lock::HeldBy(holder) => panic!("held by {holder:?}"),
    }
}

/// Writes these files to one port as a stage would, and takes them into the store.
fn adopt(store: &Store, key: Digest, files: &[(&str, &[u8])]) -> Digest {
    let lock = locked(store, key);
    let work = store.work(&lock).unwrap();
    let outputs = Outputs::stage(&work.staging, ["out".to_owned()]).unwrap();
    for (path, content) in files {
        outputs.tree("out").unwrap().write(path, content).unwrap();
    }
    let trees = store.adopt(outputs.finish().unwrap()).unwrap();
    store.clear_work(&lock).unwrap();
    trees["out"]
}

fn record(key: Digest, tree: Digest) -> Record {
    Record {
        key,
        kind: "test".into(),
        revision: 1,
        outputs: BTreeMap::from([("out".to_owned(), tree)]),
        key_record: json!([]),
        started: milliseconds(SystemTime::now()),
        seconds: 0.1,
        cpu_seconds: None,
        peak_memory: None,
        threads: 1,
        device: Device::Cpu,
        machine: Machine::this(),
        program: "test".into(),
    }
}

fn build(store: &Store, key: Digest, files: &[(&str, &[u8])]) -> Digest {
    let tree = adopt(store, key, files);
    store.record(&record(key, tree)).unwrap();
    tree
}

/// A store in a temporary folder, with one build of the key `a`: two files of seven and six bytes.
fn with_a_build() -> (tempfile::TempDir, Store, Digest) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cache")).unwrap();
    let tree = build(&store, key("a"), &[("rows/1", b"content"), ("text/1", b"words!")]);
    (folder, store, tree)
}

fn blob(store: &Store, content: &[u8]) -> PathBuf {
    store.layout().blob(Digest::of(content))
}

fn is_hit(store: &Store, key: Digest) -> bool {
    matches!(store.lookup(key).unwrap(), Lookup::Hit(_))
}

/// The one fault that a lookup finds.
fn fault(store: &Store, key: Digest) -> Fault {
    match store.lookup(key).unwrap() {
        Lookup::Damaged(damage) if damage.len() == 1 => damage[0].fault.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_build_is_found_again_by_this_and_another_program() {
    let (folder, store, tree) = with_a_build();
    assert_eq!(store.lookup(key("b")).unwrap(), Lookup::Miss);
    for store in [store, Store::open(&folder.path().join("cache")).unwrap()] {
        let Lookup::Hit(hit) = store.lookup(key("a")).unwrap() else { panic!("a miss") };
        assert_eq!((hit.build, hit.builds, hit.distinct), (1, 1, 1));
        assert_eq!(hit.record.outputs["out"], tree);
        assert_eq!(fs::read(&store.tree(tree).unwrap().required("rows/1").unwrap().location).unwrap(), b"content");
    }
}

#[test]
fn a_new_store_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    Store::open(folder.path()).unwrap();
    let tag = fs::read_to_string(folder.path().join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"));
    assert_eq!(fs::read_to_string(folder.path().join("version")).unwrap(), "1\n");
    Store::open(folder.path()).unwrap();
}

#[test]
fn a_path_that_cannot_be_a_store_is_refused_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = |path: &Path| {
        let error = Store::open(path).unwrap_err();
        assert!(error.hint().is_some(), "{error}");
        assert!(Store::open_read_only(path).is_err());
        error
    };
    assert!(matches!(refused(&file), StoreError::NotAFolder(_)));
    assert!(matches!(refused(&file.join("below")), StoreError::NotAFolder(_)));
    assert!(matches!(refused(folder.path()), StoreError::NotAStore(_)));
    let newer = folder.path().join("newer");
    Store::open(&newer).unwrap();
    fs::write(newer.join("version"), "2\n").unwrap();
    assert_eq!(refused(&newer).to_string(), format!("{} has store format 2, this program knows 1", newer.display()));
}

#[test]
fn a_folder_with_only_a_readme_and_an_ignore_file_can_become_a_store() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("README.md"), "").unwrap();
    fs::write(folder.path().join(".gitignore"), "").unwrap();
    Store::open(folder.path()).unwrap();
}

#[test]
fn a_store_open_for_reading_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    let store = Store::open_read_only(&path).unwrap();
    assert_eq!(store.lookup(key("a")).unwrap(), Lookup::Miss);
    assert_eq!(store.holder(key("a")).unwrap(), None);
    assert!(matches!(store.lock(key("a"), &HolderInfo::this("x")), Err(StoreError::ReadOnly)));
    assert!(!path.exists());

    let (folder, _, _) = with_a_build();
    let path = folder.path().join("cache");
    let names = || {
        let mut names: Vec<_> = walk(&path);
        names.sort();
        names
    };
    flip(&blob(&Store::open_read_only(&path).unwrap(), b"content"));
    let before = names();
    let store = Store::open_read_only(&path).unwrap();
    assert!(matches!(fault(&store, key("a")), Fault::Content { .. }));
    assert!(matches!(fault(&store, key("a")), Fault::Content { .. }));
    assert_eq!(names(), before);
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            paths.extend(walk(&path));
        }
        paths.push(path);
    }
    paths
}

/// Flips one bit of a file's first byte; its length stays.
fn flip(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    let first = fs::read(path).unwrap()[0] ^ 1;
    OpenOptions::new().write(true).open(path).unwrap().write_all(&[first]).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o444)).unwrap();
}

#[test]
fn blobs_and_trees_are_read_only() {
    let (_folder, store, tree) = with_a_build();
    for path in [blob(&store, b"content"), store.layout().tree(tree)] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o444);
    }
}

#[test]
fn a_flipped_byte_is_found_moved_aside_and_rebuilt() {
    let (folder, store, tree) = with_a_build();
    flip(&blob(&store, b"content"));
    let Lookup::Damaged(damage) = store.lookup(key("a")).unwrap() else { panic!("not found") };
    assert_eq!(damage.len(), 1);
    assert_eq!(damage[0].object, Object::Blob(Digest::of(b"content")));
    assert!(matches!(damage[0].fault, Fault::Content { .. }));
    let aside = damage[0].aside.clone().unwrap();
    assert!(aside.starts_with(fs::canonicalize(folder.path().join("cache/damaged")).unwrap()));
    assert_eq!(fs::read(aside).unwrap(), b"bontent");
    assert_eq!(fault(&store, key("a")), Fault::Missing);

    assert_eq!(build(&store, key("a"), &[("rows/1", b"content"), ("text/1", b"words!")]), tree);
    let Lookup::Hit(hit) = store.lookup(key("a")).unwrap() else { panic!("a miss") };
    assert_eq!((hit.build, hit.builds, hit.distinct), (1, 2, 1));
}

#[test]
fn a_flipped_byte_under_an_unchanged_time_of_modification_is_found() {
    let (_folder, store, _) = with_a_build();
    let path = blob(&store, b"content");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    flip(&path);
    File::open(&path).unwrap().set_times(FileTimes::new().set_modified(modified)).unwrap();
    // Where the clock of the file system is too coarse to tell the two apart, only a full check finds it.
    let tree = store.builds(key("a")).unwrap().records[&1].outputs["out"];
    assert!(matches!(store.lookup(key("a")).unwrap(), Lookup::Damaged(_)) || store.verify(tree).unwrap().len() == 1);
}

#[test]
fn a_shortened_blob_is_found() {
    let (_folder, store, _) = with_a_build();
    let path = blob(&store, b"content");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(3).unwrap();
    assert_eq!(fault(&store, key("a")), Fault::Size { expected: 7, found: 3 });
}

#[test]
fn a_deleted_blob_is_found() {
    let (_folder, store, _) = with_a_build();
    fs::remove_file(blob(&store, b"content")).unwrap();
    assert_eq!(fault(&store, key("a")), Fault::Missing);
}

#[test]
fn a_blob_replaced_by_a_folder_is_found() {
    let (_folder, store, _) = with_a_build();
    fs::remove_file(blob(&store, b"content")).unwrap();
    fs::create_dir(blob(&store, b"content")).unwrap();
    assert!(matches!(fault(&store, key("a")), Fault::Format(_)));
}

#[test]
fn a_blob_with_other_permissions_is_checked_and_made_read_only_again() {
    let (_folder, store, _) = with_a_build();
    let path = blob(&store, b"content");
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    assert!(is_hit(&store, key("a")));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
}

#[test]
fn a_damaged_or_missing_tree_is_found_and_written_again() {
    let (_folder, store, tree) = with_a_build();
    flip(&store.layout().tree(tree));
    assert!(matches!(fault(&store, key("a")), Fault::Format(_)));
    assert_eq!(fault(&store, key("a")), Fault::Missing);
    assert!(store.tree(tree).unwrap_err().is_damage());
    build(&store, key("a"), &[("rows/1", b"content"), ("text/1", b"words!")]);
    assert!(is_hit(&store, key("a")));
}

#[test]
fn a_torn_record_is_moved_aside() {
    let (_folder, store, tree) = with_a_build();
    let path = store.layout().records(key("a")).join("0001.json");
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(20).unwrap();
    assert!(matches!(fault(&store, key("a")), Fault::Format(_)));
    assert_eq!(store.lookup(key("a")).unwrap(), Lookup::Miss);
    store.record(&record(key("a"), tree)).unwrap();
    assert!(is_hit(&store, key("a")));
}

#[test]
fn a_record_of_another_key_is_moved_aside() {
    let (_folder, store, _) = with_a_build();
    build(&store, key("b"), &[("rows/1", b"other bytes")]);
    let path = |key| store.layout().records(key).join("0001.json");
    fs::copy(path(key("b")), path(key("a"))).unwrap();
    assert_eq!(fault(&store, key("a")), Fault::Format("it is of another key".into()));
}

#[test]
fn an_edited_record_is_moved_aside() {
    let (_folder, store, _) = with_a_build();
    let path = store.layout().records(key("a")).join("0001.json");
    let text = fs::read_to_string(&path).unwrap();
    for (number, edited) in
        [text.replace("\"out\"", "\"put\""), text.replace("check", "chuck"), String::new()].iter().enumerate()
    {
        assert_ne!(edited, &text);
        fs::write(&path, edited).unwrap();
        assert!(matches!(fault(&store, key("a")), Fault::Format(_)), "{number}");
    }
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    fs::write(&path, text).unwrap();
    assert!(is_hit(&store, key("a")));
}

#[test]
fn damage_beside_a_whole_build_is_told_with_the_hit() {
    let (_folder, store, _) = with_a_build();
    build(&store, key("a"), &[("rows/1", b"other bytes")]);
    fs::remove_file(blob(&store, b"content")).unwrap();
    let Lookup::Hit(hit) = store.lookup(key("a")).unwrap() else { panic!("a miss") };
    assert_eq!((hit.build, hit.builds, hit.distinct, hit.damage.len()), (2, 2, 2, 1));
}

#[test]
fn the_first_of_two_different_builds_is_used_and_both_are_counted() {
    let (_folder, store, tree) = with_a_build();
    build(&store, key("a"), &[("rows/1", b"other bytes")]);
    build(&store, key("a"), &[("rows/1", b"other bytes")]);
    let Lookup::Hit(hit) = store.lookup(key("a")).unwrap() else { panic!("a miss") };
    assert_eq!((hit.build, hit.builds, hit.distinct), (1, 3, 2));
    assert_eq!(hit.record.outputs["out"], tree);
}

#[test]
fn a_copied_store_is_hashed_once_and_works() {
    let (folder, store, tree) = with_a_build();
    let copy = folder.path().join("copy");
    let status = Command::new("cp").arg("-r").arg(store.layout().root()).arg(&copy).status().unwrap();
    assert!(status.success());
    let copy = Store::open(&copy).unwrap();
    assert!(is_hit(&copy, key("a")));
    assert_eq!(copy.verify(tree).unwrap(), []);
}

#[test]
fn a_lost_or_garbled_index_costs_only_work() {
    let (folder, store, _) = with_a_build();
    let path = folder.path().join("cache");
    let index = store.layout().root().join("stat/blobs");
    for garbage in [&b""[..], b"\xff\xfe\n garbage 1 2 3\n", b"unfinished"] {
        fs::write(&index, garbage).unwrap();
        assert!(is_hit(&Store::open(&path).unwrap(), key("a")));
    }
    // A line that was torn and joined to another is passed over, not believed.
    let text = fs::read_to_string(&index).unwrap();
    fs::write(&index, text.replace('\n', "")).unwrap();
    assert!(is_hit(&Store::open(&path).unwrap(), key("a")));
    flip(&blob(&store, b"content"));
    assert!(!is_hit(&Store::open(&path).unwrap(), key("a")));
}

#[test]
fn equal_files_are_kept_once_and_linked_files_are_not_moved() {
    let (_folder, store, tree) = with_a_build();
    let input = store.tree(tree).unwrap();
    let lock = locked(&store, key("b"));
    let work = store.work(&lock).unwrap();
    let outputs = Outputs::stage(&work.staging, ["out".to_owned(), "more".to_owned()]).unwrap();
    outputs.tree("out").unwrap().link("text/1", input.required("text/1").unwrap()).unwrap();
    outputs.tree("out").unwrap().write("rows/1", b"fewer").unwrap();
    outputs.tree("more").unwrap().write("rows/1", b"fewer").unwrap();
    outputs.tree("more").unwrap().write("rows/2", b"content").unwrap();
    let trees = store.adopt(outputs.finish().unwrap()).unwrap();
    assert_eq!(store.tree(trees["out"]).unwrap().files.len(), 2);
    let blobs = walk(&store.layout().root().join("blobs")).into_iter().filter(|path| path.is_file()).count();
    assert_eq!(blobs, 3);
    for tree in trees.values() {
        assert_eq!(store.verify(*tree).unwrap(), []);
    }
}

#[test]
fn writing_equal_bytes_again_mends_a_damaged_blob() {
    let (_folder, store, tree) = with_a_build();
    flip(&blob(&store, b"content"));
    adopt(&store, key("c"), &[("other/name", b"content")]);
    assert_eq!(store.verify(tree).unwrap(), []);
    assert!(is_hit(&store, key("a")));
}

#[test]
fn a_linked_blob_that_is_damaged_stops_the_adoption() {
    let (_folder, store, tree) = with_a_build();
    let input = store.tree(tree).unwrap();
    let lock = locked(&store, key("b"));
    let outputs = Outputs::stage(&store.work(&lock).unwrap().staging, ["out".to_owned()]).unwrap();
    outputs.tree("out").unwrap().link("text/1", input.required("text/1").unwrap()).unwrap();
    flip(&blob(&store, b"words!"));
    assert!(store.adopt(outputs.finish().unwrap()).unwrap_err().is_damage());
}

#[test]
fn a_staged_file_changed_after_it_was_written_is_refused() {
    let (_folder, store, _) = with_a_build();
    let lock = locked(&store, key("b"));
    let outputs = Outputs::stage(&store.work(&lock).unwrap().staging, ["out".to_owned()]).unwrap();
    outputs.tree("out").unwrap().write("a", b"as written").unwrap();
    let staged = outputs.finish().unwrap();
    fs::write(&staged["out"].1[0].1, b"longer than it was").unwrap();
    let error = store.adopt(staged).unwrap_err();
    assert_eq!(error.to_string(), "output a of port 'out' is not as long as it was when it was written");
}

#[test]
fn an_empty_output_is_an_output() {
    let (_folder, store, _) = with_a_build();
    let tree = build(&store, key("empty"), &[]);
    assert!(is_hit(&store, key("empty")));
    assert_eq!(store.tree(tree).unwrap().files, []);
}

#[test]
fn scratch_survives_and_staging_does_not() {
    let (_folder, store, _) = with_a_build();
    let work = store.work(&locked(&store, key("b"))).unwrap();
    fs::write(work.scratch.join("checkpoint"), "1").unwrap();
    fs::write(work.staging.join("half"), "1").unwrap();
    let lock = locked(&store, key("b"));
    assert_eq!(store.work(&lock).unwrap(), work);
    assert!(work.scratch.join("checkpoint").exists());
    assert!(!work.staging.join("half").exists());
    store.clear_work(&lock).unwrap();
    assert!(!work.scratch.exists());
}

#[test]
fn a_held_lock_names_its_holder_and_is_free_when_dropped() {
    let (folder, store, _) = with_a_build();
    let other = Store::open(&folder.path().join("cache")).unwrap();
    let holder = HolderInfo::this("train");
    let Lock::Locked(lock) = store.lock(key("a"), &holder).unwrap() else { panic!("held") };
    let Lock::HeldBy(held) = other.lock(key("a"), &HolderInfo::this("other")).unwrap() else { panic!("not held") };
    assert_eq!(held, Some(holder.clone()));
    assert_eq!(other.holder(key("a")).unwrap(), Some(holder.clone()));
    assert!(holder.to_string().starts_with(&format!("pid {}, stage train, for ", std::process::id())));
    assert_eq!(other.holder(key("b")).unwrap(), None);
    drop(lock);
    assert_eq!(other.holder(key("a")).unwrap(), None);
    locked(&other, key("a"));
}

#[test]
fn a_wait_for_a_lock_tells_once_and_can_be_cancelled() {
    let (_folder, store, _) = with_a_build();
    let lock = locked(&store, key("a"));
    let cancel = Cancel::default();
    let mut told = Vec::new();
    let waited = store.wait_for_lock(key("a"), &HolderInfo::this("b"), &cancel, |holder| {
        told.push(holder.cloned());
        cancel.set();
    });
    assert!(waited.unwrap().is_none());
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].as_ref().map(|holder| holder.stage.as_str()), Some("test"));
    let mut lock = Some(lock);
    let waited = store.wait_for_lock(key("a"), &HolderInfo::this("b"), &Cancel::default(), |_| drop(lock.take()));
    assert_eq!(waited.unwrap().map(|lock| lock.key()), Some(key("a")));
}

#[test]
fn many_users_of_one_store_build_each_key_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = Store::open(&path).unwrap();
                for number in 0..8 {
                    let key = key(&format!("key {number}"));
                    let lock = store.wait_for_lock(key, &HolderInfo::this("test"), &Cancel::default(), |_| {});
                    let lock = lock.unwrap().unwrap();
                    if store.lookup(key).unwrap() != Lookup::Miss {
                        continue;
                    }
                    let outputs = Outputs::stage(&store.work(&lock).unwrap().staging, ["out".to_owned()]).unwrap();
                    // The same file for all keys: adopted by several at once.
                    outputs.tree("out").unwrap().write("shared", &[7; 1000]).unwrap();
                    outputs.tree("out").unwrap().write("own", format!("{number}").as_bytes()).unwrap();
                    let trees = store.adopt(outputs.finish().unwrap()).unwrap();
                    store.record(&record(key, trees["out"])).unwrap();
                }
            });
        }
    });
    let store = Store::open(&path).unwrap();
    for number in 0..8 {
        let Lookup::Hit(hit) = store.lookup(key(&format!("key {number}"))).unwrap() else { panic!("a miss") };
        assert_eq!(hit.builds, 1);
        assert_eq!(store.verify(hit.record.outputs["out"]).unwrap(), []);
    }
}

#[test]
fn builds_recorded_at_once_without_a_lock_are_all_kept() {
    let (_folder, store, tree) = with_a_build();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5).for_each(|_| assert!(store.record(&record(key("a"), tree)).unwrap() > 1)));
        }
    });
    assert_eq!(store.builds(key("a")).unwrap().records.len(), 21);
}

/// A file that was last touched long before this test ran.
fn settled_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("rustfmt.toml")
}

#[test]
fn an_unchanged_source_is_read_once() {
    let (folder, store, _) = with_a_build();
    let paths = [settled_file()];
    let read = |store: &Store| {
        let mut bytes = 0;
        let snapshot = store
            .sources(&paths, |piece| {
                bytes += piece;
                true
            })
            .unwrap();
        assert_eq!(snapshot.digests(), [Digest::of_file(&paths[0]).unwrap()]);
        assert_eq!(snapshot.changed().unwrap(), Vec::<PathBuf>::new());
        bytes
    };
    let size = fs::metadata(&paths[0]).unwrap().len();
    assert_eq!((read(&store), read(&store)), (size, 0));
    let other = Store::open(&folder.path().join("cache")).unwrap();
    assert_eq!(read(&other), 0);
    fs::write(store.layout().root().join("stat/sources"), "garbage").unwrap();
    assert_eq!(read(&Store::open(&folder.path().join("cache")).unwrap()), size);
}

#[test]
fn a_source_written_just_now_is_not_trusted_to_its_times() {
    let (folder, store, _) = with_a_build();
    let path = folder.path().join("source");
    let digest = |content: &str| {
        fs::write(&path, content).unwrap();
        File::open(&path).unwrap().set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)).unwrap();
        store.digest_of(&path).unwrap().digest
    };
    for content in ["aaaa", "bbbb", "cccc"] {
        assert_eq!(digest(content), Digest::of(content.as_bytes()));
    }
}

#[test]
fn a_source_changed_while_a_stage_runs_is_named() {
    let (folder, store, _) = with_a_build();
    let path = |name: &str| folder.path().join(name);
    for name in ["same", "rewritten", "edited", "longer", "gone"] {
        fs::write(path(name), name).unwrap();
    }
    let paths: Vec<_> = ["same", "rewritten", "edited", "longer", "gone"].map(path).to_vec();
    let snapshot = store.sources(&paths, |_| true).unwrap();
    assert!(snapshot.digests().is_sorted());
    assert_eq!(snapshot.files().len(), 5);
    fs::write(path("rewritten"), "rewritten").unwrap();
    fs::write(path("edited"), "EDITED").unwrap();
    fs::write(path("longer"), "longer than before").unwrap();
    fs::remove_file(path("gone")).unwrap();
    let mut changed = snapshot.changed().unwrap();
    changed.sort();
    assert_eq!(changed, ["edited", "gone", "longer"].map(path));
}

#[test]
fn a_source_that_is_no_file_is_refused() {
    let (folder, store, _) = with_a_build();
    assert!(matches!(store.digest_of(folder.path()), Err(StoreError::NotAFile(_))));
    let error = store.digest_of(&folder.path().join("absent")).unwrap_err().to_string();
    assert!(error.starts_with("cannot read ") && error.contains("absent"), "{error}");
    assert!(matches!(store.sources(&[settled_file()], |_| false), Err(StoreError::Interrupted)));
}

#[test]
fn a_stage_s_last_build_is_remembered_by_run_and_name() {
    let (_folder, store, tree) = with_a_build();
    let build = LastBuild {
        key: key("a"),
        key_record: json!([{ "path": "kind", "value": "\"test\"" }]),
        outputs: BTreeMap::from([("out".to_owned(), tree)]),
    };
    assert_eq!(store.last_build("run", "train").unwrap(), None);
    store.remember("run", "train", &build).unwrap();
    assert_eq!(store.last_build("run", "train").unwrap(), Some(build.clone()));
    assert_eq!(store.last_build("run", "other").unwrap(), None);
    let changed = LastBuild { key: key("b"), ..build };
    store.remember("run", "train", &changed).unwrap();
    assert_eq!(store.last_build("run", "train").unwrap(), Some(changed));
}

#[test]
fn outputs_are_published_by_name() {
    let (folder, store, tree) = with_a_build();
    let publish = |tree| store.publish("run", "train", &BTreeMap::from([("out".to_owned(), tree)])).unwrap();
    let place = publish(tree);
    assert_eq!(fs::read(place.join("out/rows/1")).unwrap(), b"content");
    assert!(fs::read_link(place.join("out/rows/1")).unwrap().starts_with("../../../../../blobs"));
    assert!(fs::read_to_string(place.join(".out.tree")).unwrap().starts_with("pipeline tree 1\n"));
    let other = build(&store, key("b"), &[("model.bin", b"weights")]);
    publish(other);
    assert_eq!(fs::read(place.join("out/model.bin")).unwrap(), b"weights");
    assert!(!place.join("out/rows").exists());
    publish(other);
    let both = BTreeMap::from([("out".to_owned(), other), ("more".to_owned(), tree)]);
    store.publish("run", "train", &both).unwrap();
    assert!(place.join("more/rows/1").exists());
    publish(other);
    assert!(!place.join("more").exists());
    // Links are relative: a moved store keeps its names.
    let moved = folder.path().join("moved");
    fs::rename(folder.path().join("cache"), &moved).unwrap();
    assert_eq!(fs::read(moved.join("runs/run/train/out/model.bin")).unwrap(), b"weights");
}

#[test]
fn names_that_could_leave_the_run_s_folder_are_refused() {
    let (_folder, store, tree) = with_a_build();
    let outputs = BTreeMap::from([("out".to_owned(), tree)]);
    for name in ["", ".", "..", "../up", "a/b", ".hidden", "a b", "a\n", &"x".repeat(200)] {
        assert!(matches!(store.publish(name, "stage", &outputs), Err(StoreError::Name(_))), "{name:?}");
        assert!(matches!(store.publish("run", name, &outputs), Err(StoreError::Name(_))), "{name:?}");
        assert!(matches!(store.last_build("run", name), Err(StoreError::Name(_))), "{name:?}");
        assert!(matches!(store.events_path(name), Err(StoreError::Name(_))), "{name:?}");
    }
}

#[test]
fn a_full_disk_and_a_second_file_system_have_hints() {
    let error =
        |kind: std::io::ErrorKind| StoreError::Io { attempt: "write", path: "cache/blobs".into(), source: kind.into() };
    use std::io::ErrorKind::{CrossesDevices, PermissionDenied, ReadOnlyFilesystem, StorageFull};
    for kind in [CrossesDevices, PermissionDenied, ReadOnlyFilesystem, StorageFull] {
        assert!(error(kind).hint().is_some(), "{kind:?}");
    }
    assert!(error(StorageFull).to_string().starts_with("cannot write cache/blobs: "));
}

/// The files of the n-th output of the crash test: some shared between outputs, one of several pieces.
fn crash_files(number: u64) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![("large".to_owned(), number.to_le_bytes().repeat(2 << 20))];
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
            .args(["crash_child", "--exact", "--nocapture"])
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
            match store.lookup(key).unwrap() {
                Lookup::Hit(hit) => assert_eq!(store.verify(hit.record.outputs["out"]).unwrap(), []),
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
