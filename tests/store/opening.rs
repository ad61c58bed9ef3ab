//! What may be a store, and what opening one does to it.

use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::time::{Duration, SystemTime};

use pipeline::store::{Fault, LockHolder, LockState, Lookup, Store, StoreError};

use crate::bench::{blob, fault, flip, key, walk, with_a_build};

#[test]
fn a_new_store_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    Store::open(folder.path()).unwrap();
    let tag = fs::read_to_string(folder.path().join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"));
    assert_eq!(fs::read_to_string(folder.path().join("version")).unwrap(), "2\n");
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
    assert!(matches!(refused(&file), StoreError::NotADirectory(_)));
    assert!(matches!(refused(&file.join("below")), StoreError::NotADirectory(_)));
    assert!(matches!(refused(folder.path()), StoreError::NotAStore(_)));
    let other = folder.path().join("other");
    Store::open(&other).unwrap();
    for format in [1, 3] {
        fs::write(other.join("version"), format!("{format}\n")).unwrap();
        let message = format!("{} has store format {format}, this program supports 2", other.display());
        assert_eq!(refused(&other).to_string(), message);
        assert_eq!(fs::read_to_string(other.join("version")).unwrap(), format!("{format}\n"), "it was converted");
    }
}

#[test]
fn a_store_whose_version_was_lost_or_emptied_is_still_a_store() {
    let (_folder, store, _) = with_a_build();
    let (root, version) = (store.layout().root(), store.layout().root().join("version"));
    for lose in [|version: &Path| fs::remove_file(version), |version: &Path| fs::write(version, "")] {
        lose(&version).unwrap();
        assert!(Store::is_at(root).unwrap());
        let found = Store::open_read_only(root).unwrap().builds.lookup(key("a")).unwrap();
        assert!(matches!(found, Lookup::Hit(_)) && fs::read(&version).unwrap_or_default().is_empty());
        Store::open(root).unwrap();
        assert_eq!(fs::read_to_string(&version).unwrap(), "2\n");
    }
    fs::write(root.join("CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n").unwrap();
    fs::remove_file(&version).unwrap();
    assert!(matches!(Store::open(root), Err(StoreError::NotAStore(_))), "another program's folder of caches");
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
    assert_eq!(store.builds.lookup(key("a")).unwrap(), Lookup::Miss);
    assert_eq!(store.work.lock_state(key("a")).unwrap(), LockState::Free);
    assert!(matches!(store.work.lock(key("a"), &LockHolder::this("x")), Err(StoreError::ReadOnly)));
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
fn a_full_disk_and_a_second_file_system_have_hints() {
    let error =
        |kind: std::io::ErrorKind| StoreError::Io { attempt: "write", path: "cache/blobs".into(), source: kind.into() };
    use std::io::ErrorKind::{CrossesDevices, PermissionDenied, ReadOnlyFilesystem, StorageFull};
    for kind in [CrossesDevices, PermissionDenied, ReadOnlyFilesystem, StorageFull] {
        assert!(error(kind).hint().is_some(), "{kind:?}");
    }
    assert!(error(StorageFull).to_string().starts_with("cannot write cache/blobs: "));
}

#[test]
fn what_crashes_left_is_removed_after_a_day() {
    let (folder, store, _) = with_a_build();
    let temporary = store.layout().root().join("tmp");
    let [old, fresh] = ["old", "fresh"].map(|name| temporary.join(name));
    for path in [&old, &fresh] {
        File::create(path).unwrap();
    }
    let past = SystemTime::now() - Duration::from_secs(48 * 60 * 60);
    File::open(&old).unwrap().set_times(FileTimes::new().set_modified(past)).unwrap();
    // The clock may have jumped: what is old may be in use.
    let lease = store.leases.start("run").unwrap();
    Store::open(&folder.path().join("cache")).unwrap();
    assert!(old.exists() && fresh.exists());
    drop(lease);
    Store::open(&folder.path().join("cache")).unwrap();
    assert!(!old.exists() && fresh.exists());
}
