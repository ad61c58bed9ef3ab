//! A store in a temporary folder, and builds as a stage would give them.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use contract::{Device, Digest, Outputs};
use pipeline::key::KeyRecord;
use pipeline::store::{
    Fault, KeyLock, LastBuild, LockHolder, Lookup, Machine, Record, SourceSnapshot, Store, milliseconds,
};
use serde_json::json;

/// What scratch is made from, where that is no matter of the test.
pub const FINGERPRINT: Digest = Digest::from_bytes([0; 32]);

pub fn key(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

pub fn locked(store: &Store, key: Digest) -> KeyLock {
    match store.work.lock(key, &LockHolder::this("test")).unwrap() {
        Some(lock) => lock,
        None => panic!("held by {:?}", store.work.lock_state(key)),
    }
}

/// What a stage gave with this key and nothing else to tell.
pub fn last_build(key: Digest, outputs: BTreeMap<String, Digest>) -> LastBuild {
    LastBuild { key, key_record: KeyRecord::default(), outputs, patterns: Vec::new(), sources: None }
}

/// Makes a build what a stage of a run gave last, without showing its outputs.
pub fn remember(store: &Store, run: &str, stage: &str, build: LastBuild, sources: &SourceSnapshot) {
    store.runs.publish(&store.runs.dir(run, 1).unwrap(), stage, build, sources, &BTreeMap::new()).unwrap();
}

/// A key written out, as it is read from a file.
pub fn key_record(leaves: &[(&str, &str)]) -> KeyRecord {
    let leaves: Vec<_> = leaves.iter().map(|(path, value)| json!({ "path": path, "value": value })).collect();
    serde_json::from_value(leaves.into()).unwrap()
}

/// Writes these files to one port as a stage would, and takes them into the store.
pub fn adopt(store: &Store, key: Digest, files: &[(&str, &[u8])]) -> Digest {
    let lock = locked(store, key);
    let work = store.work.prepare(&lock, FINGERPRINT).unwrap();
    let outputs = Outputs::stage(&work.staging, ["out".to_owned()]).unwrap();
    for (path, content) in files {
        outputs.tree("out").unwrap().write(path, content).unwrap();
    }
    let trees = store.objects.adopt(outputs.finish().unwrap()).unwrap();
    store.work.clear(&lock).unwrap();
    trees["out"]
}

pub fn record(key: Digest, tree: Digest) -> Record {
    Record {
        key,
        kind: "test".into(),
        revision: 1,
        stage: "stage".into(),
        run: "run".into(),
        number: None,
        outputs: BTreeMap::from([("out".to_owned(), tree)]),
        key_record: KeyRecord::default(),
        started: milliseconds(SystemTime::now()),
        seconds: 0.1,
        cpu_seconds: None,
        peak_memory: None,
        operations: None,
        updates: None,
        input_bytes: None,
        metrics: BTreeMap::new(),
        threads: 1,
        device: Device::Cpu,
        machine: Machine::this().clone(),
        program: "test".into(),
    }
}

pub fn build(store: &Store, key: Digest, files: &[(&str, &[u8])]) -> Digest {
    let tree = adopt(store, key, files);
    store.builds.record(&record(key, tree)).unwrap();
    tree
}

/// A store in a temporary folder, with one build of the key `a`: two files of seven and six bytes.
pub fn with_a_build() -> (tempfile::TempDir, Store, Digest) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cache")).unwrap();
    let tree = build(&store, key("a"), &[("rows/1", b"content"), ("text/1", b"words!")]);
    (folder, store, tree)
}

pub fn blob(store: &Store, content: &[u8]) -> PathBuf {
    store.layout().blob(Digest::of(content))
}

pub fn is_hit(store: &Store, key: Digest) -> bool {
    matches!(store.builds.lookup(key).unwrap(), Lookup::Hit(_))
}

/// The one fault that a lookup finds.
pub fn fault(store: &Store, key: Digest) -> Fault {
    match store.builds.lookup(key).unwrap() {
        Lookup::Damaged(damage) if damage.len() == 1 => damage[0].fault.clone(),
        other => panic!("{other:?}"),
    }
}

pub fn walk(folder: &Path) -> Vec<PathBuf> {
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
pub fn flip(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    let first = fs::read(path).unwrap()[0] ^ 1;
    OpenOptions::new().write(true).open(path).unwrap().write_all(&[first]).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o444)).unwrap();
}

/// Whether every file of a tree has the bytes that its digest says, read here without the store's help.
pub fn is_whole(store: &Store, tree: Digest) -> bool {
    let files = store.objects.input(tree).unwrap().files;
    files.iter().all(|file| fs::read(&file.location).is_ok_and(|bytes| Digest::of(&bytes) == file.digest))
}
