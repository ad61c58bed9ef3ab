//! Files outside the store: read once, and never trusted when they may have changed.

use std::fs::{self, File, FileTimes};
use std::path::PathBuf;
use std::time::SystemTime;

use contract::Digest;
use pipeline::store::{Signature, Store, StoreError};

use crate::bench::with_a_build;

/// A file that was last touched long before this test ran.
fn settled_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("rustfmt.toml")
}

/// Files with what `stat` says of them now.
fn seen(paths: &[PathBuf]) -> Vec<(PathBuf, Signature)> {
    paths.iter().map(|path| (path.clone(), Signature::of(&fs::metadata(path).unwrap()))).collect()
}

#[test]
fn an_unchanged_source_is_read_once() {
    let (folder, store, _) = with_a_build();
    let paths = [settled_file()];
    let read = |store: &Store| {
        let mut bytes = 0;
        let snapshot = store
            .sources
            .digest(seen(&paths), |piece| {
                bytes += piece;
                true
            })
            .unwrap();
        assert_eq!(snapshot.digests(), [Digest::of_file(&paths[0]).unwrap()]);
        assert_eq!(snapshot.changed().unwrap(), Vec::<PathBuf>::new());
        bytes
    };
    let size = fs::metadata(&paths[0]).unwrap().len();
    assert!(store.sources.known(seen(&paths)).is_none());
    assert_eq!((read(&store), read(&store)), (size, 0));
    assert_eq!(store.sources.known(seen(&paths)).unwrap().digests(), [Digest::of_file(&paths[0]).unwrap()]);
    let other = Store::open(&folder.path().join("cache")).unwrap();
    assert_eq!(read(&other), 0);
    let index = store.layout().root().join("stat/sources");
    fs::write(&index, "garbage").unwrap();
    assert_eq!(read(&Store::open(&folder.path().join("cache")).unwrap()), size);
    fs::remove_file(&index).unwrap();
    fs::create_dir(&index).unwrap();
    // A directory in the place of the index costs time, until a repair moves it aside.
    for bytes in [size, size, 0] {
        let store = Store::open(&folder.path().join("cache")).unwrap();
        assert_eq!(read(&store), bytes);
        store.misplaced().unwrap();
    }
}

#[test]
fn a_source_written_just_now_is_not_trusted_to_its_times() {
    let (folder, store, _) = with_a_build();
    let path = folder.path().join("source");
    let digest = |content: &str| {
        fs::write(&path, content).unwrap();
        File::open(&path).unwrap().set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH)).unwrap();
        store.sources.digest(seen(std::slice::from_ref(&path)), |_| true).unwrap().digests()[0]
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
    let snapshot = store.sources.digest(seen(&paths), |_| true).unwrap();
    assert!(snapshot.digests().is_sorted());
    assert_eq!(snapshot.files().count(), 5);
    // Longer than a tick of the file system's clock.
    std::thread::sleep(std::time::Duration::from_millis(50));
    // Another content in between may have been read.
    fs::write(path("rewritten"), "rewritten").unwrap();
    fs::write(path("edited"), "EDITED").unwrap();
    fs::write(path("longer"), "longer than before").unwrap();
    fs::remove_file(path("gone")).unwrap();
    let mut changed = snapshot.changed().unwrap();
    changed.sort();
    assert_eq!(changed, ["edited", "gone", "longer", "rewritten"].map(path));
}

#[test]
fn a_source_that_is_no_file_is_refused() {
    let (folder, store, _) = with_a_build();
    let refused = |paths: Vec<(PathBuf, Signature)>| store.sources.digest(paths, |_| true).unwrap_err();
    let directory = refused(seen(&[folder.path().to_owned()])).to_string();
    assert!(directory.ends_with("it is not a regular file"), "{directory}");
    let gone = folder.path().join("absent");
    fs::write(&gone, "").unwrap();
    let was_there = seen(std::slice::from_ref(&gone));
    fs::remove_file(&gone).unwrap();
    let error = refused(was_there).to_string();
    assert!(error.starts_with("cannot read ") && error.contains("absent"), "{error}");
    assert!(matches!(store.sources.digest(seen(&[settled_file()]), |_| false), Err(StoreError::Interrupted)));
}
