//! Outputs on their way into the store, and the builds of one key.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use contract::Outputs;
use pipeline::store::Lookup;

use crate::fixture::{blob, build, flip, is_hit, key, locked, record, walk, with_a_build};

#[test]
fn blobs_and_trees_are_read_only() {
    let (_folder, store, tree) = with_a_build();
    for path in [blob(&store, b"content"), store.layout().tree(tree)] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o444);
    }
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
fn the_first_of_two_different_builds_is_used_and_both_are_counted() {
    let (_folder, store, tree) = with_a_build();
    build(&store, key("a"), &[("rows/1", b"other bytes")]);
    build(&store, key("a"), &[("rows/1", b"other bytes")]);
    let Lookup::Hit(hit) = store.lookup(key("a")).unwrap() else { panic!("a miss") };
    assert_eq!((hit.build, hit.builds, hit.distinct), (1, 3, 2));
    assert_eq!(hit.record.outputs["out"], tree);
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
