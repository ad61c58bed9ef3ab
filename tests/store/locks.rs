//! One builder a key, among threads and processes.

use std::sync::atomic::{AtomicU32, Ordering};

use contract::Outputs;
use pipeline::store::{GcOptions, LockHolder, LockState, Lookup, Store};

use crate::bench::{FINGERPRINT, is_whole, key, locked, record, with_a_build};

#[test]
fn a_held_lock_names_its_holder_and_is_free_when_dropped() {
    let (folder, store, _) = with_a_build();
    let other = Store::open(&folder.path().join("cache")).unwrap();
    let holder = LockHolder::this("train");
    let lock = store.work.lock(key("a"), &holder).unwrap().unwrap();
    assert!(other.work.lock(key("a"), &LockHolder::this("other")).unwrap().is_none());
    let host = holder.host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
    let text = holder.to_string();
    assert!(text.starts_with(&format!("pid {}{host}, stage train, for 0:0", std::process::id())), "{text}");
    assert_eq!(other.work.lock_state(key("a")).unwrap(), LockState::Held(Some(holder.clone())));
    assert_eq!(other.work.lock_state(key("b")).unwrap(), LockState::Free);
    drop(lock);
    assert_eq!(other.work.lock_state(key("a")).unwrap(), LockState::Free);
    locked(&other, key("a"));
}

#[test]
fn a_key_has_one_builder_while_its_lock_file_is_removed() {
    let (_folder, store, _) = with_a_build();
    let builders = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..300 {
                    let Some(_lock) = store.work.lock(key("b"), &LockHolder::this("test")).unwrap() else { continue };
                    assert_eq!(builders.fetch_add(1, Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    builders.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
        // No build has the key: its lock file goes each time that it is free.
        (0..50).for_each(|_| drop(store.gc_guard().unwrap().collect(&GcOptions::default()).unwrap()));
    });
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
                    let lock = loop {
                        match store.work.lock(key, &LockHolder::this("test")).unwrap() {
                            Some(lock) => break lock,
                            None => std::thread::yield_now(),
                        }
                    };
                    if store.builds.lookup(key).unwrap() != Lookup::Miss {
                        continue;
                    }
                    let outputs =
                        Outputs::stage(&store.work.prepare(&lock, FINGERPRINT).unwrap().staging, ["out".to_owned()])
                            .unwrap();
                    // The same file for all keys: adopted by several at once.
                    outputs.tree("out").unwrap().write("shared", &[7; 1000]).unwrap();
                    outputs.tree("out").unwrap().write("own", format!("{number}").as_bytes()).unwrap();
                    let trees = store.objects.adopt(outputs.finish().unwrap()).unwrap();
                    store.builds.record(&record(key, trees["out"])).unwrap();
                }
            });
        }
    });
    let store = Store::open(&path).unwrap();
    for number in 0..8 {
        let Lookup::Hit(hit) = store.builds.lookup(key(&format!("key {number}"))).unwrap() else { panic!("a miss") };
        assert_eq!(hit.builds, 1);
        assert!(is_whole(&store, hit.record.outputs["out"]));
    }
}

#[test]
fn builds_recorded_at_once_without_a_lock_are_all_kept() {
    let (_folder, store, tree) = with_a_build();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5).for_each(|_| assert!(store.builds.record(&record(key("a"), tree)).unwrap() > 1)));
        }
    });
    assert_eq!(store.builds.of(key("a")).unwrap().records.len(), 21);
}
