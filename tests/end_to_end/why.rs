//! Why a stage runs, and what it needs against what there is.

use std::fs::{self, File};

use serde_json::json;

use crate::bench::{Bench, DATA, shell, texts};

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
    assert!(text.contains("because license will run") && text.contains("by way of quality"), "{text}");
}

#[test]
fn why_names_the_other_run_that_it_compares_with() {
    let bench = Bench::ran();
    let own = bench.pipeline(&["why", "run.toml", "split", "--set", "stages.split.fraction=0.3"]).stdout;
    assert!(own.contains("compared with its build with key ") && !own.contains("in run '"), "{own}");
    bench.write(
        "run.toml",
        DATA.replace("name = \"run\"", "name = \"other\"").replace("fraction = 0.2", "fraction = 0.3"),
    );
    let other = bench.pipeline(&["why", "run.toml", "split"]).stdout;
    assert!(other.contains(" in run 'run', which took "), "{other}");
    assert_eq!(bench.json(&["why", "run.toml", "split"])["compared_with"]["run"], "run");
}

#[test]
fn why_says_what_stays_when_a_lost_build_gives_its_bytes_again() {
    let bench = Bench::ran();
    let report = bench.cache().join("runs/run/license/report/report.json");
    fs::remove_file(fs::canonicalize(report).unwrap()).unwrap();
    let why = bench.json(&["why", "run.toml", "split"]);
    assert_eq!((&why["state"], texts(&why["causes"], "name")), (&"may-run".into(), vec!["license".to_owned()]));
    assert_eq!(why["cut_off"], json!(["quality", "split"]));
    let said = bench.pipeline(&["why", "run.toml", "license"]).stdout;
    assert!(said.contains("gives what it gave before, these stay as they are: quality, split"), "{said}");
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
    assert_eq!(said.code, 0, "{}", said.stderr);
    let disk = said.stderr.lines().find(|line| line.contains("of disk")).unwrap();
    assert!(disk.contains("stage 'export' needs about 1.0 PiB of disk, there are "), "{disk}");
    let memory = said.stderr.lines().find(|line| line.contains("stage 'train'") && line.contains("of memory")).unwrap();
    assert!(memory.contains("run.toml:") && memory.contains("there are 1.0 MiB (set at run.toml:3:1)"), "{memory}");
    let places = bench.json(&["check", "run.toml"])["problems"].clone();
    let train =
        places.as_array().unwrap().iter().find(|problem| problem["message"].as_str().unwrap().contains("'train'"));
    assert_eq!(train.unwrap()["places"].as_array().unwrap().len(), 2);
}

#[test]
fn patterns_that_are_none_are_told_of_at_their_line() {
    let bench = Bench::new(&shell("copy", "cp {source:a.txt} {output:files}", "files = [\"a.txt\"]"));
    bench.write("a.txt", "text");
    for (files, said) in [("[\"a.txt\", \"[a\"]", "is no pattern"), ("[\"a.txt\", \"\"]", "'files[1]' is empty")] {
        let checked = bench.pipeline(&["check", "run.toml", "--set", &format!("stages.copy.files={files}")]);
        assert!(checked.code == 2 && checked.stderr.contains(said), "{}", checked.stderr);
    }
}
