//! Making room: what goes, in which order, and what never does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use contract::Digest;
use pipeline::store::{GcOptions, GcRoot, Lookup, Removals, Retained, SourceSnapshot, Store, StoreError};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use serde_json::json;

use crate::bench::{FINGERPRINT, adopt, flip, is_hit, is_whole, key, last_build, locked, record, remember, walk};

fn empty() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cache")).unwrap();
    (folder, store)
}

/// A build that took so long.
fn build_in(store: &Store, key: Digest, seconds: f64, files: &[(&str, &[u8])]) -> (u32, Digest) {
    let tree = adopt(store, key, files);
    (store.builds.record(&pipeline::store::Record { seconds, ..record(key, tree) }).unwrap(), tree)
}

/// A build of so many bytes that nothing shares.
fn sized(store: &Store, name: &str, seconds: f64, bytes: usize) -> Digest {
    let content: Vec<u8> = name.bytes().cycle().take(bytes).collect();
    build_in(store, key(name), seconds, &[("file", &content)]).1
}

/// Makes a build what a stage of a run gave last.
fn given(store: &Store, stage: &str, key: Digest, tree: Digest) {
    let outputs = BTreeMap::from([("out".to_owned(), tree)]);
    remember(store, "run", stage, last_build(key, outputs), &SourceSnapshot::default());
}

fn keep(size: u64) -> GcOptions {
    GcOptions { keep_size: Some(size), ..GcOptions::default() }
}

fn gone(removals: &Removals) -> Vec<Digest> {
    removals.builds.iter().map(|build| build.key).collect()
}

fn blob_bytes(store: &Store) -> u64 {
    let blobs = walk(&store.layout().root().join("blobs"));
    blobs.iter().filter(|path| path.is_file()).map(|path| fs::metadata(path).unwrap().len()).sum()
}

fn names(folder: &Path) -> BTreeSet<PathBuf> {
    walk(folder).into_iter().collect()
}

#[test]
fn nothing_that_is_built_goes_unless_room_is_asked_for() {
    let (_folder, store) = empty();
    sized(&store, "a", 1.0, 100);
    sized(&store, "b", 1.0, 200);
    let removals = store.gc_guard().unwrap().collect(&GcOptions::default()).unwrap();
    assert_eq!((removals.before, removals.after, gone(&removals)), (300, 300, Vec::new()));
    assert_eq!(gone(&store.gc_guard().unwrap().collect(&keep(300)).unwrap()), []);
    assert!(is_hit(&store, key("a")) && is_hit(&store, key("b")));
}

#[test]
fn the_cheapest_seconds_for_their_bytes_go_first_until_the_rest_is_small_enough() {
    let (_folder, store) = empty();
    sized(&store, "slow and small", 100.0, 100);
    sized(&store, "slow and large", 100.0, 10_000);
    sized(&store, "fast and small", 0.1, 100);
    sized(&store, "fast and large", 0.1, 10_000);
    let removals = store.removals(&keep(0)).unwrap();
    let order = ["fast and large", "fast and small", "slow and large", "slow and small"];
    assert_eq!(gone(&removals), order.map(key));
    assert_eq!(removals.builds.iter().map(|build| build.bytes).collect::<Vec<_>>(), [10_000, 100, 10_000, 100]);
    assert_eq!(removals.builds[2].seconds, 100.0);
    // 20200 bytes: without the first two 10100 are left.
    let removals = store.gc_guard().unwrap().collect(&keep(10_100)).unwrap();
    assert_eq!((gone(&removals), removals.after), (order[..2].iter().map(|name| key(name)).collect(), 10_100));
    assert_eq!(blob_bytes(&store), 10_100);
    assert_eq!(order.map(|name| is_hit(&store, key(name))), [false, false, true, true]);
}

#[test]
fn builds_that_gave_the_same_go_together_at_the_price_of_one() {
    let (_folder, store) = empty();
    // The long one was built twice, as by `run --check`: neither build alone frees anything.
    sized(&store, "long", 100.0, 1_000);
    sized(&store, "long", 90.0, 1_000);
    sized(&store, "short", 1.0, 1_000);
    let removals = store.gc_guard().unwrap().collect(&keep(1_000)).unwrap();
    assert_eq!((gone(&removals), removals.after), (vec![key("short")], 1_000));
    let removals = store.gc_guard().unwrap().collect(&keep(0)).unwrap();
    assert_eq!((gone(&removals), removals.after), (vec![key("long"), key("long")], 0));
    assert_eq!(removals.builds.iter().map(|build| build.bytes).sum::<u64>(), 1_000);
}

#[test]
fn what_runs_gave_last_what_is_named_and_what_is_leased_never_goes() {
    let (_folder, store) = empty();
    let [run, wished, leased, old] =
        ["run", "wished", "leased", "old"].map(|name| (key(name), sized(&store, name, 1.0, 100)));
    given(&store, "train", old.0, old.1);
    given(&store, "train", run.0, run.1);
    let lease = store.leases.start("other").unwrap();
    lease.hold([&leased.1]).unwrap();
    let holder = GcRoot { name: "lock".to_owned(), trees: BTreeSet::from([wished.1]), ..GcRoot::default() };
    let options = GcOptions { keep_size: Some(0), roots: vec![holder], ..GcOptions::default() };
    let removals = store.gc_guard().unwrap().collect(&options).unwrap();
    assert_eq!((gone(&removals), removals.rooted, removals.after), (vec![old.0], 300, 300));
    for (key, tree) in [run, wished, leased] {
        assert!(is_hit(&store, key));
        assert!(is_whole(&store, tree));
    }
    drop(lease);
    assert_eq!(gone(&store.gc_guard().unwrap().collect(&options).unwrap()), [leased.0]);
    assert_eq!(gone(&store.gc_guard().unwrap().collect(&keep(0)).unwrap()), [wished.0]);
    assert!(is_hit(&store, run.0));
}

#[test]
fn it_is_said_for_whom_bytes_stay_and_what_stays_for_one_alone() {
    let (_folder, store) = empty();
    let [both, first, second] = ["both", "first", "second"].map(|name| (key(name), sized(&store, name, 1.0, 100)));
    let holder = |name: &str, trees: &[Digest]| GcRoot {
        name: name.to_owned(),
        run: Some("run".to_owned()),
        trees: trees.iter().copied().collect(),
        ..GcRoot::default()
    };
    // What a run of the name gave last is the newest run's.
    given(&store, "train", second.0, second.1);
    let lease = store.leases.start("other.1").unwrap();
    lease.hold([&both.1]).unwrap();
    let holders = vec![holder("run.1", &[both.1, first.1]), holder("run.2 (latest)", &[both.1])];
    let removals = store.removals(&GcOptions { roots: holders, ..keep(0) }).unwrap();
    let kept = |by: &str, bytes, alone| Retained { by: by.to_owned(), bytes, alone };
    let expected = [kept("run.1", 200, 100), kept("run.2 (latest)", 200, 100), kept("other.1 (running)", 100, 0)];
    assert_eq!(removals.kept, expected);
    assert_eq!((removals.rooted, removals.after), (300, 300));
}

#[test]
fn a_shared_blob_is_freed_when_its_last_holder_goes() {
    let (_folder, store) = empty();
    let shared = vec![b'x'; 1000];
    let own = |name: &str| name.repeat(10).into_bytes();
    for name in ["a", "b", "c"] {
        build_in(&store, key(name), 1.0, &[("shared", &shared), ("own", &own(name))]);
    }
    let removals = store.removals(&keep(0)).unwrap();
    assert_eq!(removals.builds.iter().map(|build| build.bytes).collect::<Vec<_>>(), [10, 10, 1010]);
    assert_eq!(store.gc_guard().unwrap().collect(&keep(1010)).unwrap().after, 1010);
    assert_eq!(["a", "b", "c"].iter().filter(|name| is_hit(&store, key(name))).count(), 1);
    assert_eq!(blob_bytes(&store), 1010);
    // Two builds with the same bytes: either alone frees nothing, both together do.
    let (_folder, store) = empty();
    build_in(&store, key("a"), 1.0, &[("file", &shared)]);
    build_in(&store, key("b"), 1.0, &[("other", &shared)]);
    let removals = store.gc_guard().unwrap().collect(&keep(999)).unwrap();
    assert_eq!((removals.builds.len(), removals.after, blob_bytes(&store)), (2, 0, 0));
}

#[test]
fn what_no_build_names_goes_without_being_asked_for() {
    let (_folder, store) = empty();
    let kept = sized(&store, "kept", 1.0, 100);
    let orphan = adopt(&store, key("crashed"), &[("file", b"never recorded")]);
    let spoilt = sized(&store, "spoilt", 1.0, 50);
    flip(&store.objects.input(spoilt).unwrap().files[0].location);
    assert!(!is_hit(&store, key("spoilt")));
    let removals = store.gc_guard().unwrap().collect(&GcOptions::default()).unwrap();
    assert_eq!((removals.orphans.count, removals.orphans.bytes), (1, 14));
    assert_eq!((removals.aside.count, removals.aside.bytes), (1, 50));
    assert!(!store.layout().tree(orphan).exists());
    assert_eq!(walk(&store.layout().root().join("damaged")), Vec::<PathBuf>::new());
    assert_eq!(blob_bytes(&store), 100);
    assert!(is_whole(&store, kept));
}

#[test]
fn scratch_goes_only_where_its_key_is_built_and_nobody_builds_it_again() {
    let (_folder, store) = empty();
    for name in ["built", "in use"] {
        sized(&store, name, 1.0, 10);
    }
    let mut locks: BTreeMap<_, _> = ["built", "in use", "stopped"]
        .map(|name| {
            let lock = locked(&store, key(name));
            fs::write(store.work.prepare(&lock, FINGERPRINT).unwrap().scratch.join("checkpoint"), "12345").unwrap();
            (name, lock)
        })
        .into();
    locks.remove("built");
    locks.remove("stopped");
    store.gc_guard().unwrap().collect(&keep(0)).unwrap();
    let left = ["built", "in use", "stopped"].map(|name| store.layout().work(key(name)).exists());
    assert_eq!(left, [false, true, true]);
}

#[test]
fn lock_files_go_with_their_keys_unless_they_are_held() {
    let (_folder, store) = empty();
    let kept = sized(&store, "kept", 1.0, 100);
    given(&store, "train", key("kept"), kept);
    sized(&store, "evicted", 1.0, 100);
    let held = locked(&store, key("held"));
    drop(locked(&store, key("never built")));
    let stopped = locked(&store, key("stopped"));
    fs::write(store.work.prepare(&stopped, FINGERPRINT).unwrap().scratch.join("checkpoint"), "12345").unwrap();
    drop(stopped);
    store.gc_guard().unwrap().collect(&keep(0)).unwrap();
    let left =
        ["kept", "evicted", "held", "never built", "stopped"].map(|name| store.layout().lock(key(name)).exists());
    assert_eq!(left, [true, false, true, false, true]);
    drop(held);
    store.gc_guard().unwrap().collect(&keep(0)).unwrap();
    assert!(!store.layout().lock(key("held")).exists());
}

#[test]
fn scratch_of_a_stage_that_is_running_is_not_counted() {
    let (_folder, store) = empty();
    let [running, stopped] = ["running", "stopped"].map(|name| {
        let lock = locked(&store, key(name));
        fs::write(store.work.prepare(&lock, FINGERPRINT).unwrap().scratch.join("checkpoint"), "12345").unwrap();
        lock
    });
    drop(stopped);
    assert_eq!(store.inventory().unwrap().scratch.into_keys().collect::<Vec<_>>(), [key("stopped")]);
    assert_eq!(store.removals(&GcOptions::default()).unwrap().scratch_left.count, 1);
    let options = GcOptions { scratch: true, ..GcOptions::default() };
    let removals = store.gc_guard().unwrap().collect(&options).unwrap();
    assert_eq!((removals.scratch.count, removals.scratch_left.count), (1, 0));
    assert_eq!(["running", "stopped"].map(|name| store.layout().work(key(name)).exists()), [true, false]);
    drop(running);
    assert_eq!(store.removals(&options).unwrap().scratch.count, 1);
}

#[test]
fn a_build_of_a_key_goes_alone_and_a_later_one_does_not_take_its_place() {
    let (_folder, store) = empty();
    build_in(&store, key("a"), 1.0, &[("file", &[b'1'; 100])]);
    let (second, tree) = build_in(&store, key("a"), 9.0, &[("file", &[b'2'; 100])]);
    let removals = store.gc_guard().unwrap().collect(&keep(100)).unwrap();
    assert_eq!(removals.builds.iter().map(|build| build.build).collect::<Vec<_>>(), [1]);
    let Lookup::Hit(hit) = store.builds.lookup(key("a")).unwrap() else { panic!("a miss") };
    assert_eq!((hit.build, hit.builds, hit.record.outputs["out"]), (second, 2, tree));
    assert_eq!(build_in(&store, key("a"), 1.0, &[("file", b"third")]).0, 3);
}

#[test]
fn nothing_goes_while_it_is_not_known_what_belongs_to_what() {
    let damage: [(&str, fn(&Store, Digest)); 4] = [
        ("a torn tree", |store, tree| flip(&store.layout().tree(tree))),
        ("a lost tree", |store, tree| fs::remove_file(store.layout().tree(tree)).unwrap()),
        ("a torn record", |store, _| fs::write(store.layout().record(key("a"), 1), "{").unwrap()),
        ("a lost tree that only a killed run remembers", |store, tree| {
            given(store, "stage", key("a"), tree);
            fs::remove_file(store.layout().record(key("a"), 1)).unwrap();
            fs::remove_file(store.layout().tree(tree)).unwrap();
        }),
    ];
    for (what, damage) in damage {
        let (_folder, store) = empty();
        let tree = sized(&store, "a", 1.0, 100);
        sized(&store, "b", 1.0, 100);
        adopt(&store, key("crashed"), &[("file", b"never recorded")]);
        drop(store.leases.start("run").unwrap());
        damage(&store, tree);
        let before = names(store.layout().root());
        for options in [GcOptions::default(), keep(0)] {
            let refused = store.gc_guard().unwrap().collect(&options).unwrap_err();
            assert!(matches!(&refused, StoreError::Unaccountable(damage) if damage.len() == 1), "{what}: {refused}");
            assert!(refused.hint().unwrap().contains("verify --repair"));
            assert_eq!(names(store.layout().root()), before, "{what}: something went");
        }
        // What nobody can restore is given up by a repair, knowingly.
        let verification = store.verify_all(&BTreeMap::new(), |_| true).unwrap();
        assert_eq!(verification.damage.len(), 1, "{what}");
        assert!(is_hit(&store, key("b")) && store.builds.lookup(key("a")).unwrap() == Lookup::Miss, "{what}");
        assert_eq!(store.verify_all(&BTreeMap::new(), |_| true).unwrap().damage, [], "{what}");
        store.gc_guard().unwrap().collect(&GcOptions::default()).unwrap();
        assert!(is_hit(&store, key("b")) && !names(store.layout().root()).is_superset(&before), "{what}");
    }
}

#[test]
fn a_list_of_files_that_somebody_wrote_down_keeps_its_blobs_and_restores_its_tree() {
    let (_folder, store) = empty();
    let tree = sized(&store, "a", 1.0, 100);
    let listing = store.objects.tree(tree).unwrap();
    let (blob, record) = (listing.entries()[0].digest, store.layout().record(key("a"), 1));
    // Neither record nor tree: only the root names the blob.
    let text = fs::read(&record).unwrap();
    fs::remove_file(&record).unwrap();
    fs::remove_file(store.layout().tree(tree)).unwrap();
    let (trees, blobs) = (BTreeSet::from([tree]), BTreeSet::from([blob]));
    let holder = GcRoot { name: "lock".to_owned(), trees, blobs, ..GcRoot::default() };
    let options = GcOptions { keep_size: Some(0), roots: vec![holder], scratch: false };
    assert_eq!(store.gc_guard().unwrap().collect(&options).unwrap().after, 100);
    fs::create_dir_all(record.parent().unwrap()).unwrap();
    fs::write(&record, text).unwrap();
    let known = BTreeMap::from([(tree, listing)]);
    let reader = Store::open_read_only(store.layout().root()).unwrap();
    assert!(reader.verify_all(&known, |_| true).unwrap().restored.is_empty());
    let verification = store.verify_all(&known, |_| true).unwrap();
    assert_eq!((verification.restored, verification.builds), (BTreeSet::from([tree]), BTreeSet::new()));
    assert!(is_hit(&store, key("a")));
}

#[test]
fn a_dry_run_says_what_would_go_and_writes_nothing() {
    let (_folder, store) = empty();
    for (name, seconds) in [("a", 3.0), ("b", 2.0), ("c", 1.0)] {
        sized(&store, name, seconds, 100);
    }
    adopt(&store, key("crashed"), &[("file", b"never recorded")]);
    let before = names(store.layout().root());
    let reader = Store::open_read_only(store.layout().root()).unwrap();
    let [dry, again] = [&reader, &store].map(|store| json!(store.removals(&keep(150)).unwrap()));
    assert_eq!(dry, again);
    assert_eq!(names(store.layout().root()), before);
    assert!(reader.gc_guard().is_err(), "a store open for reading removes nothing");
    let wet = store.gc_guard().unwrap().collect(&keep(150)).unwrap();
    assert_eq!((json!(wet), wet.builds.len(), wet.orphans.count), (dry, 2, 1));
}

/// What keeps a build of the property test.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Root {
    None,
    Run,
    Named,
    Lease,
}

/// Contents that builds share, and how long the build took.
#[derive(Debug, Clone)]
struct Random {
    contents: BTreeSet<u8>,
    seconds: u8,
    root: Root,
    recorded: bool,
}

fn random() -> impl Strategy<Value = Random> {
    let root = prop_oneof![4 => Just(Root::None), 1 => Just(Root::Run), 1 => Just(Root::Named), 1 => Just(Root::Lease)];
    (btree_set(0..10u8, 0..4), any::<u8>(), root, prop::bool::weighted(0.7))
        .prop_map(|(contents, seconds, root, recorded)| Random { contents, seconds, root, recorded })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_goes_what_is_left_is_whole(builds in vec(random(), 1..9), keep_size in prop::option::of(0..600u64)) {
        let (_folder, store) = empty();
        let lease = store.leases.start("other").unwrap();
        let mut options = GcOptions { keep_size, roots: vec![GcRoot::default()], ..GcOptions::default() };
        let mut rooted = Vec::new();
        for (number, build) in builds.iter().enumerate() {
            let bytes = |content: u8| vec![content; 10 + 20 * usize::from(content)];
            let files: Vec<_> = build.contents.iter().map(|content| (content.to_string(), bytes(*content))).collect();
            let files: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
            // Several builds of a key, too.
            let key = key(&(number % 5).to_string());
            // A tree may be needed before, or after, there is a record that names it.
            let (number_of_key, tree) = match build.recorded {
                true => {
                    let (number_of_key, tree) = build_in(&store, key, f64::from(build.seconds), &files);
                    (Some(number_of_key), tree)
                }
                false => (None, adopt(&store, key, &files)),
            };
            match build.root {
                Root::None => continue,
                Root::Run => given(&store, &format!("s{number}"), key, tree),
                Root::Named => drop(options.roots[0].trees.insert(tree)),
                Root::Lease => lease.hold([&tree]).unwrap(),
            }
            rooted.push((key, number_of_key, tree));
        }
        let recorded = store.inventory().unwrap().builds.len();
        let before = names(store.layout().root());
        let dry = json!(store.removals(&options).unwrap());
        prop_assert_eq!(names(store.layout().root()), before);
        let removals = store.gc_guard().unwrap().collect(&options).unwrap();
        prop_assert_eq!(json!(removals), dry);
        let verification = store.verify_all(&BTreeMap::new(), |_| true).unwrap();
        prop_assert!(verification.damage.is_empty() && verification.builds.is_empty(), "{:?}", verification.damage);
        prop_assert_eq!(removals.after, blob_bytes(&store));
        prop_assert_eq!(verification.inventory.builds.len() + removals.builds.len(), recorded);
        for (key, number, tree) in rooted {
            prop_assert!(is_whole(&store, tree));
            if let Some(number) = number {
                let found = store.builds.of(key).unwrap().records.get(&number).map(|record| record.outputs["out"]);
                prop_assert_eq!(found, Some(tree));
            }
        }
        let freed: u64 = removals.builds.iter().map(|build| build.bytes).sum();
        prop_assert_eq!(removals.before - removals.orphans.bytes - freed, removals.after);
        match keep_size {
            None => prop_assert!(removals.builds.is_empty()),
            // Small enough, or nothing is left that may go.
            Some(keep) if removals.after > keep => prop_assert_eq!(removals.after, removals.rooted),
            Some(keep) => {
                let last = removals.builds.last().map_or(u64::MAX, |last| last.bytes);
                prop_assert!(last == u64::MAX || removals.after + last > keep, "more went than was needed");
            }
        }
        // Nothing is left over for a second time.
        let again = store.gc_guard().unwrap().collect(&options).unwrap();
        prop_assert_eq!((again.builds.len(), again.orphans.count, again.after), (0, 0, removals.after));
    }
}

#[test]
fn what_a_key_gave_stays_known_when_its_bytes_are_gone() {
    let (_folder, store) = empty();
    build_in(&store, key("a"), 1.0, &[("file", b"first")]);
    store.gc_guard().unwrap().collect(&keep(0)).unwrap();
    assert_eq!(store.builds.lookup(key("a")).unwrap(), Lookup::Miss);
    assert_eq!((blob_bytes(&store), store.builds.ledger().unwrap().len()), (0, 0));
    assert_eq!(build_in(&store, key("a"), 1.0, &[("file", b"second")]).0, 2, "numbers are not given again");
    let Lookup::Hit(hit) = store.builds.lookup(key("a")).unwrap() else { panic!("a miss") };
    assert_eq!((hit.builds, hit.distinct), (2, 2));
    assert_eq!(store.builds.lookup_sealed(key("a")).unwrap().distinct, 2);
    let entry = &store.builds.ledger().unwrap()[0];
    assert_eq!((entry.key, entry.builds, entry.distinct), (key("a"), 2, 2));
    store.gc_guard().unwrap().collect(&keep(0)).unwrap();
    assert_eq!(store.builds.ledger().unwrap().len(), 1);
    assert_eq!(store.verify_all(&BTreeMap::new(), |_| true).unwrap().damage, []);
}
