//! Why a stage runs, and what it needs against what there is.

use std::fs::{self, File};

use serde_json::json;

use crate::bench::{Bench, DATA, shell, texts};
use crate::failures::{program, row};

#[test]
fn why_and_plan_say_in_json_what_their_page_says() {
    let bench = Bench::ran();
    bench.edit("\"bsd-3-clause\"", "\"isc\"");
    let why = bench.json(&["why", "run.toml", "quality"]);
    // Times and digests are those of this run.
    assert!(why["compared_with"]["key"].as_str().is_some_and(|key| key.len() == 64));
    assert!(why["compared_with"]["started_ms"].is_u64() && why["compared_with"]["seconds"].is_f64());
    assert!(why["estimate"]["least"].is_f64() && why["estimate"]["most"].is_f64());
    let cause = why["causes"][0].clone();
    assert!(cause["key"].as_str().is_some_and(|key| key.len() == 64));
    assert_eq!(why["causes"].as_array().map(Vec::len), Some(1));
    let reason = &cause["reasons"][0];
    assert_eq!((&reason["reason"], &reason["setting"]), (&"setting-changed".into(), &"allow".into()));
    assert_eq!((reason["old"].as_array().map(Vec::len), reason["new"].as_array().map(Vec::len)), (Some(3), Some(3)));
    assert!(reason["place"]["line"].is_u64() && reason["place"]["column"].is_u64());
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut expected = [
        "name",
        "kind",
        "key",
        "state",
        "estimate",
        "no_estimate",
        "cost",
        "reasons",
        "causes",
        "compared_with",
        "follows",
        "cut_off",
    ];
    expected.sort_unstable();
    let mut found = keys(&why);
    found.sort();
    assert_eq!(found, expected);
    assert_eq!((&why["state"], &why["key"]), (&"may-run".into(), &serde_json::Value::Null));
    assert_eq!(why["follows"], serde_json::json!(["split"]));
    let plan = bench.json(&["plan", "run.toml"]);
    let planned = plan["stages"].as_array().unwrap().iter().find(|stage| stage["name"] == "license").unwrap();
    assert_eq!(planned["reasons"], cause["reasons"], "one type for both");
}

#[test]
fn why_names_the_causes_above_a_stage_that_has_reasons_of_its_own() {
    let bench = Bench::ran();
    bench.edit("\"bsd-3-clause\"", "\"isc\"");
    bench.edit("fraction = 0.2", "fraction = 0.3");
    let why = bench.json(&["why", "run.toml", "split"]);
    assert_eq!((&why["state"], &why["reasons"][0]["setting"]), (&"will-run".into(), &"fraction".into()));
    assert_eq!(texts(&why["causes"], "name"), ["license"]);
    let text = bench.pipeline(&["why", "run.toml", "split"]).stdout;
    assert!(text.contains("because license will run") && text.contains("through quality"), "{text}");
}

#[test]
fn why_names_the_other_run_that_it_compares_with() {
    let bench = Bench::ran();
    let own = bench.pipeline(&["why", "run.toml", "split", "--set", "stages.split.fraction=0.3"]).stdout;
    assert!(own.contains("since run.1: fraction: 0.2 -> 0.3") && own.contains("compared with run.1 (key "), "{own}");
    bench.write(
        "run.toml",
        DATA.replace("name = \"run\"", "name = \"other\"").replace("fraction = 0.2", "fraction = 0.3"),
    );
    let other = bench.pipeline(&["why", "run.toml", "split"]).stdout;
    assert!(other.contains("never built (closest build: run.1, differs in fraction: 0.2 -> 0.3)"), "{other}");
    assert!(other.contains("compared with run.1 (key ") && other.contains(", which took "), "{other}");
    let json = bench.json(&["why", "run.toml", "split"]);
    assert_eq!((&json["compared_with"]["run"], &json["compared_with"]["number"]), (&"run".into(), &1.into()));
    let reason = &json["reasons"][0];
    assert_eq!((&reason["reason"], &reason["closest"]["run"]), (&"never-built".into(), &"run".into()));
    assert_eq!(reason["differences"][0]["old"], 0.2);
}

#[test]
fn reason_and_difference_compare_with_the_same_build_and_name_it() {
    let bench = Bench::ran();
    let run = |set: &str| {
        let ran = bench.pipeline(&["run", "run.toml", "--until", "quality", "--set", set]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let of_quality =
            |verb: &&str| ran.stderr.lines().find(|line| line.starts_with(verb) && line.contains(" quality "));
        ["     run", "    done"].map(|verb| of_quality(&verb).unwrap().to_owned())
    };
    let rows = |set: &[&str]| {
        let shown = bench.json(&[&["show", "run.toml", "quality"], set].concat());
        shown["outputs"]["documents"]["table"]["rows"].as_u64().unwrap()
    };
    // The second run differs from the first in one setting, the third from the first in one and from the second in two.
    let (second, third) = ("stages.quality.alpha_fraction={threshold=0.6}", "stages.quality.line_max={threshold=80}");
    run(second);
    let plan = bench.json(&["plan", "run.toml", "--set", third]);
    let planned = plan["stages"].as_array().unwrap().iter().find(|stage| stage["name"] == "quality").unwrap();
    assert_eq!(planned["compared_with"]["number"], 1, "{planned}");
    let [reason, difference] = run(third);
    assert!(reason.contains("since run.1: line_max.threshold: 1000 (default) -> 80"), "{reason}");
    let (all, last, now) = (rows(&[]), rows(&["--set", second]), rows(&["--set", third]));
    assert!(last < now && now < all, "{last} {now} {all}");
    assert!(difference.contains(&format!("; since run.1: documents: {} rows fewer", all - now)), "{difference}");
    // Of builds that differ in equally many places it is the last one.
    let why = bench.pipeline(&["why", "run.toml", "quality", "--set", "stages.quality.line_max={threshold=81}"]).stdout;
    assert!(why.contains("since run.3: line_max.threshold: 80 -> 81"), "{why}");
    assert!(why.contains("compared with run.3 (key "), "{why}");
    let logs = bench.pipeline(&["logs", "run.3", "quality"]).stdout;
    assert!(logs.contains("because: since run.1: line_max") && logs.contains("since run.1: documents: "), "{logs}");
}

#[test]
fn what_follows_is_in_the_order_of_the_graph() {
    let bench = Bench::small();
    let stages = texts(&bench.json(&["plan", "run.toml"])["stages"], "name");
    let after = stages.iter().position(|stage| stage == "split").unwrap() + 1;
    assert_eq!(bench.json(&["why", "run.toml", "split"])["follows"], json!(stages[after..]));
    let mut sorted = stages[after..].to_vec();
    sorted.sort();
    assert_ne!(sorted, stages[after..], "the names tell the orders apart");
}

#[test]
fn a_default_is_shown_with_its_value() {
    let bench = Bench::new(&DATA.replace("fraction = 0.2", "fraction = 0.2\n[stages.words]\nkind = \"tokenizer\"\ninputs = { documents = \"split.train\" }\nvocabulary = 300"));
    bench.run();
    bench.edit("vocabulary = 300\n", "");
    let shown = "vocabulary: 300 -> 32768 (default)";
    for command in [&["plan", "run.toml"][..], &["why", "run.toml", "words"]] {
        let text = bench.pipeline(command).stdout;
        assert!(text.contains(shown), "{command:?}: {text}");
    }
    let why = bench.json(&["why", "run.toml", "words"]);
    let reason = &why["reasons"][0];
    assert_eq!((&reason["old"], &reason["new"]), (&json!(300), &json!(32768)));
    assert_eq!((&reason["old_is_default"], &reason["new_is_default"]), (&json!(false), &json!(true)));
    let ran = bench.pipeline(&["run", "run.toml"]);
    assert!(ran.code == 0 && ran.stderr.contains(shown), "{}", ran.stderr);
    let diff = bench.pipeline(&["diff", "run.1", "run.2"]).stdout;
    assert!(diff.starts_with("run.1 -> run.2\nstages.words.vocabulary: 300 -> 32768 (default)\n"), "{diff}");
    let diff = bench.json(&["diff", "run.2", "run.1"]);
    assert_eq!((&diff["settings"][0]["old"], &diff["settings"][0]["old_is_default"]), (&json!(32768), &json!(true)));
    let page = fs::read_to_string(bench.cache().join("runs/run/latest/report.html")).unwrap();
    assert!(page.contains("vocabulary: 300 -&gt; 32768 (default)"), "{page}");
}

#[test]
fn builds_that_read_much_less_give_no_estimate() {
    let import = |folder: &str| {
        format!("[run]\nname = \"{folder}\"\n[stages.export]\nkind = \"import\"\nsource = \"{folder}/*.json\"\n")
    };
    let bench = Bench::new(&import("small"));
    let rows = |count: usize| {
        (0..count).map(|number| row(&format!("{number}.py"), &program(number))).collect::<Vec<_>>().join("\n")
    };
    bench.write("small/a.json", rows(5)).write("twice/a.json", rows(10)).write("large/a.json", rows(100));
    bench.run();
    let plan = |folder: &str| {
        bench.write("run.toml", import(folder));
        bench.json(&["plan", "run.toml"])["stages"][0].clone()
    };
    let twice = plan("twice");
    assert_eq!(twice["estimate"]["builds"], 1, "{twice}");
    assert!(twice["no_estimate"].is_null(), "{twice}");
    let large = plan("large");
    assert!(large["estimate"].is_null(), "{large}");
    let size = |path: &str| fs::metadata(bench.path().join(path)).unwrap().len();
    let ratio = size("twice/a.json") as f64 / size("small/a.json") as f64;
    assert!((twice["estimate"]["scaled"].as_f64().unwrap() / ratio - 1.0).abs() < 1e-9, "{twice}");
    let none = json!({ "why": "other-size", "then": size("small/a.json"), "now": size("large/a.json") });
    assert_eq!(large["no_estimate"], none);
    let text = bench.pipeline(&["plan", "run.toml"]).stdout;
    assert!(text.contains("no estimate: earlier builds of kind import read ") && !text.contains("took "), "{text}");
    assert!(
        text.contains("will run  export  never built (closest build: small.1, differs in source files: 1 changed)"),
        "{text}"
    );
}

#[test]
fn why_says_what_stays_when_a_lost_build_gives_its_bytes_again() {
    let bench = Bench::ran();
    let report = bench.cache().join("runs/run/latest/license/report/report.json");
    fs::remove_file(fs::canonicalize(report).unwrap()).unwrap();
    let why = bench.json(&["why", "run.toml", "split"]);
    assert_eq!((&why["state"], texts(&why["causes"], "name")), (&"may-run".into(), vec!["license".to_owned()]));
    assert_eq!(why["cut_off"], json!(["quality", "split"]));
    // What is rebuilt for the same input is as large as it was, so the times of the stages downstream count as they are.
    let plan = bench.json(&["plan", "run.toml"]);
    for stage in &plan["stages"].as_array().unwrap()[2..] {
        let estimate = &stage["estimate"];
        assert_eq!((&estimate["builds"], &estimate["scaled"]), (&json!(1), &json!(1.0)), "{stage}");
    }
    let said = bench.pipeline(&["why", "run.toml", "license"]).stdout;
    assert!(said.contains("are the same as before, these stay cached: quality, split"), "{said}");
    assert_eq!(bench.run(), ["license"]);
    // Of another setting nothing is known.
    let changed = ["why", "run.toml", "split", "--set", "stages.license.allow=[\"mit\"]"];
    assert_eq!(bench.json(&changed)["cut_off"], json!([]));
}

#[test]
fn a_device_that_is_not_there_is_missed_by_what_needs_it_alone() {
    let bench = Bench::small();
    bench.run();
    let absent = ["--device", "cuda:63"];
    assert_eq!(bench.run_with(&absent), [""; 0], "what is cached needs none");
    let longer = [&["run", "run.toml", "--set", "stages.train.steps=21"], &absent[..]].concat();
    let refused = bench.pipeline(&longer);
    assert!(refused.code == 2 && refused.stderr.contains("--device cpu"), "{}", refused.stderr);
    bench.write("new.toml", DATA.replace("name = \"run\"", "name = \"new\""));
    assert_eq!(bench.pipeline(&[&["run", "new.toml"], &absent[..]].concat()).code, 0, "no stage of it needs one");
}

#[test]
fn memory_and_disk_are_told_of_before_they_are_missed_with_both_lines() {
    let bench = Bench::small();
    // No disk holds them, and nothing of them is written: check must not read them either.
    for number in 0..128 {
        bench.write(&format!("big/{number}.json"), "");
        let file = File::options().write(true).open(bench.path().join(format!("big/{number}.json"))).unwrap();
        file.set_len(8 << 40).unwrap();
    }
    bench.edit("[run]", "[exec]\nmemory = \"1MiB\"\n[run]");
    bench.edit("input = \"sample\"", "source = \"big/*.json\"");
    let said = bench.pipeline(&["check", "run.toml"]);
    assert_eq!(said.code, 2, "{}", said.stderr);
    let disk = said.stderr.lines().find(|line| line.contains("of disk")).unwrap();
    assert!(
        disk.contains("warning: ") && disk.contains("stage 'export' needs about 1.0 PiB of disk, but only "),
        "{disk}"
    );
    let memory = said.stderr.lines().find(|line| line.contains("stage 'train'") && line.contains("of memory")).unwrap();
    assert!(
        memory.contains("run.toml:") && memory.contains("only 1.0 MiB is available (set at run.toml:3:1)"),
        "{memory}"
    );
    let places = bench.json(&["check", "run.toml", "--allow-oversize"])["problems"].clone();
    let train =
        places.as_array().unwrap().iter().find(|problem| problem["message"].as_str().unwrap().contains("'train'"));
    assert_eq!(train.unwrap()["places"].as_array().unwrap().len(), 2);
}

#[test]
fn patterns_that_are_none_are_told_of_at_their_line() {
    let bench = Bench::new(&shell("copy", "cp {source:a.txt} {output:files}", "files = [\"a.txt\"]"));
    bench.write("a.txt", "text");
    for (files, said) in
        [("[\"a.txt\", \"[a\"]", "is not a valid glob pattern"), ("[\"a.txt\", \"\"]", "'files[1]' is empty")]
    {
        let checked = bench.pipeline(&["check", "run.toml", "--set", &format!("stages.copy.files={files}")]);
        assert!(checked.code == 2 && checked.stderr.contains(said), "{}", checked.stderr);
    }
}
