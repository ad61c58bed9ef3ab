//! A full disk, a store that cannot be written, a clock that jumps, many runs at once, looking that changes nothing.
//!
//! The first two need a file system of their own, mounted in a namespace of the test (`unshare`); where that is not
//! allowed they say so and pass.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::bench::{Bench, DATA, DATA_STAGES, Ran, shell};

/// Runs a shell script, in which `$P` is the program, in the bench's folder and a mount namespace of its own; false, and a
/// printed reason, where that is not allowed.
fn in_namespace(script: &str, bench: &Bench) -> bool {
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", script]).current_dir(bench.path());
        command.env("P", env!("CARGO_BIN_EXE_pipeline")).env_remove("PIPELINE_CACHE").env("NO_COLOR", "1").output()
    };
    match unshare("mount -t tmpfs tmpfs /mnt") {
        Ok(output) if output.status.success() => {
            let output = unshare(script).unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Ok(output) => {
            println!("skipped: no mount in a namespace: {}", String::from_utf8_lossy(&output.stderr).trim());
            false
        }
        Err(error) => {
            println!("skipped: no unshare: {error}");
            false
        }
    }
}

/// What a step of a script said, and how it ended.
fn step(bench: &Bench, name: &str) -> (String, String) {
    let read = |kind: &str| fs::read_to_string(bench.path().join(format!("{name}.{kind}"))).unwrap();
    (read("code").trim().to_owned(), read("out"))
}

#[test]
fn a_full_disk_says_so_and_loses_nothing() {
    // Full at the first file, in the middle, near the end; the last is large enough.
    const SIZES: [u32; 7] = [16, 64, 120, 160, 240, 400, 65_536];
    let bench = Bench::new(DATA);
    let script = |size: u32| {
        format!(
            ": > verify.out; mkdir -p disk && mount -t tmpfs -o size={size}k tmpfs disk
        set +e
        $P run run.toml --cache disk/cache > first.out 2>&1; echo $? > first.code
        mount -o remount,size=64m disk
        echo 0 > verify.code
        [ ! -e disk/cache/version ] || ($P cache verify --cache disk/cache > verify.out 2>&1; echo $? > verify.code)
        $P run run.toml --cache disk/cache > second.out 2>&1; echo $? > second.code
        $P plan run.toml --cache disk/cache > plan.out 2>&1; echo $? > plan.code"
        )
    };
    let mut codes = Vec::new();
    for size in SIZES {
        if !in_namespace(&script(size), &bench) {
            return;
        }
        let (code, said) = step(&bench, "first");
        assert!(code == "0" || said.contains("the disk is full"), "{size}k: {code}: {said}");
        codes.push(code);
        for name in ["verify", "second", "plan"] {
            let (code, said) = step(&bench, name);
            assert_eq!(code, "0", "{size}k, {name}: {said}");
        }
        assert!(step(&bench, "plan").1.contains(&format!("{} cached", DATA_STAGES.len())));
    }
    // A stage cannot write its output (1), or the store cannot take it (4).
    let failed = codes.iter().filter(|code| *code != "0").collect::<BTreeSet<_>>();
    assert_eq!(failed.into_iter().collect::<Vec<_>>(), ["1", "4"], "{codes:?}");
    assert!(codes[0] != "0" && codes[SIZES.len() - 1] == "0", "{codes:?}");
}

#[test]
fn a_store_that_cannot_be_written_can_be_looked_at() {
    let bench = Bench::new(DATA);
    bench.run();
    let script = "mount --bind cache cache
        mount -o remount,bind,ro cache
        set +e
        $P plan run.toml > plan.out 2>&1; echo $? > plan.code
        $P why run.toml split > why.out 2>&1; echo $? > why.code
        $P show run.toml export > show.out 2>&1; echo $? > show.code
        $P cache verify > verify.out 2>&1; echo $? > verify.code
        $P run run.toml > run.out 2>&1; echo $? > run.code
        $P run run.toml --json > json.out 2>/dev/null; echo $? > json.code
        $P run run.toml --set stages.split.fraction=0.3 > stale.out 2>&1; echo $? > stale.code";
    if !in_namespace(script, &bench) {
        return;
    }
    for name in ["plan", "why", "show", "verify"] {
        let (code, said) = step(&bench, name);
        assert_eq!(code, "0", "{name}: {said}");
    }
    let (code, said) = step(&bench, "run");
    assert!(code == "0" && said.contains("warning: the run is not recorded: cannot write "), "{code}: {said}");
    assert!(said.contains("5 cached in "), "{said}");
    let (code, events) = step(&bench, "json");
    assert_eq!((code.as_str(), events.matches("\"stage-cached\"").count()), ("0", DATA_STAGES.len()), "{events}");
    let (code, said) = step(&bench, "stale");
    assert!(code == "4" && said.contains("error: cannot build split: cannot write "), "{code}: {said}");
    assert!(said.contains("choose a directory that you may write to"), "{said}");
    assert_eq!(bench.pipeline(&["runs"]).stdout.lines().count(), 1, "no run was recorded");
}

const COPY: &str = "[run]\nname = \"run\"\n[stages.copy]\nkind = \"command\"\nprogram = \"/bin/cp\"\n\
    arguments = [\"{source:text}\", \"{output:files}\"]\nfiles = [\"text\"]\n";
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[test]
fn times_of_files_change_no_answer() {
    let bench = Bench::new(COPY);
    let set_time = |time: SystemTime| {
        File::options().append(true).open(bench.path().join("text")).unwrap().set_modified(time).unwrap();
    };
    bench.write("text", "first");
    assert_eq!(bench.run(), ["copy"]);
    for time in [SystemTime::now() + YEAR, SystemTime::now() - YEAR, SystemTime::UNIX_EPOCH] {
        set_time(time);
        assert!(bench.run().is_empty(), "the content is what counts");
    }
    // Other bytes of the same length, under a time of the future that stays as it is.
    let future = SystemTime::now() + YEAR;
    set_time(future);
    assert!(bench.run().is_empty());
    bench.write("text", "other");
    set_time(future);
    assert_eq!(bench.run(), ["copy"]);
}

#[test]
fn a_clock_that_jumps_changes_no_answer() {
    let bench = Bench::new(COPY);
    let at = |years: i64, arguments: &[&str]| {
        let skew = (years * i64::try_from(YEAR.as_secs()).unwrap()).to_string();
        let ran = bench.pipeline_with(&[("PIPELINE_CLOCK", &skew)], arguments);
        assert_eq!(ran.code, 0, "{years} years, {arguments:?}: {}", ran.stderr);
        ran
    };
    let ran = |years: i64| at(years, &["run", "run.toml", "--json"]).stages("stage-finished");
    // Builds and runs of the future and of the past, and looks from everywhere.
    let mut texts = vec!["first", "other", "third", "fifth"];
    for years in [1, -1, -80, 0] {
        bench.write("text", texts.pop().unwrap());
        assert_eq!(ran(years), ["copy"]);
        for years in [0, 2, -2, -60] {
            assert_eq!(ran(years), [""; 0]);
            let plan = at(years, &["plan", "run.toml"]);
            assert!(plan.stdout.contains(" cached  copy"), "{}", plan.stdout);
            for looking in
                [&["why", "run.toml", "copy"][..], &["status"], &["runs"], &["cache", "ls"], &["cache", "verify"]]
            {
                at(years, looking);
            }
            // All that is there is what a run gave.
            assert_eq!(at(years, &["cache", "gc", "--keep-size", "1B", "--json"]).stdout.matches("\"key\"").count(), 0);
        }
    }
    for text in ["first", "other", "third", "fifth"] {
        bench.write("text", text);
        assert_eq!(ran(0), [""; 0], "every build is there");
    }
}

/// Every file and link below a folder, with all that `stat` says of it but when it was last read.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stat = path.symlink_metadata().unwrap();
        let times = (stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec());
        if stat.is_dir() {
            found.extend(snapshot(&path));
        }
        found.insert(path, format!("{} {} {:o} {times:?}", stat.ino(), stat.len(), stat.mode()));
    }
    found
}

#[test]
fn looking_changes_nothing() {
    let bench = Bench::new(DATA);
    bench.run();
    bench.edit("fraction = 0.2", "fraction = 0.3");
    // Damage, scratch, a torn line: whatever a run would mend or move.
    let blob = &bench.blobs()[0];
    fs::set_permissions(blob, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(blob, "other").unwrap();
    fs::create_dir_all(bench.cache().join("work").join("0".repeat(64)).join("scratch")).unwrap();
    File::options().append(true).open(bench.cache().join("stat/blobs")).unwrap().write_all(b"torn").unwrap();
    let before = snapshot(bench.path());
    for (looking, code) in [
        (&["plan", "run.toml"][..], 0),
        (&["plan", "run.toml", "--set", "run.seed=2", "--force", "export"], 0),
        (&["why", "run.toml", "split"], 0),
        (&["check", "run.toml"], 0),
        (&["graph", "run.toml"], 0),
        (&["status"], 0),
        (&["runs"], 0),
        (&["sql", "run.toml"], 0),
        (&["show", "run.toml", "sample"], 0),
        (&["replay", "run"], 0),
        (&["logs", "split"], 0),
        (&["cache", "ls"], 0),
        (&["cache", "verify"], 4),
        (&["cache", "gc", "--dry-run"], 0),
    ] {
        let looked = bench.pipeline(looking);
        assert_eq!(looked.code, code, "{looking:?}: {}{}", looked.stdout, looked.stderr);
        assert!(snapshot(bench.path()) == before, "{looking:?}");
    }
}

#[test]
fn ten_runs_at_once_build_each_key_once() {
    let bench = Bench::new(DATA);
    let runs: Vec<_> = (0..10).map(|_| bench.start(&["run", "run.toml", "--json"])).collect();
    let runs: Vec<_> = runs.into_iter().map(|child| Ran::of(child.wait_with_output().unwrap())).collect();
    let mut finished = Vec::new();
    for run in &runs {
        assert_eq!(run.code, 0, "{}", run.stderr);
        finished.extend(run.stages("stage-finished"));
    }
    finished.sort();
    let once: BTreeSet<_> = DATA_STAGES.into_iter().map(str::to_owned).collect();
    assert_eq!(finished, once.into_iter().collect::<Vec<_>>(), "each stage ran in exactly one of the ten");
}

#[test]
fn a_wide_manifest_runs_with_few_open_files() {
    let stage = |number| shell(&format!("s{number:03}"), &format!("echo {number} > {{output:files}}/out"), "");
    let bench = Bench::new(&(0..150).map(stage).collect::<String>());
    let script = format!("ulimit -n 140; exec {} run run.toml --quiet", env!("CARGO_BIN_EXE_pipeline"));
    let done = Command::new("/bin/sh").args(["-c", &script]).current_dir(bench.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(bench.plan().values().filter(|state| *state == "cached").count(), 150);
}
