//! What builds give: found again, kept once, told apart.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use contract::Outputs;
use pipeline::store::{Lookup, Signature, Store};

use crate::bench::{FINGERPRINT, blob, build, flip, is_hit, is_whole, key, locked, walk, with_a_build};

#[test]
fn a_build_is_found_again_by_this_and_another_program() {
    let (folder, store, tree) = with_a_build();
    assert_eq!(store.builds.lookup(key("b")).unwrap(), Lookup::Miss);
    for store in [store, Store::open(&folder.path().join("cache")).unwrap()] {
        let Lookup::Hit(hit) = store.builds.lookup(key("a")).unwrap() else { panic!("a miss") };
        assert_eq!((hit.build, hit.builds, hit.distinct), (1, 1, 1));
        assert_eq!(hit.record.outputs["out"], tree);
        assert_eq!(
            fs::read(&store.objects.input(tree).unwrap().required("rows/1").unwrap().location).unwrap(),
            b"content"
        );
    }
}

#[test]
fn blobs_and_trees_are_read_only() {
    let (_folder, store, tree) = with_a_build();
    for path in [blob(&store, b"content"), store.layout().tree(tree)] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o444);
    }
}

#[test]
fn the_first_of_two_different_builds_is_used_and_both_are_counted() {
    let (_folder, store, tree) = with_a_build();
    build(&store, key("a"), &[("rows/1", b"other bytes")]);
    build(&store, key("a"), &[("rows/1", b"other bytes")]);
    let Lookup::Hit(hit) = store.builds.lookup(key("a")).unwrap() else { panic!("a miss") };
    assert_eq!((hit.build, hit.builds, hit.distinct), (1, 3, 2));
    assert_eq!(hit.record.outputs["out"], tree);
}

#[test]
fn what_is_found_at_once_is_what_a_lookup_finds() {
    let (_folder, store, _) = with_a_build();
    let same = |builds, distinct| {
        let Lookup::Hit(hit) = store.builds.lookup(key("a")).unwrap() else { panic!("a miss") };
        assert_eq!((hit.builds, hit.distinct), (builds, distinct));
        assert_eq!(store.builds.lookup_sealed(key("a")), Some(*hit));
    };
    assert_eq!(store.builds.lookup_sealed(key("b")), None);
    same(1, 1);
    for _ in 0..2 {
        build(&store, key("a"), &[("rows/1", b"other bytes")]);
    }
    same(3, 2);
    // The second record is torn, and goes: that the third one is of other bytes than the first is still told.
    fs::write(store.layout().record(key("a"), 2), "torn").unwrap();
    assert_eq!(store.builds.lookup_sealed(key("a")), None);
    let Lookup::Hit(hit) = store.builds.lookup(key("a")).unwrap() else { panic!("a miss") };
    assert_eq!(hit.damage.len(), 1);
    assert!(!store.layout().record(key("a"), 2).exists());
    same(2, 2);
    // Nor does it matter who took it away.
    fs::remove_file(store.layout().record(key("a"), 3)).unwrap();
    same(1, 1);
}

#[test]
fn a_copied_store_is_hashed_once_and_works() {
    let (folder, store, tree) = with_a_build();
    let copy = folder.path().join("copy");
    let status = Command::new("cp").arg("-r").arg(store.layout().root()).arg(&copy).status().unwrap();
    assert!(status.success());
    let copy = Store::open(&copy).unwrap();
    assert!(is_hit(&copy, key("a")));
    assert!(is_whole(&copy, tree));
}

#[test]
fn equal_files_are_kept_once_and_linked_files_are_not_moved() {
    let (_folder, store, tree) = with_a_build();
    let input = store.objects.input(tree).unwrap();
    let lock = locked(&store, key("b"));
    let work = store.work.prepare(&lock, FINGERPRINT).unwrap();
    let outputs = Outputs::stage(&work.staging, ["out".to_owned(), "more".to_owned()]).unwrap();
    outputs.tree("out").unwrap().link("text/1", input.required("text/1").unwrap()).unwrap();
    outputs.tree("out").unwrap().write("rows/1", b"fewer").unwrap();
    outputs.tree("more").unwrap().write("rows/1", b"fewer").unwrap();
    outputs.tree("more").unwrap().write("rows/2", b"content").unwrap();
    let trees = store.objects.adopt(outputs.finish().unwrap()).unwrap();
    assert_eq!(store.objects.input(trees["out"]).unwrap().files.len(), 2);
    let blobs = walk(&store.layout().root().join("blobs")).into_iter().filter(|path| path.is_file()).count();
    assert_eq!(blobs, 3);
    for tree in trees.values() {
        assert!(is_whole(&store, *tree));
    }
}

#[test]
fn a_staged_file_changed_after_it_was_written_is_refused() {
    let (_folder, store, _) = with_a_build();
    let lock = locked(&store, key("b"));
    let outputs = Outputs::stage(&store.work.prepare(&lock, FINGERPRINT).unwrap().staging, ["out".to_owned()]).unwrap();
    outputs.tree("out").unwrap().write("a", b"as written").unwrap();
    let staged = outputs.finish().unwrap();
    fs::write(&staged["out"].1[0].1, b"longer than it was").unwrap();
    let error = store.objects.adopt(staged).unwrap_err();
    assert_eq!(error.to_string(), "output a of port 'out' is its size changed after it was written");
}

#[test]
fn an_empty_output_is_an_output() {
    let (_folder, store, _) = with_a_build();
    let tree = build(&store, key("empty"), &[]);
    assert!(is_hit(&store, key("empty")));
    assert_eq!(store.objects.input(tree).unwrap().files, []);
}

#[test]
fn scratch_survives_and_staging_does_not() {
    let (_folder, store, _) = with_a_build();
    let lock = locked(&store, key("b"));
    let work = store.work.prepare(&lock, FINGERPRINT).unwrap();
    fs::write(work.scratch.join("checkpoint"), "1").unwrap();
    fs::write(work.staging.join("half"), "1").unwrap();
    drop(lock);
    let lock = locked(&store, key("b"));
    assert_eq!(store.work.prepare(&lock, FINGERPRINT).unwrap(), work);
    assert!(work.scratch.join("checkpoint").exists());
    assert!(!work.staging.join("half").exists());
    store.work.clear(&lock).unwrap();
    assert!(!work.scratch.exists());
}

#[test]
fn scratch_that_was_made_from_what_has_been_touched_is_emptied() {
    let (folder, store, tree) = with_a_build();
    let source = folder.path().join("source");
    fs::write(&source, "text").unwrap();
    let fingerprint = || {
        let sources =
            store.sources.digest(vec![(source.clone(), Signature::of(&source.metadata().unwrap()))], |_| true).unwrap();
        store.work.input_fingerprint(&BTreeMap::from([("in".to_owned(), tree)]), &sources).unwrap()
    };
    let lock = locked(&store, key("b"));
    let kept = || {
        let checkpoint = store.work.prepare(&lock, fingerprint()).unwrap().scratch.join("checkpoint");
        let kept = checkpoint.exists();
        fs::write(checkpoint, "1").unwrap();
        kept
    };
    assert!(!kept() && kept() && kept());
    // The same bytes by now: what was read in between may have been others.
    let (words, content) = (blob(&store, b"words!"), fs::read(&source).unwrap());
    flip(&words);
    flip(&words);
    assert!(!kept() && kept());
    let another = folder.path().join("another");
    fs::write(&another, content).unwrap();
    fs::rename(&another, &source).unwrap();
    assert!(!kept() && kept());
    // Of a program that did not write down what it was made from.
    fs::remove_file(store.layout().work(key("b")).join("input_fingerprint")).unwrap();
    assert!(!kept() && kept());
}
