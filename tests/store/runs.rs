//! A run's folder: what its stages gave last, and outputs by name.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use contract::{Digest, SourceFile};
use pipeline::store::{LastBuild, SourceSnapshot, StoreError};

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
    assert_eq!(store.last_build("run", "train").unwrap(), None);
    remember(&store, "run", "train", build.clone(), &sources);
    assert_eq!(store.last_build("run", "train").unwrap(), Some(build.clone()));
    assert_eq!(store.last_build("run", "other").unwrap(), None);
    let changed = LastBuild { key: key("b"), ..build };
    remember(&store, "run", "train", changed.clone(), &sources);
    assert_eq!(store.last_build("run", "train").unwrap(), Some(changed));
    assert_eq!(store.torn_last_builds().unwrap(), []);
    // One other digit, where a digest would still be one.
    let file = store.layout().root().join("runs/run/.stages/train.json");
    let text = fs::read_to_string(&file).unwrap();
    let digit = if tree.to_string().starts_with('0') { "1" } else { "0" };
    fs::write(&file, text.replace(&tree.to_string(), &format!("{digit}{}", &tree.to_string()[1..]))).unwrap();
    assert_eq!(store.last_build("run", "train").unwrap(), None);
    let torn = store.torn_last_builds().unwrap();
    assert_eq!((torn.len(), file.exists()), (1, false), "{torn:?}");
}

#[test]
fn a_last_build_written_before_there_was_a_check_is_none_the_worse() {
    let (_folder, store, tree) = with_a_build();
    let build = LastBuild {
        key: key("a"),
        key_record: key_record(&[("kind", "\"test\""), ("settings.rate", "5e-4")]),
        outputs: BTreeMap::from([("out".to_owned(), tree)]),
        patterns: vec!["data/*.gz".to_owned()],
        sources: None,
    };
    remember(&store, "run", "train", build.clone(), &SourceSnapshot::default());
    let file = store.layout().root().join("runs/run/.stages/train.json");
    let older = serde_json::to_string_pretty(&build).unwrap() + "\n";
    fs::write(&file, &older).unwrap();
    assert_eq!(store.last_build("run", "train").unwrap(), Some(build));
    assert_eq!(store.torn_last_builds().unwrap(), []);
    // Of a newer one whose check was spoilt.
    for wrong in [older.replace("\n}\n", ",\n  \"chesk\": \"0\"\n}\n"), older[..older.len() / 2].to_owned()] {
        fs::write(&file, wrong).unwrap();
        assert_eq!(store.last_build("run", "train").unwrap(), None);
        assert_eq!(store.torn_last_builds().unwrap().len(), 1);
    }
}

#[test]
fn files_of_the_same_content_by_other_names_are_remembered_by_these() {
    let (_folder, store, tree) = with_a_build();
    let outputs = BTreeMap::from([("out".to_owned(), tree)]);
    let build = LastBuild { patterns: vec!["data/*.gz".to_owned()], ..last_build(key("a"), outputs) };
    for name in ["data/a.gz", "data/b.gz"] {
        let file = SourceFile { path: name.into(), digest: key("content"), size: 7 };
        remember(&store, "run", "import", build.clone(), &SourceSnapshot::remembered(vec![file.clone()]));
        assert_eq!(store.last_sources("run", "import").unwrap(), [file]);
    }
}

#[test]
fn files_that_another_build_read_are_not_taken_for_those_of_the_last() {
    let (_folder, store, _) = with_a_build();
    let file = |name: &str| SourceFile { path: name.into(), digest: key(name), size: 1 };
    let build = LastBuild { patterns: vec!["data/*.gz".to_owned()], ..last_build(key("a"), BTreeMap::new()) };
    remember(&store, "run", "import", build.clone(), &SourceSnapshot::remembered(vec![file("a")]));
    assert_eq!(store.last_sources("run", "import").unwrap(), [file("a")]);
    // A kill between the two files, or a flipped bit.
    let path = store.layout().run("run").unwrap().join(".stages/import.sources");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("1 a", "2 a")).unwrap();
    assert_eq!(store.last_sources("run", "import").unwrap(), []);
    fs::write(&path, text.replace("1 a", "1 ab")).unwrap();
    assert_eq!(store.last_sources("run", "import").unwrap(), []);
    assert_eq!(store.torn_last_builds().unwrap(), [], "a list of another build is what a kill leaves");
    // What is no list, or no file, is damage; the next run writes it again.
    let spoil: [&dyn Fn(); 2] =
        [&|| fs::write(&path, "?".repeat(text.len())).unwrap(), &|| fs::create_dir(&path).unwrap()];
    for spoil in spoil {
        fs::remove_file(&path).unwrap();
        assert_eq!(store.torn_last_builds().unwrap(), []);
        spoil();
        let torn = store.torn_last_builds().unwrap();
        assert_eq!((torn.len(), path.exists()), (1, false), "{torn:?}");
        remember(&store, "run", "import", build.clone(), &SourceSnapshot::remembered(vec![file("a")]));
        assert_eq!(store.last_sources("run", "import").unwrap(), [file("a")]);
    }
    remember(&store, "run", "import", build.clone(), &SourceSnapshot::remembered(vec![file("a")]));
    assert_eq!(store.last_sources("run", "import").unwrap(), [file("a")]);
}

#[test]
fn outputs_are_published_by_name() {
    let (folder, store, tree) = with_a_build();
    let listing = |tree| store.listing(tree).unwrap();
    let show = |outputs: BTreeMap<String, Digest>| {
        let trees = outputs.iter().map(|(port, tree)| (port.clone(), listing(*tree))).collect();
        store.show("run", "train", last_build(key("a"), outputs), &SourceSnapshot::default(), &trees).unwrap();
    };
    let publish = |tree| show(BTreeMap::from([("out".to_owned(), tree)]));
    let place = store.layout().run("run").unwrap().join("train");
    publish(tree);
    assert_eq!(fs::read(place.join("out/rows/1")).unwrap(), b"content");
    assert!(fs::read_link(place.join("out/rows/1")).unwrap().starts_with("../../../../../blobs"));
    assert!(fs::read_to_string(place.join(".out.tree")).unwrap().starts_with("pipeline tree 1\n"));
    let other = build(&store, key("b"), &[("model.bin", b"weights")]);
    publish(other);
    assert_eq!(fs::read(place.join("out/model.bin")).unwrap(), b"weights");
    assert!(!place.join("out/rows").exists());
    publish(other);
    show(BTreeMap::from([("out".to_owned(), other), ("more".to_owned(), tree)]));
    assert!(place.join("more/rows/1").exists());
    publish(other);
    assert!(!place.join("more").exists());
    // Several at once, with other outputs: one of them is shown, whole, and nothing is left over.
    std::thread::scope(|scope| {
        for tree in [tree, other, tree, other] {
            scope.spawn(move || (0..20).for_each(|_| publish(tree)));
        }
    });
    let shown = if place.join("out/model.bin").exists() { other } else { tree };
    let files = |folder: &Path| walk(folder).iter().filter(|path| path.is_file()).count();
    assert_eq!(files(&place.join("out")), store.listing(shown).unwrap().entries().len());
    assert_eq!(walk(&store.layout().root().join("tmp")), Vec::<PathBuf>::new());
    publish(other);
    // A link that is gone or leads elsewhere is put right.
    let shown = place.join("out/model.bin");
    for spoil in [|_: &Path| {}, |link: &Path| std::os::unix::fs::symlink("/etc/hostname", link).unwrap()] {
        fs::remove_file(&shown).unwrap();
        spoil(&shown);
        publish(other);
        assert_eq!(fs::read(&shown).unwrap(), b"weights");
    }
    // Links are relative: a moved store keeps its names.
    let moved = folder.path().join("moved");
    fs::rename(folder.path().join("cache"), &moved).unwrap();
    assert_eq!(fs::read(moved.join("runs/run/train/out/model.bin")).unwrap(), b"weights");
}

#[test]
fn what_is_shown_and_remembered_is_left_alone_and_what_is_half_done_is_finished() {
    let (_folder, store, tree) = with_a_build();
    let outputs = BTreeMap::from([("out".to_owned(), tree)]);
    let trees = BTreeMap::from([("out".to_owned(), store.listing(tree).unwrap())]);
    let build = last_build(key("a"), outputs);
    let show = || store.show("run", "train", build.clone(), &SourceSnapshot::default(), &trees);
    let run = store.layout().run("run").unwrap();
    let inodes = || {
        let paths = walk(&run).into_iter().map(|path| (path.symlink_metadata().unwrap().ino(), path));
        paths.collect::<Vec<_>>()
    };
    show().unwrap();
    let before = inodes();
    show().unwrap();
    assert_eq!(inodes(), before);
    // A kill between the two, either way round.
    for lost in ["train", ".stages"] {
        fs::remove_dir_all(run.join(lost)).unwrap();
        show().unwrap();
        assert_eq!(fs::read(run.join("train/out/rows/1")).unwrap(), b"content");
        assert_eq!(store.last_build("run", "train").unwrap(), Some(build.clone()));
    }
    // What cannot be shown is still what the stage gave last.
    let changed = last_build(key("b"), BTreeMap::new());
    let unnamed = BTreeMap::from([("..".to_owned(), store.listing(tree).unwrap())]);
    assert!(store.show("run", "train", changed.clone(), &SourceSnapshot::default(), &unnamed).is_err());
    assert_eq!(store.last_build("run", "train").unwrap(), Some(changed));
}

#[test]
fn names_that_could_leave_the_run_s_folder_are_refused() {
    let (_folder, store, tree) = with_a_build();
    let outputs = BTreeMap::from([("out".to_owned(), store.listing(tree).unwrap())]);
    let build = last_build(key("a"), BTreeMap::from([("out".to_owned(), tree)]));
    let show = |run, stage| store.show(run, stage, build.clone(), &SourceSnapshot::default(), &outputs);
    for name in ["", ".", "..", "../up", "a/b", ".hidden", "a b", "a\n", &"x".repeat(200)] {
        assert!(matches!(show(name, "stage"), Err(StoreError::Name(_))), "{name:?}");
        assert!(matches!(show("run", name), Err(StoreError::Name(_))), "{name:?}");
        assert!(matches!(store.last_build("run", name), Err(StoreError::Name(_))), "{name:?}");
        assert!(matches!(store.start_run(name), Err(StoreError::Name(_))), "{name:?}");
    }
}

#[test]
fn a_run_that_is_forgotten_leaves_no_link_that_leads_nowhere() {
    let (_folder, store, _) = with_a_build();
    let [(first, _), (second, _)] = [(); 2].map(|()| store.start_run("run").unwrap());
    store.write_run_file(&first, "report.html", "the first").unwrap();
    store.write_run_file(&first, "run.lock", "the first").unwrap();
    store.write_run_file(&second, "run.lock", "the second").unwrap();
    let shown = |name: &str| fs::read_to_string(store.layout().root().join("runs/run").join(name)).ok();
    assert_eq!(shown("report.html").as_deref(), Some("the first"));
    store.forget_run(&first).unwrap();
    assert_eq!((shown("report.html"), shown("run.lock").as_deref()), (None, Some("the second")));
    assert!(store.layout().root().join("runs/run/report.html").symlink_metadata().is_err());
}
