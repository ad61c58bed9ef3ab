//! A store looked at as a whole: everything that is damaged, copies of builds, and what running processes use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use contract::Digest;
use pipeline::store::{Fault, GcOptions, Lookup, Object, Store, StoreError};

use crate::bench::{adopt, blob, build, flip, is_hit, is_whole, key, record, walk, with_a_build};

/// Keys with the files of their builds. Two builds share a blob that is to be damaged.
const BUILDS: [(&str, &[(&str, &[u8])]); 8] = [
    ("whole", &[("a", b"whole")]),
    ("flipped", &[("a", b"flipped"), ("b", b"beside it")]),
    ("shares", &[("c", b"flipped")]),
    ("short", &[("a", b"too long to be short")]),
    ("gone", &[("a", b"gone")]),
    ("torn tree", &[("a", b"its tree is torn")]),
    ("lost tree", &[("a", b"its tree is lost")]),
    ("edited", &[("a", b"its record is edited")]),
];

fn cut(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    OpenOptions::new().write(true).open(path).unwrap().set_len(3).unwrap();
}

/// A store with [`BUILDS`], damaged in every way; how each object is damaged, sorted.
fn damaged() -> (tempfile::TempDir, Store, Vec<(String, &'static str)>) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cache")).unwrap();
    for (name, files) in BUILDS {
        build(&store, key(name), files);
    }
    let tree = |name: &str| store.builds.of(key(name)).unwrap().records[&1].outputs["out"];
    let (torn, lost) = (tree("torn tree"), tree("lost tree"));
    let edited = store.layout().records(key("edited")).join("0001.json");
    flip(&blob(&store, b"flipped"));
    cut(&blob(&store, b"too long to be short"));
    fs::remove_file(blob(&store, b"gone")).unwrap();
    cut(&store.layout().tree(torn));
    fs::remove_file(store.layout().tree(lost)).unwrap();
    let text = fs::read_to_string(&edited).unwrap();
    fs::write(&edited, text.replacen("\"threads\": 1", "\"threads\": 2", 1)).unwrap();
    let content = |content: &[u8]| Object::Blob(Digest::of(content)).to_string();
    let mut expected = vec![
        (content(b"flipped"), "modified"),
        (content(b"too long to be short"), "modified"),
        (content(b"gone"), "missing"),
        (Object::Tree(torn).to_string(), "unreadable"),
        (Object::Tree(lost).to_string(), "missing"),
        (Object::Record(edited).to_string(), "unreadable"),
    ];
    expected.sort();
    (folder, store, expected)
}

fn said(damage: &[pipeline::store::Damage]) -> Vec<(String, &'static str)> {
    let how = |fault: &Fault| match fault {
        Fault::Missing => "missing",
        Fault::Size { .. } | Fault::Content { .. } => "modified",
        Fault::Format(_) => "unreadable",
    };
    let mut said: Vec<_> = damage.iter().map(|damage| (damage.object.to_string(), how(&damage.fault))).collect();
    said.sort();
    said
}

fn first_builds(names: &[&str]) -> BTreeSet<(Digest, u32)> {
    names.iter().map(|name| (key(name), 1)).collect()
}

/// Every file below a folder with its bytes.
fn snapshot(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = walk(folder).into_iter().filter(|path| path.is_file());
    let mut files: Vec<_> = files.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn everything_damaged_is_named_once_with_the_builds_that_are_not_whole() {
    let (_folder, store, expected) = damaged();
    let before = snapshot(store.layout().root());
    let reader = Store::open_read_only(store.layout().root()).unwrap();
    for _ in 0..2 {
        let verification = reader.verify_all(&BTreeMap::new(), |_| true).unwrap();
        assert_eq!(said(&verification.damage), expected);
        assert!(verification.damage.iter().all(|damage| damage.aside.is_none()), "{:?}", verification.damage);
        // The edited record is no build any more.
        let broken = ["flipped", "shares", "short", "gone", "torn tree", "lost tree"];
        assert_eq!(verification.builds, first_builds(&broken));
    }
    assert_eq!(snapshot(store.layout().root()), before, "a store open for reading was changed");
}

#[test]
fn a_store_open_for_writing_moves_damage_aside_and_the_next_builds_make_it_whole() {
    let (_folder, store, expected) = damaged();
    let verification = store.verify_all(&BTreeMap::new(), |_| true).unwrap();
    assert_eq!(said(&verification.damage), expected);
    for damage in &verification.damage {
        assert_eq!(damage.aside.is_none(), damage.fault == Fault::Missing, "{damage}");
        assert!(damage.aside.iter().all(|path| path.is_file()), "{damage}");
    }
    // Builds that are not whole are as if they had never been.
    let again = store.verify_all(&BTreeMap::new(), |_| true).unwrap();
    assert_eq!((said(&again.damage), again.builds), (Vec::new(), BTreeSet::new()));
    assert!(is_hit(&store, key("whole")));
    for name in ["edited", "flipped", "shares", "short", "gone", "torn tree", "lost tree"] {
        assert_eq!(store.builds.lookup(key(name)).unwrap(), Lookup::Miss, "{name}");
    }
    for (name, files) in BUILDS {
        if !is_hit(&store, key(name)) {
            build(&store, key(name), files);
        }
    }
    let mended = store.verify_all(&BTreeMap::new(), |_| true).unwrap();
    assert_eq!((said(&mended.damage), mended.builds), (Vec::new(), BTreeSet::new()));
    assert!(BUILDS.iter().all(|(name, _)| is_hit(&store, key(name))));
}

#[test]
fn a_repair_forgets_no_build() {
    let (_folder, store, _) = with_a_build();
    let other = adopt(&store, key("a"), &[("rows/1", b"another")]);
    store.builds.record(&record(key("a"), other)).unwrap();
    assert_eq!(store.builds.ledger().unwrap()[0].distinct, 2);
    flip(&blob(&store, b"content"));
    assert_eq!(store.verify_all(&BTreeMap::new(), |_| true).unwrap().builds, first_builds(&["a"]));
    let Lookup::Hit(hit) = store.builds.lookup(key("a")).unwrap() else { panic!("the second build is whole") };
    assert_eq!((hit.build, hit.builds, hit.distinct), (2, 2, 2));
    assert_eq!(store.builds.ledger().unwrap()[0].builds, 2);
}

#[test]
fn a_whole_store_is_read_to_the_last_byte_and_the_reading_can_be_stopped() {
    let (_folder, store, _) = with_a_build();
    let mut read = 0;
    let verification = store.verify_all(&BTreeMap::new(), |bytes| {
        read += bytes;
        true
    });
    let verification = verification.unwrap();
    assert_eq!((verification.blobs, verification.bytes, read), (2, 13, 13));
    assert_eq!((verification.damage.len(), verification.builds.len(), verification.inventory.builds.len()), (0, 0, 1));
    assert!(matches!(store.verify_all(&BTreeMap::new(), |_| false), Err(StoreError::Interrupted)));
    assert!(is_hit(&store, key("a")), "a reading that was stopped is no damage");
}

#[test]
fn a_copied_tree_has_its_own_bytes_and_is_nobody_s_build() {
    let (folder, from, tree) = with_a_build();
    let to = Store::open(&folder.path().join("other")).unwrap();
    for _ in 0..2 {
        to.copy_tree(&from, tree).unwrap();
        assert_eq!(to.builds.lookup(key("a")).unwrap(), Lookup::Miss);
    }
    assert!(is_whole(&to, tree));
    assert_eq!(fs::metadata(blob(&to, b"content")).unwrap().permissions().mode() & 0o777, 0o444);
    fs::remove_dir_all(from.layout().root()).unwrap();
    assert_eq!(fs::read(blob(&to, b"content")).unwrap(), b"content");
}

#[test]
fn a_copy_mends_what_is_damaged_where_it_goes() {
    let (folder, from, tree) = with_a_build();
    let to = Store::open(&folder.path().join("other")).unwrap();
    build(&to, key("b"), &[("other/name", b"content")]);
    flip(&blob(&to, b"content"));
    to.copy_tree(&from, tree).unwrap();
    assert!(is_whole(&to, tree) && is_hit(&to, key("b")));
}

#[test]
fn a_damaged_or_incomplete_tree_is_not_copied() {
    type Spoil = fn(&Store, Digest);
    let spoils: [(&str, Spoil); 4] = [
        ("a flipped blob", |store, _| flip(&blob(store, b"content"))),
        ("a shortened blob", |store, _| cut(&blob(store, b"content"))),
        ("a missing blob", |store, _| fs::remove_file(blob(store, b"content")).unwrap()),
        ("a torn tree", |store, tree| cut(&store.layout().tree(tree))),
    ];
    for (what, spoil) in spoils {
        let (folder, from, tree) = with_a_build();
        spoil(&from, tree);
        let to = Store::open(&folder.path().join("other")).unwrap();
        let reader = Store::open_read_only(from.layout().root()).unwrap();
        assert!(to.copy_tree(&reader, tree).is_err(), "{what}");
        assert_eq!(to.builds.lookup(key("a")).unwrap(), Lookup::Miss, "{what}");
        assert_eq!(said(&to.verify_all(&BTreeMap::new(), |_| true).unwrap().damage), [], "{what} was copied");
    }
}

const HOLDER_FOLDER: &str = "PIPELINE_TEST_HOLDER_FOLDER";

/// Not a test of its own: a process that leases what the key `b` gave, until it is killed.
#[test]
fn holder() {
    let Some(folder) = std::env::var_os(HOLDER_FOLDER) else { return };
    let store = Store::open(Path::new(&folder)).unwrap();
    let lease = store.leases.start("held").unwrap();
    let guard = store.leases.guard().unwrap();
    lease.hold(store.builds.of(key("b")).unwrap().records[&1].outputs.values()).unwrap();
    drop(guard);
    println!("\nleased");
    std::io::stdin().lines().for_each(drop);
}

fn start_holder(store: &Store) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["care::holder", "--exact", "--nocapture"])
        .env(HOLDER_FOLDER, store.layout().root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "leased"), "the child leases");
    child
}

#[test]
fn what_another_process_uses_stays_until_that_process_is_gone() {
    let (_folder, store, _) = with_a_build();
    let tree = build(&store, key("b"), &[("b", b"used by another process")]);
    let mut child = start_holder(&store);
    let leases = store.leases.all().unwrap();
    assert_eq!(leases.len(), 1);
    assert_eq!((leases[0].holder.pid, leases[0].holder.task.as_str()), (child.id(), "held"));
    assert_eq!(leases[0].trees, BTreeSet::from([tree]));

    let everything = GcOptions { keep_size: Some(0), ..GcOptions::default() };
    let removals = store.gc_guard().unwrap().collect(&everything).unwrap();
    assert_eq!(removals.builds.iter().map(|build| build.key).collect::<Vec<_>>(), [key("a")]);
    assert!(is_hit(&store, key("b")) && !is_hit(&store, key("a")));

    child.kill().unwrap();
    child.wait().unwrap();
    let files = || walk(&store.layout().root().join("leases")).iter().filter(|path| !path.ends_with(".gate")).count();
    assert_eq!(Store::open_read_only(store.layout().root()).unwrap().leases.all().unwrap(), []);
    assert_eq!(files(), 1, "a kill leaves the file, and a reader removes nothing");
    assert_eq!(store.leases.all().unwrap(), []);
    assert_eq!(files(), 0);
    assert_eq!(store.gc_guard().unwrap().collect(&everything).unwrap().builds.len(), 1);
    assert_eq!(store.builds.lookup(key("b")).unwrap(), Lookup::Miss);
}

#[test]
fn a_lease_names_its_process_and_ends_when_it_is_dropped() {
    let (_folder, store, tree) = with_a_build();
    let (first, second) = (store.leases.start("one").unwrap(), store.leases.start("two").unwrap());
    first.hold([&tree]).unwrap();
    let names = || store.leases.all().unwrap().into_iter().map(|lease| lease.holder.task).collect::<BTreeSet<_>>();
    assert_eq!(names(), BTreeSet::from(["one".to_owned(), "two".to_owned()]));
    drop(second);
    assert_eq!(names(), BTreeSet::from(["one".to_owned()]));
    assert_eq!(store.leases.all().unwrap()[0].trees, BTreeSet::from([tree]));
    drop(first);
    assert_eq!(store.leases.all().unwrap(), []);
}

#[test]
fn an_inventory_counts_everything() {
    let (_folder, store, tree) = with_a_build();
    store.builds.record(&record(key("a"), tree)).unwrap();
    build(&store, key("b"), &[("again", b"content")]);
    let inventory = store.inventory().unwrap();
    assert_eq!(inventory.builds.keys().filter(|(built, _)| *built == key("a")).count(), 2);
    assert_eq!((inventory.builds.len(), inventory.trees.len(), inventory.blobs.len()), (3, 2, 2));
    assert_eq!(inventory.blobs.values().sum::<u64>(), 13);
    assert_eq!((inventory.scratch.len(), inventory.aside.len(), inventory.damage.len()), (0, 0, 0));
}
