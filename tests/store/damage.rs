//! What is damaged is found by the lookup, moved aside and rebuilt.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use contract::{Digest, Outputs};
use pipeline::store::{Fault, Lookup, Object, Store, StoreError};

use crate::bench::{FINGERPRINT, adopt, blob, build, fault, flip, is_hit, is_whole, key, locked, record, with_a_build};

#[test]
fn a_flipped_byte_is_found_moved_aside_and_rebuilt() {
    let (folder, store, tree) = with_a_build();
    flip(&blob(&store, b"content"));
    let Lookup::Damaged(damage) = store.builds.lookup(key("a")).unwrap() else { panic!("not found") };
    assert_eq!(damage.len(), 1);
    assert_eq!(damage[0].object, Object::Blob(Digest::of(b"content")));
    assert!(matches!(damage[0].fault, Fault::Content { .. }));
    let aside = damage[0].aside.clone().unwrap();
    assert!(aside.starts_with(fs::canonicalize(folder.path().join("cache/damaged")).unwrap()));
    assert_eq!(fs::read(aside).unwrap(), b"bontent");
    assert_eq!(fault(&store, key("a")), Fault::Missing);

    assert_eq!(build(&store, key("a"), &[("rows/1", b"content"), ("text/1", b"words!")]), tree);
    let Lookup::Hit(hit) = store.builds.lookup(key("a")).unwrap() else { panic!("a miss") };
    assert_eq!((hit.build, hit.builds, hit.distinct), (1, 2, 1));
}

#[test]
fn a_flipped_byte_under_an_unchanged_time_of_modification_is_found() {
    let (_folder, store, _) = with_a_build();
    let path = blob(&store, b"content");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    // Longer than a tick of the file system's clock.
    std::thread::sleep(Duration::from_millis(50));
    flip(&path);
    File::open(&path).unwrap().set_times(FileTimes::new().set_modified(modified)).unwrap();
    assert!(matches!(store.builds.lookup(key("a")).unwrap(), Lookup::Damaged(_)));
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
    assert!(matches!(store.objects.input(tree), Err(StoreError::Damaged(_))));
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
    assert_eq!(store.builds.lookup(key("a")).unwrap(), Lookup::Miss);
    store.builds.record(&record(key("a"), tree)).unwrap();
    assert!(is_hit(&store, key("a")));
}

#[test]
fn a_record_of_another_key_is_moved_aside() {
    let (_folder, store, _) = with_a_build();
    build(&store, key("b"), &[("rows/1", b"other bytes")]);
    let path = |key| store.layout().records(key).join("0001.json");
    fs::copy(path(key("b")), path(key("a"))).unwrap();
    assert_eq!(fault(&store, key("a")), Fault::Format("it belongs to another key".into()));
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
    let Lookup::Hit(hit) = store.builds.lookup(key("a")).unwrap() else { panic!("a miss") };
    assert_eq!((hit.build, hit.builds, hit.distinct, hit.damage.len()), (2, 2, 2, 1));
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
fn writing_equal_bytes_again_mends_a_damaged_blob() {
    let (_folder, store, tree) = with_a_build();
    flip(&blob(&store, b"content"));
    adopt(&store, key("c"), &[("other/name", b"content")]);
    assert!(is_whole(&store, tree));
    assert!(is_hit(&store, key("a")));
}

#[test]
fn a_linked_blob_that_is_damaged_stops_the_adoption() {
    let (_folder, store, tree) = with_a_build();
    let input = store.objects.input(tree).unwrap();
    let lock = locked(&store, key("b"));
    let outputs = Outputs::stage(&store.work.prepare(&lock, FINGERPRINT).unwrap().staging, ["out".to_owned()]).unwrap();
    outputs.tree("out").unwrap().link("text/1", input.required("text/1").unwrap()).unwrap();
    flip(&blob(&store, b"words!"));
    let refused = store.objects.adopt(outputs.finish().unwrap());
    assert!(matches!(refused, Err(StoreError::Damaged(_))), "{refused:?}");
}

#[test]
fn many_who_find_a_copied_store_hash_its_blobs_without_spoiling_each_other_s_work() {
    let (folder, store, _) = with_a_build();
    let content = vec![7; 24 << 20];
    build(&store, key("large"), &[("file", &content)]);
    let copy = folder.path().join("copy");
    assert!(Command::new("cp").arg("-r").args([store.layout().root(), &copy]).status().unwrap().success());
    // Handles of their own, as processes have: they share no memory.
    let stores: Vec<_> = (0..6).map(|_| Store::open(&copy).unwrap()).collect();
    std::thread::scope(|scope| {
        for store in &stores {
            scope.spawn(|| assert!(is_hit(store, key("large"))));
        }
    });
    let changed = |store: &Store| fs::metadata(blob(store, &content)).unwrap().ctime_nsec();
    let sealed = changed(&stores[0]);
    fs::remove_file(copy.join("stat/blobs")).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let forgetful = Store::open(&copy).unwrap();
    assert!(is_hit(&forgetful, key("large")));
    assert_eq!(changed(&forgetful), sealed, "a blob that is sealed already is left as it is");
}

#[test]
fn what_is_no_file_in_the_place_of_one_is_neither_waited_for_nor_in_the_way() {
    type Place = fn(&Store, Digest) -> PathBuf;
    let places: [(&str, Place, bool); 7] = [
        ("tree", |store, tree| store.layout().tree(tree), true),
        ("record", |store, _| store.layout().record(key("a"), 1), true),
        ("blob", |store, _| blob(store, b"content"), true),
        ("index", |store, _| store.layout().root().join("stat/blobs"), false),
        ("lock", |store, _| store.layout().lock(key("a")), false),
        ("lease", |store, _| store.layout().root().join("leases/somebody"), false),
        ("gate", |store, _| store.layout().root().join("leases/.gate"), false),
    ];
    for (name, place, damages) in places {
        for kind in ["pipe", "folder"] {
            let (folder, store, tree) = with_a_build();
            let path = place(&store, tree);
            let _ = fs::remove_file(&path);
            match kind {
                "pipe" => assert!(Command::new("mkfifo").arg(&path).status().unwrap().success()),
                _ => fs::create_dir(&path).unwrap(),
            }
            let what = format!("a {kind} for a {name}");
            let store = Store::open(&folder.path().join("cache")).unwrap();
            assert_eq!(matches!(store.builds.lookup(key("a")).unwrap(), Lookup::Hit(_)), !damages, "{what}");
            drop((store.work.lock_state(key("a")).unwrap(), store.leases.all().unwrap()));
            match (store.leases.guard(), name, kind) {
                (Err(error), "gate", "folder") => assert!(error.hint().unwrap().contains("--repair"), "{error}"),
                (guard, ..) => drop(guard.unwrap()),
            }
            store.misplaced().unwrap();
            store.verify_all(&BTreeMap::new(), |_| true).unwrap();
            assert_eq!(store.verify_all(&BTreeMap::new(), |_| true).unwrap().damage, [], "{what}");
            build(&store, key("a"), &[("rows/1", b"content"), ("text/1", b"words!")]);
            assert!(is_hit(&store, key("a")) && is_whole(&store, tree), "{what}");
        }
    }
}

#[test]
fn a_repair_waits_for_no_pipe_and_touches_nothing_that_a_link_leads_to() {
    let (folder, store, _) = with_a_build();
    let (pipe, link) = (blob(&store, b"content"), blob(&store, b"words!"));
    let elsewhere = folder.path().join("elsewhere");
    fs::write(&elsewhere, b"words!").unwrap();
    fs::remove_file(&pipe).unwrap();
    fs::remove_file(&link).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    let before = fs::metadata(&elsewhere).unwrap();
    assert_eq!(store.verify_all(&BTreeMap::new(), |_| true).unwrap().damage.len(), 2);
    let after = fs::metadata(&elsewhere).unwrap();
    assert_eq!((after.mode(), after.ctime_nsec()), (before.mode(), before.ctime_nsec()));
    assert_eq!(store.verify_all(&BTreeMap::new(), |_| true).unwrap().damage, []);
}
