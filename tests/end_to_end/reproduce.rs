//! A run done again from its lock, and runs compared.

use std::fs;

use serde_json::Value;

use crate::bench::{Bench, DATA, DATA_STAGES, Ran, shell};

const LOCK: &str = "cache/runs/run/latest/run.lock";

/// The verdict on each stage that was asked for, in the lock's order.
fn verdicts(ran: &Ran) -> Vec<(String, String)> {
    let value: Value = serde_json::from_str(&ran.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let stages = value["stages"].as_array().unwrap().iter().filter(|stage| stage["because"] != "not requested");
    stages.map(|stage| (text(&stage["stage"]), text(&stage["verdict"]))).collect()
}

fn first_divergent(ran: &Ran) -> Value {
    serde_json::from_str::<Value>(&ran.stdout).unwrap()["first_divergent"].clone()
}

#[test]
fn a_lock_with_training_and_evaluation_reproduces_as_identical_and_a_checked_run_says_so() {
    let bench = Bench::small();
    let stages = bench.run().len();
    let again = bench.pipeline(&["reproduce", LOCK, "--quiet"]);
    assert_eq!(again.code, 0, "{}\n{}", again.stdout, again.stderr);
    assert_eq!(again.stdout.matches("    identical  ").count(), stages);
    assert!(again.stdout.ends_with(&format!("\n{stages} identical\n")), "{}", again.stdout);
    let checked = bench.pipeline(&["run", "run.toml", "--check", "all", "--quiet"]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    assert_eq!(
        checked.stderr.matches(": identical to the earlier build of key ").count(),
        stages,
        "{}",
        checked.stderr
    );
    assert_eq!(bench.json(&["status"])["not_deterministic"], Value::Array(Vec::new()));
}

#[test]
fn a_checked_stage_is_compared_with_the_build_that_is_used() {
    let bench = Bench::new("");
    let other = bench.path().join("other").display().to_string();
    bench.write("run.toml", shell("fickle", &format!("cat '{other}' > {{output:files}}/out"), ""));
    let check = |text: &str| {
        bench.write("other", text);
        let ran = bench.pipeline(&["run", "run.toml", "--check", "fickle"]);
        (ran.code, ran.stderr.contains("DIFFERENT"), ran.stderr.contains("identical"))
    };
    assert_eq!(check("first"), (0, false, false), "nothing to compare with");
    assert_eq!(check("second"), (3, true, false));
    assert_eq!(check("first"), (0, false, true), "the first is the one that is used");
    assert_eq!(check("second"), (3, true, false));
    assert!(bench.pipeline(&["status"]).stdout.contains("4 builds"), "every build is on record");
}

#[test]
fn a_lock_needs_nothing_of_the_store_or_the_manifest_that_made_it() {
    let bench = Bench::ran();
    let elsewhere = Bench::new("");
    fs::copy(bench.path().join(LOCK), elsewhere.path().join("published.lock")).unwrap();
    drop(bench);
    let again = elsewhere.pipeline(&["reproduce", "published.lock", "--json"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(verdicts(&again), DATA_STAGES.map(|stage| (stage.to_owned(), "identical".to_owned())));
    assert!(!elsewhere.cache().exists());
    let kept = elsewhere.pipeline(&["reproduce", "published.lock", "--keep", "kept", "--quiet"]);
    assert_eq!(kept.code, 0, "{}", kept.stderr);
    assert_eq!(elsewhere.pipeline(&["cache", "verify", "--cache", "kept"]).code, 0);
    let runs = elsewhere.pipeline(&["runs", "--cache", "kept"]).stdout;
    assert!(runs.starts_with("run.1 ") && runs.ends_with(" (latest)\n"), "{runs}");
    assert!(elsewhere.path().join("kept/runs/run/latest/license/documents/rows").is_dir());
    assert_eq!(elsewhere.pipeline(&["reproduce", "published.lock", "--keep", "kept"]).code, 2, "a full folder");
}

#[test]
fn a_changed_setting_differs_and_the_first_divergent_stage_is_named() {
    let bench = Bench::ran();
    let set = ["reproduce", "run", "--set", "stages.license.allow=[\"mit\"]"];
    let differs = bench.pipeline(&[&set[..], &["--quiet"]].concat());
    assert_eq!(differs.code, 3, "{}\n{}", differs.stdout, differs.stderr);
    assert!(differs.stdout.contains("DIFFERENT  license  its settings differ\n"), "{}", differs.stdout);
    assert!(differs.stdout.contains("DIFFERENT  quality  its input 'documents' differs"), "{}", differs.stdout);
    assert!(differs.stdout.ends_with("first difference: license\n"), "{}", differs.stdout);
    let json = bench.pipeline(&[&set[..], &["--json"]].concat());
    assert_eq!((json.code, first_divergent(&json)), (3, "license".into()));
    let expected = ["identical", "identical", "different", "different", "different"];
    assert_eq!(verdicts(&json).into_iter().map(|(_, verdict)| verdict).collect::<Vec<_>>(), expected);
    // A setting that changes no byte is no difference.
    let same =
        ["reproduce", "run", "--set", "stages.license.allow=[\"mit\",\"apache-2.0\",\"bsd-3-clause\",\"lgpl-2.1\"]"];
    assert_eq!(bench.pipeline(&same).code, 0);
}

#[test]
fn one_stage_is_reproduced_alone_or_with_what_it_needs() {
    let bench = Bench::ran();
    let only = bench.pipeline(&["reproduce", "run", "--only", "quality", "--json"]);
    assert_eq!((only.code, verdicts(&only)), (0, vec![("quality".into(), "identical".into())]));
    let until = bench.pipeline(&["reproduce", "run", "--until", "license", "--json"]);
    let stages: Vec<_> = verdicts(&until).into_iter().map(|(stage, _)| stage).collect();
    assert_eq!((until.code, stages), (0, DATA_STAGES[..3].iter().map(ToString::to_string).collect()));
    // What it needs is taken from the store, whole or not at all.
    let documents = bench.cache().join("runs/run/latest/license/report/report.json");
    fs::remove_file(fs::canonicalize(documents).unwrap()).unwrap();
    let missing = bench.pipeline(&["reproduce", "run", "--only", "quality"]);
    assert_eq!(missing.code, 2);
    assert!(
        missing.stderr.contains("locked output of 'license'") && missing.stderr.contains("--until"),
        "{}",
        missing.stderr
    );
    let unknown = bench.pipeline(&["reproduce", "run", "--only", "qualty"]);
    assert_eq!(unknown.code, 2);
}

#[test]
fn a_stage_alone_needs_nothing_but_what_it_read() {
    let bench = Bench::new(
        &("[run]\nname = \"run\"\n".to_owned()
            + &shell("raw", "cat {source:a.txt} > {output:files}/a", "files = [\"a.txt\"]")
            + &shell("copy", "cat {input:up}/a > {output:files}/a", "inputs = { up = \"raw\" }")
            + &shell("last", "tr a-z A-Z < {input:up}/a > {output:files}/a", "inputs = { up = \"copy\" }")),
    );
    bench.write("a.txt", "first");
    bench.run();
    let only = |stage: &str| bench.pipeline(&["reproduce", "run", "--allow-commands", "--only", stage, "--json"]);
    for what in ["changed", "gone"] {
        match what {
            "changed" => drop(bench.write("a.txt", "other")),
            _ => fs::remove_file(bench.path().join("a.txt")).unwrap(),
        }
        for stage in ["copy", "last"] {
            let alone = only(stage);
            assert_eq!(
                (alone.code, verdicts(&alone)),
                (0, vec![(stage.into(), "identical".into())]),
                "{}",
                alone.stderr
            );
        }
    }
    let both = ["reproduce", "run", "--allow-commands", "--only", "copy", "--only", "last", "--keep", "kept", "--json"];
    let both = bench.pipeline(&both);
    assert_eq!(verdicts(&both), [("copy".into(), "identical".into()), ("last".into(), "identical".into())]);
    assert_eq!(bench.pipeline(&["cache", "verify", "--cache", "kept"]).code, 0);
    let events = fs::read_to_string(bench.path().join("kept/runs/run/1/events.jsonl")).unwrap();
    assert_eq!(events.matches("\"stage-finished\"").count(), 2);
}

#[test]
fn a_stage_alone_is_not_served_by_one_above_it_that_has_its_key() {
    let copy = |name: &str, up: &str| {
        shell(name, "cat {input:up}/a > {output:files}/a", &format!("inputs = {{ up = \"{up}\" }}"))
    };
    let raw = shell("raw", "echo first > {output:files}/a", "");
    let bench = Bench::new(&("[run]\nname = \"run\"\n".to_owned() + &raw + &copy("one", "raw") + &copy("two", "one")));
    assert_eq!(bench.run(), ["one", "raw"], "two is served by one");
    let alone = ["reproduce", "run", "--allow-commands", "--only", "two", "--keep", "kept", "--json"];
    let alone = bench.pipeline(&alone);
    assert_eq!((alone.code, verdicts(&alone)), (0, vec![("two".into(), "identical".into())]), "{}", alone.stderr);
    let events = fs::read_to_string(bench.path().join("kept/runs/run/1/events.jsonl")).unwrap();
    assert!(events.contains("\"stage-finished\"") && !events.contains("\"stage-cached\""), "{events}");
}

#[test]
fn sources_that_moved_reproduce_and_sources_that_changed_are_the_cause() {
    let bench = Bench::new(
        "[run]\nname = \"run\"\n[stages.copy]\nkind = \"command\"\nprogram = \"/bin/sh\"\nfiles = [\"data/*.txt\"]\n\
         arguments = [\"-c\", \"cp {source:a.txt} {output:files}/a\"]\n",
    );
    bench.write("data/a.txt", "first");
    bench.run();
    fs::rename(bench.path().join("data"), bench.path().join("moved")).unwrap();
    let place = format!("stages.copy.files=[\"{}/*.txt\"]", bench.path().join("moved").display());
    let again = ["reproduce", "run", "--allow-commands", "--json", "--set", &place];
    let moved = bench.pipeline(&again);
    assert_eq!((moved.code, first_divergent(&moved)), (0, Value::Null), "{}", moved.stderr);
    bench.write("moved/a.txt", "second");
    let changed = bench.pipeline(&again);
    assert_eq!((changed.code, first_divergent(&changed)), (3, "copy".into()), "{}", changed.stderr);
    assert!(changed.stdout.contains("\"cause\": \"sources\""), "{}", changed.stdout);
    let gone = bench.pipeline(&["reproduce", "run", "--allow-commands", "--json"]);
    assert_eq!(gone.code, 1, "{}", gone.stderr);
    assert_eq!(verdicts(&gone), [("copy".to_owned(), "not-attempted".to_owned())]);
}

#[test]
fn programs_of_a_lock_run_only_with_consent_and_are_printed_first() {
    let script = "printf x > {output:files}/a; printf y >> '@PATH@/ran'";
    let bench = Bench::new("");
    let script = script.replace("@PATH@", &bench.path().display().to_string());
    let manifest = shell("raw", &script, "environment = { GREETING = \"hello you\" }") + DATA;
    bench.write("run.toml", manifest);
    bench.run();
    fs::copy(bench.path().join(LOCK), bench.path().join("theirs.lock")).unwrap();
    fs::remove_file(bench.path().join("ran")).unwrap();
    let refused = bench.pipeline(&["reproduce", "theirs.lock"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{}", refused.stderr);
    let listed = format!(
        "note: theirs.lock runs these programs:\n  raw: GREETING='hello you' /bin/sh -c '{}'\n",
        script.replace('\'', r"'\''")
    );
    assert!(refused.stderr.starts_with(&listed), "{}\n{listed}", refused.stderr);
    assert!(refused.stderr.ends_with("hint: if you trust it, pass --allow-commands\n"), "{}", refused.stderr);
    assert!(!bench.path().join("ran").exists(), "it ran");
    // Stages that run no program need no consent.
    let data = bench.pipeline(&["reproduce", "theirs.lock", "--until", "license", "--quiet"]);
    assert_eq!(data.code, 0, "{}", data.stderr);
    assert!(!bench.path().join("ran").exists(), "it ran");
    let allowed = bench.pipeline(&["reproduce", "theirs.lock", "--allow-commands"]);
    assert_eq!(allowed.code, 0, "{}", allowed.stderr);
    assert!(allowed.stderr.starts_with(&listed) && bench.path().join("ran").exists(), "{}", allowed.stderr);
}

#[test]
fn names_in_a_lock_cannot_steer_a_terminal() {
    let bench = Bench::ran();
    let lock = fs::read_to_string(bench.path().join(LOCK)).unwrap();
    for (old, new) in [
        ("name = \"license\"", "name = \"lic\\u001b[2Jense\""),
        ("[stages.outputs.documents]", "[stages.outputs.\"doc\\u001b[2J\"]"),
        ("name = \"run\"", "name = \"r\\u009bun\""),
    ] {
        assert!(lock.contains(old), "{old}");
        bench.write("bad.lock", resealed(&lock.replace(old, new)));
        for command in [&["diff", "run", "bad.lock"][..], &["reproduce", "bad.lock"]] {
            let refused = bench.pipeline(command);
            assert_eq!(refused.code, 2, "{command:?}: {}", refused.stdout);
            assert!(!(refused.stderr + &refused.stdout).contains(|c: char| c.is_control() && c != '\n'), "{command:?}");
        }
    }
}

#[test]
fn a_name_means_its_latest_run_where_a_lock_is_asked_for() {
    let bench = Bench::new(DATA);
    bench.run();
    bench.run_with(&["--until", "license"]);
    let text = bench.pipeline(&["diff", "run.2", "run"]).stdout;
    assert!(text.starts_with("run.2 -> run.1\n"), "{text}");
    let json = bench.pipeline(&["reproduce", "run", "--only", "license", "--json"]);
    assert!(json.stdout.contains("\"number\": 1"), "{}\n{}", json.stdout, json.stderr);
}

/// A lock whose check was made to hold again.
fn resealed(lock: &str) -> String {
    let (_, body) = lock.split_once('\n').unwrap();
    format!("check = \"{}\"\n{body}", contract::Digest::of(body.as_bytes()))
}

#[test]
fn stages_that_are_not_in_the_lock_are_named_and_identical_stages_of_other_settings_too() {
    let bench = Bench::new(DATA);
    bench.run_with(&["--until", "license"]);
    let again = bench.pipeline(&[
        "reproduce",
        "run",
        "--set",
        "stages.license.allow=[\"mit\",\"apache-2.0\",\"bsd-3-clause\",\"lgpl-2.1\"]",
    ]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(again.stdout.contains("identical  license  although its settings differ\n"), "{}", again.stdout);
    assert!(again.stdout.ends_with("3 identical\nnot in the lock: quality, split\n"), "{}", again.stdout);
}

#[test]
fn an_invalid_lock_is_refused_with_its_problem() {
    let bench = Bench::ran();
    let lock = fs::read_to_string(bench.path().join(LOCK)).unwrap();
    let tree = lock.find("tree = \"").unwrap() + "tree = \"".len();
    let other = if lock[tree..].starts_with('0') { "1" } else { "0" };
    let edited = [&lock[..tree], other, &lock[tree + 1..]].concat();
    let quality = lock.find("[[stages]]\nname = \"quality\"").unwrap();
    let split = quality + lock[quality..].find("[[stages]]\nname = \"split\"").unwrap();
    let without = [&lock[..quality], &lock[split..]].concat();
    let twice = [&lock[..split], &lock[quality..]].concat();
    let read = quality + lock[quality..].find("documents = \"").unwrap() + "documents = \"".len();
    let other_input = [&lock[..read], &"0".repeat(64), &lock[read + 64..]].concat();
    for (text, expected) in [
        (String::new(), "the first line is not a check"),
        ("garbage".to_owned(), "the first line is not a check"),
        ("\u{0}\u{1}".to_owned(), "the first line is not a check"),
        (lock[..lock.len() / 2].to_owned(), "its check does not match"),
        (lock.replacen("seconds = ", "seconds = 1", 1), "its check does not match"),
        (resealed(&lock[..lock.len() / 2]), "line "),
        (resealed(&lock.replacen("version = 1", "version = 2\nfuture = 1", 1)), "expected version 1, found 2"),
        (resealed(&lock.replacen("version = 1", "version = 1\nfuture = 1", 1)), "future"),
        (resealed(&edited), "do not match its tree"),
        (resealed(&twice), "stage 'quality' is listed twice"),
        (fs::read_to_string(bench.path().join("run.toml")).unwrap(), "the first line is not a check"),
        // Who only compares two locks does not ask whether one could be run.
        (resealed(&lock.replacen("kind = \"sample\"", "kind = \"simple\"", 1)), "the manifest in bad.lock:"),
        (resealed(&without), "'split' reads quality.documents, which is not in the lock"),
        (resealed(&other_input), "input 'documents' of 'quality' is not the output of license.documents"),
    ] {
        bench.write("bad.lock", &text);
        for command in [&["reproduce", "bad.lock"][..], &["diff", "run", "bad.lock"]] {
            let to_run =
                ["the manifest in", "reads quality", "is not the output"].iter().any(|part| expected.contains(part));
            if command[0] == "diff" && to_run {
                continue;
            }
            let refused = bench.pipeline(command);
            assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{expected}: {command:?}\n{}", refused.stderr);
            assert!(refused.stderr.contains(expected), "{expected}: {command:?}\n{}", refused.stderr);
        }
    }
    // A checkout may end lines in another way.
    bench.write("bad.lock", lock.replace('\n', "\r\n"));
    assert_eq!(bench.pipeline(&["diff", "run", "bad.lock"]).code, 0);
    bench.write("bad.lock", [0xff, 0xfe, 0x00]);
    assert_eq!(bench.pipeline(&["reproduce", "bad.lock"]).code, 2);
    let absent = bench.pipeline(&["reproduce", "rnu"]);
    assert_eq!(absent.code, 2);
    assert!(absent.stderr.contains("hint: did you mean 'run'?"), "{}", absent.stderr);
}

#[test]
fn diff_names_the_changed_setting_and_the_stages() {
    let bench = Bench::ran();
    assert_eq!(bench.pipeline(&["diff", "run.1", LOCK]).stdout, "no difference: equal settings and equal outputs\n");
    bench.edit("\"mit\", ", "");
    bench.run();
    let text = bench.pipeline(&["diff", "run.1", "run"]).stdout;
    let first = "run.1 -> run.2\nstages.license.allow: [\"apache-2.0\",\"bsd-3-clause\",\"mit\"] -> [\"apache-2.0\",\"bsd-3-clause\"]\n";
    assert!(text.starts_with(first), "{text}");
    let json = bench.json(&["diff", "run.1", "run.2"]);
    assert_eq!(json["settings"].as_array().unwrap().len(), 1);
    assert_eq!(json["settings"][0]["path"], "stages.license.allow");
    let stages = json["stages"].as_array().unwrap();
    let names: Vec<_> = stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
    assert_eq!(names, &DATA_STAGES[2..], "{json:#}");
    assert!(names.iter().all(|name| text.contains(&format!("\n{name} "))), "{text}");
    // The synthetic export has no such license: another key, and nothing else.
    bench.run_with(&["--set", "stages.license.allow=[\"apache-2.0\",\"bsd-3-clause\",\"lgpl-2.1\"]"]);
    let text = bench.pipeline(&["diff", "run.2", "run.3"]).stdout;
    assert!(text.starts_with("run.2 -> run.3\n"), "{text}");
    assert!(text.ends_with("\nlicense  different key, same output\n") && text.lines().count() == 3, "{text}");
    assert_eq!(bench.pipeline(&["diff", "run.1", "run.7"]).code, 2);
}
