//! One builder a key, among threads and processes.

use contract::{Cancel, Outputs};
use pipeline::store::{HolderInfo, Lock, Lookup, Store};

use crate::bench::{is_whole, key, locked, record, with_a_build};

#[test]
fn a_held_lock_names_its_holder_and_is_free_when_dropped() {
    let (folder, store, _) = with_a_build();
    let other = Store::open(&folder.path().join("cache")).unwrap();
    let holder = HolderInfo::this("train");
    let Lock::Locked(lock) = store.lock(key("a"), &holder).unwrap() else { panic!("held") };
    let Lock::HeldBy(held) = other.lock(key("a"), &HolderInfo::this("other")).unwrap() else { panic!("not held") };
    assert_eq!(held, Some(holder.clone()));
    assert_eq!(other.holder(key("a")).unwrap(), Some(holder.clone()));
    let host = holder.host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
    let text = holder.to_string();
    assert!(text.starts_with(&format!("pid {}{host}, stage train, for 0:0", std::process::id())), "{text}");
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
        assert!(is_whole(&store, hit.record.outputs["out"]));
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
