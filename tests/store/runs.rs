//! A run's folder: what its stages gave last, and outputs by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use contract::{Digest, SourceFile};
use pipeline::store::{GcOptions, GcRoot, LastBuild, RunDir, SourceSnapshot, Store, StoreError};

use crate::bench::{build, key, key_record, last_build, remember, walk, with_a_build};

#[test]
fn a_stage_s_last_build_is_remembered_by_run_and_name() {
    let (_folder, store, tree) = with_a_build();
    let build = LastBuild {
        key: key("a"),
        key_record: key_record(&[("kind", "\"test\"")]),
        outputs: BTreeMap::from([("out".to_owned(), tree)]),
        patterns: Vec::new(),
        sources: None,
    };
    let sources = SourceSnapshot::default();
    assert_eq!(store.builds.last_build("run", "train").unwrap(), None);
    remember(&store, "run", "train", build.clone(), &sources);
    assert_eq!(store.builds.last_build("run", "train").unwrap(), Some(build.clone()));
    assert_eq!(store.builds.last_build("run", "other").unwrap(), None);
    let changed = LastBuild { key: key("b"), ..build };
    remember(&store, "run", "train", changed.clone(), &sources);
    assert_eq!(store.builds.last_build("run", "train").unwrap(), Some(changed));
    assert_eq!(store.builds.damaged_last_builds().unwrap(), []);
    // One other digit, where a digest would still be one.
    let file = store.layout().root().join("runs/run/.stages/train.json");
    let text = fs::read_to_string(&file).unwrap();
    let digit = if tree.to_string().starts_with('0') { "1" } else { "0" };
    fs::write(&file, text.replace(&tree.to_string(), &format!("{digit}{}", &tree.to_string()[1..]))).unwrap();
    assert_eq!(store.builds.last_build("run", "train").unwrap(), None);
    let torn = store.builds.damaged_last_builds().unwrap();
    assert_eq!((torn.len(), file.exists()), (1, false), "{torn:?}");
}

#[test]
fn files_of_the_same_content_by_other_names_are_remembered_by_these() {
    let (_folder, store, tree) = with_a_build();
    let outputs = BTreeMap::from([("out".to_owned(), tree)]);
    let build = LastBuild { patterns: vec!["data/*.gz".to_owned()], ..last_build(key("a"), outputs) };
    for name in ["data/a.gz", "data/b.gz"] {
        let file = SourceFile { path: name.into(), digest: key("content"), size: 7 };
        remember(&store, "run", "import", build.clone(), &SourceSnapshot::remembered(vec![file.clone()]));
        assert_eq!(store.builds.last_sources("run", "import").unwrap(), [file]);
    }
}

#[test]
fn files_that_another_build_read_are_not_taken_for_those_of_the_last() {
    let (_folder, store, _) = with_a_build();
    let file = |name: &str| SourceFile { path: name.into(), digest: key(name), size: 1 };
    let build = LastBuild { patterns: vec!["data/*.gz".to_owned()], ..last_build(key("a"), BTreeMap::new()) };
    remember(&store, "run", "import", build.clone(), &SourceSnapshot::remembered(vec![file("a")]));
    assert_eq!(store.builds.last_sources("run", "import").unwrap(), [file("a")]);
    // A kill between the two files, or a flipped bit.
    let path = store.layout().run("run").unwrap().join(".stages/import.sources");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("1 a", "2 a")).unwrap();
    assert_eq!(store.builds.last_sources("run", "import").unwrap(), []);
    fs::write(&path, text.replace("1 a", "1 ab")).unwrap();
    assert_eq!(store.builds.last_sources("run", "import").unwrap(), []);
    // The next run writes it again, also where it has the right length.
    for wrong in [text.replace("1 a", "2 a"), "?".repeat(text.len()), String::new()] {
        fs::write(&path, wrong).unwrap();
        remember(&store, "run", "import", build.clone(), &SourceSnapshot::remembered(vec![file("a")]));
        assert_eq!(store.builds.last_sources("run", "import").unwrap(), [file("a")]);
    }
}

/// Makes a run the latest, whatever the latest has.
fn make_latest(store: &Store, run: &RunDir) {
    store.runs.make_latest(run, |_| Ok(true)).unwrap();
}

/// A folder for a run, as `start_run` makes it.
fn start(store: &Store, run: &str) -> RunDir {
    store.runs.start(run, Path::new("/p/m.toml")).unwrap().dir
}

#[test]
fn outputs_are_published_by_name() {
    let (folder, store, tree) = with_a_build();
    let run = start(&store, "run");
    let listing = |tree| store.objects.tree(tree).unwrap();
    let show = |outputs: BTreeMap<String, Digest>| {
        let trees = outputs.iter().map(|(port, tree)| (port.clone(), listing(*tree))).collect();
        store.runs.publish(&run, "train", last_build(key("a"), outputs), &SourceSnapshot::default(), &trees).unwrap();
    };
    let publish = |tree| show(BTreeMap::from([("out".to_owned(), tree)]));
    let place = run.path.join("train");
    publish(tree);
    assert_eq!(fs::read(place.join("out/rows/1")).unwrap(), b"content");
    assert_eq!(store.runs.published_trees(&run).unwrap(), BTreeSet::from([tree]));
    assert!(fs::read_link(place.join("out")).unwrap().starts_with("../../../../published"));
    assert!(fs::read_link(place.join("out/rows/1")).unwrap().starts_with("../../../../blobs"));
    let other = build(&store, key("b"), &[("model.bin", b"weights")]);
    show(BTreeMap::from([("out".to_owned(), other), ("more".to_owned(), tree)]));
    assert_eq!(fs::read(place.join("out/model.bin")).unwrap(), b"weights");
    assert!(!place.join("out/rows").exists() && place.join("more/rows/1").exists());
    // Several at once: all is shown, and nothing is left over.
    fs::remove_dir_all(store.layout().root().join("published")).unwrap();
    std::thread::scope(|scope| {
        let store = &store;
        for tree in [tree, other, tree, other] {
            scope.spawn(move || (0..20).for_each(|_| show_alone(store, tree)));
        }
    });
    for (tree, file) in [(tree, "rows/1"), (other, "model.bin")] {
        assert!(store.layout().published(tree).join(file).exists());
    }
    assert_eq!(walk(&store.layout().root().join("tmp")), Vec::<PathBuf>::new());
    publish(other);
    // A link that is gone or leads elsewhere is put right, and so is what lies in the place of the whole.
    let shown = place.join("out/model.bin");
    for spoil in [|_: &Path| {}, |link: &Path| std::os::unix::fs::symlink("/etc/hostname", link).unwrap()] {
        fs::remove_file(&shown).unwrap();
        spoil(&shown);
        publish(other);
        assert_eq!(fs::read(&shown).unwrap(), b"weights");
    }
    let published = store.layout().published(other);
    fs::remove_dir_all(&published).unwrap();
    fs::write(&published, "x").unwrap();
    publish(other);
    assert_eq!(fs::read(&shown).unwrap(), b"weights");
    // Links are relative: a moved store keeps its names.
    let moved = folder.path().join("moved");
    fs::rename(folder.path().join("cache"), &moved).unwrap();
    assert_eq!(fs::read(moved.join("runs/run/1/train/out/model.bin")).unwrap(), b"weights");
}

/// Shows a tree as an output of a run of its own.
fn show_alone(store: &Store, tree: Digest) {
    let outputs = BTreeMap::from([("out".to_owned(), tree)]);
    let trees = BTreeMap::from([("out".to_owned(), store.objects.tree(tree).unwrap())]);
    let run = start(store, "beside");
    store.runs.publish(&run, "train", last_build(key("a"), outputs), &SourceSnapshot::default(), &trees).unwrap();
}

#[test]
fn a_published_output_is_there_at_any_moment() {
    let (_folder, store, tree) = with_a_build();
    let other = build(&store, key("b"), &[("rows/1", b"other")]);
    let run = start(&store, "run");
    let publish = |tree| {
        let outputs = BTreeMap::from([("out".to_owned(), store.objects.tree(tree).unwrap())]);
        let build = last_build(key("a"), BTreeMap::from([("out".to_owned(), tree)]));
        store.runs.publish(&run, "train", build, &SourceSnapshot::default(), &outputs).unwrap();
    };
    publish(tree);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..50 {
                publish(other);
                publish(tree);
                // A link of the tree that was spoilt is put right in its place.
                let link = store.layout().published(other).join("rows/1");
                fs::remove_file(&link).unwrap();
            }
        });
        while !writer.is_finished() {
            assert!(run.path.join("train/out").is_dir());
            assert_eq!(fs::read(store.layout().published(tree).join("rows/1")).unwrap(), b"content");
        }
    });
}

#[test]
fn an_output_without_files_is_an_empty_directory() {
    let (_folder, store, _) = with_a_build();
    let none = build(&store, key("none"), &[]);
    show_alone(&store, none);
    let place = store.layout().run("beside").unwrap().join("1/train/out");
    assert!(place.is_dir() && walk(&place).is_empty());
}

#[test]
fn a_second_run_with_the_same_outputs_makes_one_link_a_port_and_leaves_the_first_alone() {
    let (_folder, store, tree) = with_a_build();
    show_alone(&store, tree);
    let runs = store.layout().run("beside").unwrap();
    let inodes = |folder: &Path| {
        let paths = walk(folder).into_iter().map(|path| (path.symlink_metadata().unwrap().ino(), path));
        paths.collect::<Vec<_>>()
    };
    let (first, stages) = (runs.join("1"), runs.join(".stages"));
    let published = store.layout().root().join("published");
    let before = [&first, &stages, &published].map(|folder| inodes(folder));
    show_alone(&store, tree);
    assert_eq!([&first, &stages, &published].map(|folder| inodes(folder)), before);
    assert_eq!(walk(&runs.join("2")).len(), 2, "a folder and a link");
}

#[test]
fn what_is_half_shown_is_finished_and_what_cannot_be_shown_is_remembered() {
    let (_folder, store, tree) = with_a_build();
    let outputs = BTreeMap::from([("out".to_owned(), tree)]);
    let trees = BTreeMap::from([("out".to_owned(), store.objects.tree(tree).unwrap())]);
    let (build, run) = (last_build(key("a"), outputs), start(&store, "run"));
    let show = || store.runs.publish(&run, "train", build.clone(), &SourceSnapshot::default(), &trees);
    show().unwrap();
    // A kill between the two, either way round.
    for lost in [run.path.join("train"), store.layout().run("run").unwrap().join(".stages")] {
        fs::remove_dir_all(lost).unwrap();
        show().unwrap();
        assert_eq!(fs::read(run.path.join("train/out/rows/1")).unwrap(), b"content");
        assert_eq!(store.builds.last_build("run", "train").unwrap(), Some(build.clone()));
    }
    // What cannot be shown is still what the stage gave last.
    let changed = last_build(key("b"), BTreeMap::new());
    let unnamed = BTreeMap::from([("..".to_owned(), store.objects.tree(tree).unwrap())]);
    assert!(store.runs.publish(&run, "train", changed.clone(), &SourceSnapshot::default(), &unnamed).is_err());
    assert_eq!(store.builds.last_build("run", "train").unwrap(), Some(changed));
}

#[test]
fn names_that_could_leave_the_run_s_folder_are_refused() {
    let (_folder, store, tree) = with_a_build();
    let outputs = BTreeMap::from([("out".to_owned(), store.objects.tree(tree).unwrap())]);
    let build = last_build(key("a"), BTreeMap::from([("out".to_owned(), tree)]));
    let run = start(&store, "run");
    for name in ["", ".", "..", "../up", "a/b", ".hidden", "a b", "a\n", &"x".repeat(200)] {
        let shown = store.runs.publish(&run, name, build.clone(), &SourceSnapshot::default(), &outputs);
        assert!(matches!(shown, Err(StoreError::Name(_))), "{name:?}");
        assert!(matches!(store.builds.last_build("run", name), Err(StoreError::Name(_))), "{name:?}");
        assert!(matches!(store.runs.start(name, Path::new("/p/m.toml")), Err(StoreError::Name(_))), "{name:?}");
    }
}

#[test]
fn latest_leads_to_the_newest_run_that_was_made_so_and_to_none_that_is_forgotten() {
    let (_folder, store, _) = with_a_build();
    let [first, second, third] = [(); 3].map(|()| start(&store, "run"));
    let latest = || store.runs.latest("run").unwrap().map(|run| run.number);
    let link = store.layout().run("run").unwrap().join("latest");
    assert_eq!(latest(), None);
    make_latest(&store, &second);
    assert_eq!((latest(), fs::read_link(&link).unwrap().to_str()), (Some(2), Some("2")));
    // A run that began earlier and ended later.
    make_latest(&store, &first);
    assert_eq!(latest(), Some(2));
    make_latest(&store, &third);
    assert_eq!(latest(), Some(3));
    store.runs.forget(&first).unwrap();
    assert_eq!((latest(), first.path.exists()), (Some(3), false));
    store.runs.forget(&third).unwrap();
    assert!(latest().is_none() && link.symlink_metadata().is_err());
    // A link that leads nowhere is replaced, and what is in its place is moved aside by a repair.
    std::os::unix::fs::symlink("9", &link).unwrap();
    make_latest(&store, &second);
    assert_eq!(latest(), Some(2));
    fs::remove_file(&link).unwrap();
    fs::create_dir_all(link.join("below")).unwrap();
    let error = store.runs.make_latest(&second, |_| Ok(true)).unwrap_err();
    assert!(error.hint().unwrap().contains("--repair"), "{error}");
    assert_eq!(store.misplaced().unwrap().len(), 1);
    make_latest(&store, &second);
    assert_eq!(latest(), Some(2));
}

#[test]
fn the_runs_of_a_name_belong_to_the_manifest_that_used_it_first() {
    let folder = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(folder.path()).unwrap();
    let store = Store::open(&root.join("cache")).unwrap();
    let (mine, other) = (root.join("mine.toml"), root.join("other.toml"));
    for path in [&mine, &other] {
        fs::write(path, "").unwrap();
    }
    assert_eq!(store.runs.owner("run").unwrap(), None);
    store.runs.start("run", &mine).unwrap();
    store.runs.start("run", &mine).unwrap();
    assert_eq!(store.runs.owner("run").unwrap(), Some(mine.clone()));
    match store.runs.start("run", &other) {
        Err(StoreError::Owned { run, manifest }) => assert_eq!((run.as_str(), manifest), ("run", mine.clone())),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.runs.numbers("run").unwrap(), [1, 2]);
    store.runs.start("trial", &other).unwrap();
    // Moved with the store, and the store moved away from it: the same project.
    drop(store);
    fs::create_dir(root.join("moved")).unwrap();
    for name in ["cache", "mine.toml"] {
        fs::rename(root.join(name), root.join("moved").join(name)).unwrap();
    }
    let (store, moved) = (Store::open(&root.join("moved/cache")).unwrap(), root.join("moved/mine.toml"));
    assert_eq!(store.runs.owner("run").unwrap(), Some(moved.clone()));
    store.runs.start("run", &moved).unwrap();
    assert!(store.runs.has_other_owner("run", &mine).unwrap(), "it is known where it is now");
    drop(store);
    fs::rename(root.join("moved/cache"), root.join("cache")).unwrap();
    let store = Store::open(&root.join("cache")).unwrap();
    store.runs.start("run", &moved).unwrap();
    // Moved alone, it has to say so.
    assert!(matches!(store.runs.start("run", &other), Err(StoreError::Owned { .. })));
    store.runs.take_over("run", &other).unwrap();
    store.runs.start("run", &other).unwrap();
    assert!(matches!(store.runs.start("run", &moved), Err(StoreError::Owned { .. })));
    // A file that says nothing does not make the name free.
    fs::write(store.layout().run("run").unwrap().join("project.json"), "{").unwrap();
    for manifest in [&other, &moved] {
        let error = store.runs.start("run", manifest).unwrap_err();
        assert!(
            matches!(error, StoreError::OwnerUnknown { .. }) && error.hint().unwrap().contains("--adopt"),
            "{error}"
        );
    }
    store.runs.take_over("run", &other).unwrap();
    store.runs.start("run", &other).unwrap();
}

#[test]
fn of_runs_that_end_at_the_same_time_the_newest_is_the_latest() {
    let (_folder, store, _) = with_a_build();
    let runs = [(); 16].map(|()| start(&store, "run"));
    let latest = || store.runs.latest("run").unwrap().map(|run| run.number);
    // The others end while the eighth looks at what is the latest.
    let (decided, others) = (&std::sync::Barrier::new(runs.len()), &store);
    let seen = std::thread::scope(|scope| {
        for run in runs.iter().filter(|run| run.number != 8) {
            scope.spawn(move || {
                decided.wait();
                make_latest(others, run);
            });
        }
        let mut seen = None;
        let decide = |before: Option<&RunDir>| {
            seen = before.map(|run| run.number);
            decided.wait();
            (0..1000).for_each(|_| std::thread::yield_now());
            assert_eq!(latest(), seen, "no other is made the latest in between");
            Ok(true)
        };
        store.runs.make_latest(&runs[7], decide).unwrap();
        seen
    });
    assert_eq!((seen, latest()), (None, Some(16)));
}

#[test]
fn numbers_of_runs_that_were_forgotten_are_not_given_again() {
    let (_folder, store, _) = with_a_build();
    let [_, second] = [(); 2].map(|()| start(&store, "run").number);
    store.runs.forget_all("run").unwrap();
    assert_eq!((second, store.runs.names().unwrap()), (2, vec![]));
    assert_eq!((start(&store, "run").number, start(&store, "other").number), (3, 1));
    // Forgotten once more before it ran.
    (0..2).for_each(|_| store.runs.forget_all("run").unwrap());
    assert_eq!(start(&store, "run").number, 4);
}

#[test]
fn no_run_starts_and_no_name_is_taken_while_runs_are_forgotten() {
    let (_folder, store, _) = with_a_build();
    let stop = contract::Cancel::default();
    stop.set();
    let removing = store.gc_guard().unwrap();
    let waits = Store::open_until(store.layout().root(), &stop).unwrap().runs.start("run", Path::new("/p/m.toml"));
    assert!(matches!(waits, Err(StoreError::Interrupted)), "{waits:?}");
    assert_eq!(store.runs.names().unwrap(), [""; 0]);
    drop(removing);
    start(&store, "run");
}

#[test]
fn outputs_by_name_go_when_no_run_has_them_and_stay_for_one_that_was_stopped() {
    let (_folder, store, tree) = with_a_build();
    let other = build(&store, key("b"), &[("model.bin", b"weights")]);
    show_alone(&store, tree);
    show_alone(&store, other);
    let stopped = store.runs.dir("beside", 1).unwrap();
    let holder = GcRoot { trees: store.runs.published_trees(&stopped).unwrap(), ..GcRoot::default() };
    let published = |tree: Digest| store.layout().published(tree).exists();
    let all = |roots| GcOptions { keep_size: Some(0), roots, ..GcOptions::default() };
    store.gc_guard().unwrap().collect(&all(vec![holder])).unwrap();
    assert!(published(tree) && published(other), "of a run that was stopped, and what the stage gave last");
    store.gc_guard().unwrap().collect(&all(Vec::new())).unwrap();
    assert!(!published(tree) && published(other));
}
