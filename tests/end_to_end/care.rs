//! The care of the store: `cache ls`, `cache verify`, `cache gc`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::bench::{Bench, DATA_STAGES, shell, texts};

#[test]
fn cache_ls_lists_builds_with_who_uses_them() {
    let bench = Bench::ran();
    let text = bench.pipeline(&["cache", "ls"]).stdout;
    assert!(DATA_STAGES.iter().all(|stage| text.contains(&format!("run/{stage}\n"))), "{text}");
    assert!(text.contains("5 builds of 5 keys, "), "{text}");
    let json = bench.json(&["cache", "ls"]);
    assert_eq!(json["builds"].as_array().unwrap().len(), 5);
    let blobs = bench.blobs();
    let bytes: u64 = blobs.iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(
        (&json["totals"]["blobs"]["count"], &json["totals"]["blobs"]["bytes"]),
        (&blobs.len().into(), &bytes.into())
    );
    // What only an earlier run gave is that run's.
    bench.edit("fraction = 0.2", "fraction = 0.3").run();
    let text = bench.pipeline(&["cache", "ls"]).stdout;
    assert!(text.contains(" run/split\n") && text.contains(" run.1/split\n") && !text.contains("no run"), "{text}");
    bench.run();
    bench.pipeline(&["cache", "gc", "--keep-runs", "1"]);
    let text = bench.pipeline(&["cache", "ls"]).stdout;
    assert!(text.contains("no run\n") && !text.contains("run.1/"), "{text}");
    let absent = bench.pipeline(&["cache", "ls", "--cache", "elsewhere"]);
    assert_eq!(absent.code, 2);
    assert!(absent.stderr.contains("hint: ") && !bench.path().join("elsewhere").exists(), "{}", absent.stderr);
}

#[test]
fn what_lies_in_the_place_of_the_store_s_folders_is_moved_aside() {
    let bench = Bench::ran();
    let key = bench.json(&["plan", "run.toml"])["stages"][0]["key"].as_str().unwrap().to_owned();
    let places =
        [format!("records/{key}"), "locks".into(), "work".into(), "runs/run".into(), format!("trees/{}", &key[..2])];
    for place in places {
        let path = bench.cache().join(&place);
        let _ = fs::remove_dir_all(&path);
        fs::write(&path, "x").unwrap();
        let found = bench.pipeline(&["cache", "verify"]);
        assert!(found.code == 4 && found.stdout.contains("it is not a directory"), "{place}: {}", found.stdout);
        let repaired = bench.pipeline(&["cache", "verify", "--repair"]);
        assert_eq!(repaired.code, 0, "{place}: {}", repaired.stderr);
        bench.run();
        assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0, "{place}");
    }
    // Names that are not the store's are ignored; the directory for damage is as any other.
    bench.write("cache/runs/.DS_Store", "x").write("cache/blobs/README", "x");
    fs::remove_dir_all(bench.cache().join("damaged")).unwrap();
    let refused = bench.write("cache/damaged", "x").pipeline(&["run", "run.toml"]);
    assert!(refused.code == 4 && refused.stderr.contains("cache verify --repair"), "{}", refused.stderr);
    for command in [&["cache", "verify", "--repair"][..], &["cache", "verify"], &["cache", "gc"]] {
        assert_eq!(bench.pipeline(command).code, 0, "{command:?}");
    }
    assert!(bench.cache().join("runs/.DS_Store").exists() && bench.cache().join("blobs/README").exists());
    // Folders in the place of a key's lock, of a run's and of the link to the latest; a version that is no text.
    for (place, verified) in [
        (format!("locks/{key}"), 4),
        ("runs/run/latest/run.lock".into(), 4),
        ("runs/run/latest".into(), 4),
        ("version".into(), 0),
    ] {
        let path = bench.cache().join(&place);
        let _ = fs::remove_file(&path);
        match place.as_str() {
            "version" => fs::write(&path, b"\xff\xfe").unwrap(),
            _ => fs::create_dir(&path).unwrap(),
        }
        assert_eq!(bench.pipeline(&["cache", "verify"]).code, verified, "{place}");
        assert_eq!(bench.pipeline(&["cache", "verify", "--repair"]).code, 0, "{place}");
        assert_eq!(bench.pipeline(&["run", "run.toml", "--force", "sample"]).code, 0, "{place}");
        assert_eq!(bench.pipeline(&["cache", "gc"]).code, 0, "{place}");
    }
}

#[test]
fn cache_verify_finds_damage_and_moves_it_aside_only_when_asked() {
    let bench = Bench::ran();
    let whole = bench.pipeline(&["cache", "verify"]);
    assert!(whole.code == 0 && whole.stdout.ends_with(": no damage\n"), "{}", whole.stdout);
    let blob: PathBuf = fs::canonicalize(bench.cache().join("runs/run/latest/license/report/report.json")).unwrap();
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&blob, "other").unwrap();
    for _ in 0..2 {
        let found = bench.pipeline(&["cache", "verify"]);
        assert_eq!(found.code, 4);
        assert_eq!(found.stdout.matches("damaged: blob").count(), 1, "{}", found.stdout);
        assert!(found.stdout.contains("(license), used by run/license"), "{}", found.stdout);
        assert!(found.stderr.contains("--repair"), "{}", found.stderr);
        let found = bench.pipeline(&["cache", "verify", "--json"]);
        let told: Value = serde_json::from_str(&found.stdout).unwrap();
        assert_eq!((found.code, told["damage"].as_array().unwrap().len()), (4, 1), "{told}");
        assert_eq!(told["not_whole"][0]["used_by"], json!(["run/license"]), "{told}");
    }
    let repaired = bench.pipeline(&["cache", "verify", "--repair"]);
    assert!(repaired.code == 0 && repaired.stdout.contains(", moved to "), "{}", repaired.stdout);
    assert_eq!(bench.run(), ["license"]);
    assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0);
}

#[test]
fn damaged_history_is_damage_and_a_repair_moves_it_aside() {
    let bench = Bench::ran();
    bench.run();
    let (first, second) = (bench.cache().join("runs/run/1"), bench.cache().join("runs/run/2"));
    let text = fs::read_to_string(first.join("run.lock")).unwrap();
    fs::write(first.join("run.lock"), &text[..text.len() - 9]).unwrap();
    fs::write(second.join("events.jsonl"), "{\"at\": 0}\n{}\n").unwrap();
    fs::write(bench.cache().join("runs/run/.stages/split.json"), "{").unwrap();
    for (command, said) in [
        (&["cache", "verify"][..], "run.lock cannot be read: its check does not match"),
        (&["cache", "verify"], "events.jsonl cannot be read: missing field `event` at line 1"),
        (&["cache", "verify"], "split.json cannot be read"),
        (&["cache", "gc"], "2 objects are damaged"),
        (&["diff", "run.1", "run.2"], "it was modified after it was written"),
        (&["reproduce", "run.1"], "it was modified after it was written"),
        (&["replay", "run"], "events.jsonl cannot be read: missing field `event` at line 1"),
        (&["logs", "run", "split"], "events.jsonl cannot be read: missing field `event` at line 1"),
        (&["runs"], "it was modified after it was written"),
    ] {
        let found = bench.pipeline(command);
        assert_eq!(found.code, 4, "{command:?}: {}", found.stderr);
        assert!((found.stdout + &found.stderr).contains(said), "{command:?}: {said}");
    }
    let repaired = bench.pipeline(&["cache", "verify", "--repair"]);
    assert_eq!((repaired.code, repaired.stdout.matches(", moved to ").count()), (0, 3), "{}", repaired.stdout);
    assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0);
    assert_eq!(bench.pipeline(&["cache", "gc"]).code, 0);
    assert_eq!(bench.run(), [""; 0]);
}

#[test]
fn a_tree_that_is_lost_comes_back_from_a_lock_and_nothing_is_removed_before() {
    let bench = Bench::ran();
    let tree = bench.digests(&["quality"])["quality.documents"].clone();
    fs::remove_file(bench.cache().join("trees").join(&tree[..2]).join(&tree)).unwrap();
    let before = bench.blobs();
    for _ in 0..2 {
        let refused = bench.pipeline(&["cache", "gc", "--lock", "cache/runs/run/latest/run.lock"]);
        assert!(refused.code == 4 && refused.stderr.contains("verify --repair"), "{}", refused.stderr);
        assert_eq!(bench.blobs(), before);
    }
    let repaired = bench.pipeline(&["cache", "verify", "--repair"]);
    assert!(repaired.code == 0 && repaired.stdout.contains("restored: tree "), "{}", repaired.stdout);
    assert_eq!(bench.pipeline(&["cache", "gc"]).code, 0);
    assert_eq!((bench.run(), bench.blobs()), (Vec::new(), before));
}

#[test]
fn cache_gc_keeps_what_runs_gave_and_frees_what_it_said_it_would() {
    let bench = Bench::ran();
    let everything = ["cache", "gc", "--keep-size", "1B"];
    assert_eq!(bench.json(&everything)["builds"], Value::Array(Vec::new()), "all of it is what the run gave");
    let other = ["--set", "stages.license.allow=[\"mit\"]"];
    assert_eq!(bench.run_with(&other), ["license", "quality", "split"]);
    bench.run();
    let with = |more: &[&'static str]| [&everything[..], &["--keep-runs", "1"], more].concat();
    let dry = bench.json(&with(&["--dry-run"]));
    let mut kinds = texts(&dry["builds"], "kind");
    kinds.sort();
    assert_eq!(kinds, ["license", "quality", "split"]);
    assert_eq!(bench.json(&with(&["--dry-run"])), dry, "a dry run changes nothing");
    assert_eq!(bench.json(&with(&[])), dry);
    let left: u64 = bench.blobs().iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(dry["after"], left);
    assert_eq!(bench.run(), [""; 0], "what the manifest needs is still there");
    assert_eq!(bench.run_with(&other), ["license", "quality", "split"]);
    assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0);
}

#[test]
fn a_torn_line_is_no_damage_at_the_end_of_a_run_s_events_alone() {
    let bench = Bench::ran();
    let events = fs::canonicalize(bench.cache().join("runs/run/latest/events.jsonl")).unwrap();
    let whole = fs::read_to_string(&events).unwrap();
    let (first, rest) = whole.split_once('\n').unwrap();
    fs::write(&events, format!("{}\n{rest}", &first[..first.len() - 9])).unwrap();
    assert_eq!(bench.pipeline(&["cache", "verify"]).code, 4);
    fs::write(&events, &whole[..whole.len() - 9]).unwrap();
    assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0);
}

#[test]
fn what_builds_cost_is_known_when_their_bytes_are_gone() {
    let bench = Bench::ran();
    let other = ["--set", "stages.license.allow=[\"mit\"]"];
    bench.run_with(&other);
    bench.run();
    let plan = |bench: &Bench| bench.json(&[&["plan", "run.toml"], &other[..]].concat())["stages"][2].clone();
    assert_eq!(plan(&bench)["state"], "cached");
    assert_eq!(bench.pipeline(&["cache", "gc", "--keep-size", "1B", "--keep-runs", "1"]).code, 0);
    let license = plan(&bench);
    assert_eq!((&license["name"], &license["state"]), (&"license".into(), &"will-run".into()));
    assert_eq!(license["reasons"][0]["reason"], "removed", "{license}");
    assert_eq!(license["estimate"]["basis"], "settings", "{license}");
}

#[test]
fn what_a_failed_stage_left_goes_when_it_is_asked_for() {
    let bench = Bench::new(&shell("large", "head -c 300000 /dev/zero > {output:files}/out; exit 1", ""));
    assert_eq!(bench.pipeline(&["run", "run.toml"]).code, 1);
    let kept = bench.pipeline(&["cache", "gc"]);
    assert!(kept.code == 0 && kept.stderr.contains("of scratch of stopped and failed stages"), "{}", kept.stderr);
    let left = || bench.json(&["cache", "ls"])["totals"]["scratch"]["bytes"].as_u64().unwrap();
    assert!(left() > 300_000);
    let dry = bench.json(&["cache", "gc", "--scratch", "--dry-run"]);
    assert!(dry["scratch"]["bytes"].as_u64().unwrap() > 300_000 && left() > 300_000);
    assert_eq!(bench.json(&["cache", "gc", "--scratch"]), dry);
    assert_eq!(left(), 0);
}

#[test]
fn whatever_lies_in_the_place_of_the_store_s_own_a_repair_makes_way() {
    let link = |place: &Path, target: &Path| {
        let _ = fs::remove_file(place);
        let _ = fs::remove_dir_all(place);
        symlink(target, place).unwrap();
    };
    let spoilt = [
        "version",
        "leases/.gate",
        "runs/run/1",
        "runs/run/latest",
        "runs/run/.stages",
        "stat/blobs",
        "@record",
        "@tree",
        "@blob",
        "@lock",
    ];
    for name in spoilt {
        for is_loop in [true, false] {
            let bench = Bench::ran();
            let cache = fs::canonicalize(bench.cache()).unwrap();
            let first = |folder: &str| fs::read_dir(cache.join(folder)).unwrap().next().unwrap().unwrap().path();
            let below = |path: PathBuf| fs::read_dir(path).unwrap().next().unwrap().unwrap().path();
            let place = match name {
                "@record" => below(first("records")),
                "@tree" => below(first("trees")),
                "@blob" => below(first("blobs")),
                "@lock" => first("locks"),
                name => cache.join(name),
            };
            let target = if is_loop { place.clone() } else { PathBuf::from("/nonexistent") };
            link(&place, &target);
            let repaired = bench.pipeline(&["cache", "verify", "--repair"]);
            assert_eq!(repaired.code, 0, "{name}, {is_loop}: {}{}", repaired.stdout, repaired.stderr);
            bench.run();
            assert_eq!(bench.pipeline(&["cache", "verify"]).code, 0, "{name}, {is_loop}");
            assert!(bench.plan().values().all(|state| state == "cached"), "{name}, {is_loop}");
            // The link to the latest run is one again.
            let is_right = if name.ends_with("latest") { place.is_dir() } else { !place.is_symlink() };
            assert!(is_right, "{name}, {is_loop}");
        }
    }
}

#[test]
fn what_lies_in_the_place_of_scratch_is_no_hindrance() {
    let bench = Bench::new(&shell("only", "echo 1 > {output:files}/out; [ -e '@PLACE@' ]", ""));
    let go = bench.path().join("go");
    bench.edit("@PLACE@", &go.display().to_string());
    assert_eq!(bench.pipeline(&["run", "run.toml"]).code, 1);
    let work = fs::read_dir(bench.cache().join("work")).unwrap().next().unwrap().unwrap().path();
    for name in ["input_fingerprint", "scratch", "staging"] {
        for is_folder in [true, false] {
            let place = work.join(name);
            let _ = fs::remove_dir_all(&place);
            let _ = fs::remove_file(&place);
            if is_folder {
                fs::create_dir_all(place.join("below")).unwrap()
            } else {
                fs::write(&place, "other").unwrap()
            }
            let again = bench.pipeline(&["run", "run.toml"]);
            assert!(again.code == 1 && again.stderr.contains("exited with status 1"), "{name}: {}", again.stderr);
        }
    }
    fs::write(&go, "").unwrap();
    assert_eq!(bench.run(), ["only"]);
}

#[test]
fn a_version_that_was_lost_or_garbled_is_written_again_and_a_newer_one_is_not() {
    let bench = Bench::ran();
    let version = bench.cache().join("version");
    for text in ["2x\n", "\u{0}", "a store"] {
        fs::write(&version, text).unwrap();
        assert_eq!(bench.run(), [""; 0], "{text:?}");
        assert_eq!(fs::read_to_string(&version).unwrap(), "2\n");
    }
    fs::remove_file(&version).unwrap();
    fs::remove_file(bench.cache().join("CACHEDIR.TAG")).unwrap();
    assert_eq!(bench.run(), [""; 0]);
    fs::write(&version, "3\n").unwrap();
    assert_eq!(bench.pipeline(&["run", "run.toml"]).code, 4);
    assert_eq!(fs::read_to_string(&version).unwrap(), "3\n");
}
