//! What a store is, what cannot be one, and its errors.

use std::fs;
use std::path::Path;
use std::process::Command;

use pipeline::store::{Fault, HolderInfo, Lookup, Store, StoreError};

use crate::fixture::{blob, fault, flip, is_hit, key, walk, with_a_build};

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
fn a_full_disk_and_a_second_file_system_have_hints() {
    let error =
        |kind: std::io::ErrorKind| StoreError::Io { attempt: "write", path: "cache/blobs".into(), source: kind.into() };
    use std::io::ErrorKind::{CrossesDevices, PermissionDenied, ReadOnlyFilesystem, StorageFull};
    for kind in [CrossesDevices, PermissionDenied, ReadOnlyFilesystem, StorageFull] {
        assert!(error(kind).hint().is_some(), "{kind:?}");
    }
    assert!(error(StorageFull).to_string().starts_with("cannot write cache/blobs: "));
}
